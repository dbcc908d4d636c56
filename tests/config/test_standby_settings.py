"""[networks.multiplexes.standby]: what it takes over from the main, and what cannot be meant."""

from typing import Any

import pytest

from config.errors import SettingsError
from config.load import from_mapping


def settings_with(*multiplexes: dict[str, Any]) -> dict[str, Any]:
    return {
        "mqtt": {"host": "localhost"},
        "keys": {"passphrase_file": "/etc/cad/passphrase"},
        "ca": {"ca_system_id": 0x4A75},
        "networks": [{"id": "south", "multiplexes": list(multiplexes)}],
    }


def multiplex(name: str = "south-1", host: str = "192.0.2.10", **more: Any) -> dict[str, Any]:
    return {"id": name, "host": host, "port": 4100, **more}


def refused(*multiplexes: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        from_mapping(settings_with(*multiplexes))
    return str(caught.value)


def test_what_it_does_not_name_is_as_on_the_main() -> None:
    main = multiplex(transport="udp", udp_port=4101, data_id=7, standby={"host": "192.0.2.12"})
    (one,) = from_mapping(settings_with(main)).networks[0].multiplexes
    other = one.at_standby
    assert other is not None
    assert (other.host, other.port, other.udp_port, other.data_id) == ("192.0.2.12", 4100, 4101, 7)
    assert other.standby is None
    assert one.standby is not None
    assert (one.standby.takeover_s, one.standby.return_after_s) == (10, 0)


@pytest.mark.parametrize(
    ("standby", "said"),
    [
        ({"host": "192.0.2.10"}, "standby is the main multiplexer itself"),
        ({"host": "192.0.2.12", "udp_port": 4101}, 'standby.udp_port goes with transport = "udp"'),
        ({"host": "192.0.2.12", "takeover_s": 2}, "must not be less than answer_timeout_s"),
        ({"host": "192.0.2.12", "return_after": 2}, "return_after_s"),
    ],
)
def test_what_cannot_be_meant_is_refused(standby: dict[str, Any], said: str) -> None:
    assert said in refused(multiplex(standby=standby))


def test_a_standby_that_would_meet_another_stream_with_its_ids_is_refused() -> None:
    crossed = multiplex(standby={"host": "192.0.2.11"}), multiplex("south-2", "192.0.2.11")
    assert "used twice" in refused(*crossed)
    apart = {"data_channel_id": 2, "data_id": 2}
    from_mapping(settings_with(crossed[0], crossed[1] | apart))
