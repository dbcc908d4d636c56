"""Properties packed by hand are what paho reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cad.orders.mqtt_properties import PublishProperties

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=300)


@given(texts, st.lists(st.tuples(texts, texts), max_size=6), st.none() | st.binary(max_size=400))
def test_what_is_packed_is_what_paho_reads(
    content_type: str, pairs: list[tuple[str, str]], correlation: bytes | None
) -> None:
    packed = PublishProperties(content_type, pairs, correlation).pack()
    read = Properties(PacketTypes.PUBLISH)
    _, length = read.unpack(packed)
    assert length == len(packed)
    assert read.PayloadFormatIndicator == 1
    assert read.ContentType == content_type
    assert getattr(read, "UserProperty", []) == pairs
    assert getattr(read, "CorrelationData", None) == correlation


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="65535"):
        PublishProperties("x" * 70_000).pack()
