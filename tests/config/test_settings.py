"""Settings: every value has its limits, everything wrong is said at once, with TOML path, line and what to do."""

import contextlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from config import crosscheck
from config.errors import SettingsError
from config.fields import listen_address
from config.load import FILE_BYTES_MAX, from_mapping, load, loads
from config.outlets import StreamSettings
from config.settings import OperatorSettings, Settings
from protocol import card_number

EXAMPLE = Path("config/cad.example.toml")
SMALL = """
[mqtt]
host = "localhost"
[keys]
passphrase_file = "/etc/cad/passphrase"
[ca]
ca_system_id = 0x4A75
[[networks]]
id = "south"
"""


def problems(text: str) -> dict[str, str]:
    """Return what is wrong, by TOML path."""
    with pytest.raises(SettingsError) as caught:
        loads(text.encode())
    return {problem.where: problem.text for problem in caught.value.problems}


def changed(find: str, put: str) -> str:
    """Return the example with one thing replaced."""
    text = EXAMPLE.read_text()
    assert find in text
    return text.replace(find, put, 1)


def test_the_example_can_be_used_as_it_stands() -> None:
    example = load(EXAMPLE)
    assert crosscheck.problems(example) == []
    assert crosscheck.remarks(example) == []
    assert [mux.id for mux in example.networks[0].multiplexes] == ["south-1", "south-2"]
    assert example.mqtt.port == 8883
    assert example.mqtt.client_id == "cad-headend-1"
    assert example.networks[0].multiplexes[1].client_id == 0x4A750000


def keys_of(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def tables(model: type[BaseModel]) -> list[type[BaseModel]]:
    found = [model]
    for field in model.model_fields.values():
        for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
            if isinstance(part, type) and issubclass(part, BaseModel):
                found += tables(part)
    return found


def test_every_key_stands_in_the_example_at_least_as_a_comment() -> None:
    text = EXAMPLE.read_text()
    for table in tables(Settings):
        for key in keys_of(table):
            assert re.search(rf"^(# )?{key} = |^\[+([a-z]+\.)*{key}\]+", text, re.MULTILINE), f"{table.__name__}.{key}"


def test_the_commented_lines_of_the_example_show_the_defaults() -> None:
    example = load(EXAMPLE)
    shown = dict(re.findall(r"^# (port|client_id) = (\S+)", EXAMPLE.read_text(), re.MULTILINE))
    assert shown["port"] == str(example.mqtt.port)
    assert int(shown["client_id"], 0) == example.networks[0].multiplexes[0].client_id


def test_what_is_not_named_gets_its_default() -> None:
    small = loads(SMALL.encode())
    defaults = tomllib.loads(EXAMPLE.read_text())
    assert small.calendar.model_dump() == defaults["calendar"]
    assert small.carousel.model_dump() == defaults["carousel"]
    assert small.node.model_dump(mode="json") == defaults["node"]
    assert small.mqtt.port == 1883
    assert (small.mqtt.keepalive_s, small.mqtt.session_expiry_s, small.mqtt.linger_ms) == (30, 604_800, 5)


def test_a_key_that_looks_like_a_number_is_an_unknown_key() -> None:
    assert set(problems(SMALL + '[node]\n"\u00b9" = 1\n"7" = 2\n')) == {"node.\u00b9", "node.7"}


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        loads(SMALL.encode()).node.name = "other"  # type: ignore[misc]


def test_everything_wrong_is_said_at_once_with_path_and_line() -> None:
    text = (
        EXAMPLE.read_text()
        .replace("state_dir =", "statedir =")
        .replace('format = "json"', 'format = "xml"')
        .replace("period_days = 5 ", 'period_days = "5" ')
        .replace("port = 4100                             # CHANGE", "port = 70000")
        .replace('["sport-1", "movies"]', '["sport-1", "movie"]')
    )
    with pytest.raises(SettingsError) as caught:
        loads(text.encode(), "cad.toml")
    lines = {problem.where: problem.line for problem in caught.value.problems}
    found = {problem.where: problem.text for problem in caught.value.problems}
    source = text.splitlines()
    assert found["node.statedir"] == "unknown key; did you mean 'state_dir'?"
    assert found["log.format"] == "should be 'json' or 'console'"
    assert found["calendar.period_days"] == "should be a valid integer"
    assert found["networks.0.multiplexes.0.port"] == "should be less than or equal to 65535"
    assert len(found) == 4  # the reference to 'movie' comes once the missing port is there again
    for where, line in lines.items():
        assert line is not None
        assert source[line - 1].startswith(where.rpartition(".")[2])
    assert str(caught.value).startswith("cad.toml cannot be used:\n  line ")


def test_one_mistyped_key_does_not_hide_what_does_not_fit_together() -> None:
    text = changed("period_days", "period_day").replace('["sport-1", "movies"]', '["sport-1", "movie"]')
    assert problems(text) == {
        "calendar.period_day": "unknown key; did you mean 'period_days'?",
        "networks.0.products.1.services.1": "unknown service 'movie'; did you mean 'movies'?",
    }


@pytest.mark.parametrize(
    ("find", "put", "where", "words"),
    [
        ("ca_system_id = 0x4A75 ", "# ", "ca.ca_system_id", "is missing"),
        ("ca_system_id = 0x4A75", "ca_system_id = 0", "ca.ca_system_id", "greater than or equal to 1"),
        ('card_aid = "F0434144454D4D01"', 'card_aid = "F0"', "ca.card_aid", "5 to 16 bytes, here are 1"),
        ('card_aid = "F0434144454D4D01"', 'card_aid = "xyz"', "ca.card_aid", "not hexadecimal"),
        ('"/var/lib/cad"', '"lib/cad"', "node.state_dir", "write an absolute path"),
        ('"/run/cad/cad.sock"', f'"/run/{"x" * 110}"', "node.socket", "at most 107 bytes"),
        ('"127.0.0.1:9464"', '"9464"', "node.http_listen", "write host:port"),
        ('name = "headend-1"', 'name = "Headend 1"', "node.name", "short name of a-z, 0-9 and '-'"),
        ("overlap_periods = 1", "overlap_periods = 6", "calendar", "must be less than epoch_periods"),
        ("first_hour_repeat_s = 60", "first_hour_repeat_s = 3000", "carousel", "must hold"),
        ("new_share = 0.8", "new_share = 1.0", "carousel.new_share", "less than or equal to 0.95"),
        ("new_share = 0.8", "new_share = nan", "carousel.new_share", "finite number"),
        ('credential = "', 'passphrase = "', "keys.passphrase", "secrets are never written into this file"),
        ('credential = "master-passphrase"', "", "keys", "either passphrase_file, or credential"),
        ("# passphrase_file =", "passphrase_file =", "keys", "either passphrase_file, or credential"),
        ('credential = "master-passphrase"', 'credential = "../x"', "keys.credential", "match"),
        ("# password_file =", "password_file =", "mqtt", "no effect without username"),
        ('cert_file = "', '# cert_file = "', "mqtt.tls", "write both or neither"),
        ('transport = "tcp"', 'transport = "udp"', "networks.0.multiplexes.0", "udp_port goes with"),
        ("# emm_pid =", "emm_pid =", "networks.0.multiplexes.0", "emm_pid goes with"),
        ("bandwidth_kbps = 100 ", "bandwidth_kbps = 0 ", "networks.0.multiplexes.0.bandwidth_kbps", "greater"),
        ('id = "south-2"', 'id = "south-1"', "networks.0.multiplexes.1.id", "'south-1' is used twice"),
        ('id = "iptv-south-1"', 'id = "south-1"', "networks.1.streams.0.id", "'south-1' is used twice"),
        ('"239.192.10.1"', '"224.0.0.5"', "networks.1.streams.0.host", "no stream can be sent there"),
        ('"239.192.10.1"', '"0.0.0.0"', "networks.1.streams.0.host", "no stream can be sent there"),
        ("\nemm_pid = 0x01F0  ", "\nemm_pid = 0x0001  ", "networks.1.streams.0.emm_pid", "greater than or equal to 16"),
        ("# stream_kbps = 122", "stream_kbps = 115", "networks.1.streams.0", "at least 116"),
        ("multicast_ttl", "multicast_tll", "networks.1.streams.0.multicast_tll", "did you mean 'multicast_ttl'?"),
        ('"192.0.2.11"', '"192.0.2.10"', "networks.0.multiplexes.1.data_channel_id", "used twice"),
        ("product_id = 2", "product_id = 1", "networks.0.products.1.product_id", "1 is used twice"),
        ('id = "movies"', 'id = "sport-1"', "networks.0.services.1.id", "used twice"),
        ("service_id = 102", "service_id = 101", "networks.0.services.1.service_id", "used twice"),
        ('services = ["sport-1"]', "services = []", "networks.0.products.0.services", "at least 1 item"),
        ('services = ["sport-1"]', 'services = ["sport-1", "sport-1"]', "networks.0.products.0.services.1", "twice"),
        ('network = "cable-south"', 'network = "cable"', "operators.0.network", "did you mean 'cable-south'?"),
        ('products = ["sport", ', 'products = ["spor", ', "operators.0.products.0", "did you mean 'sport'?"),
        ('id = "south-telco"', 'id = "north-telco"', "operators.1.id", "used twice"),
        ('"Europe/Helsinki"', '"Europe/Helsingfors"', "operators.0.time_zone", "unknown time zone"),
        ('"Europe/Helsinki"', '"../../etc/passwd"', "operators.0.time_zone", "unknown time zone"),
        ('"0000 0000 1008"', '"0000 0000 1009"', "operators.0.card_ranges.0.first", "check digit is wrong"),
        ('"0000 0000 1008"', "1008", "operators.0.card_ranges.0.first", "between quotes"),
        ('"0000 0000 1008"', '"0000 0002 0008"', "operators.0.card_ranges.0", "first must not be greater than last"),
        (
            '"0000 0002 0008"',
            '"0000 0001 9992"',
            "operators.1.card_ranges.0",
            "lies in a range of operator north-telco",
        ),
    ],
)
def test_one_thing_wrong(find: str, put: str, where: str, words: str) -> None:
    found = problems(changed(find, put))
    assert where in found
    assert words in found[where]


def test_a_range_inside_a_larger_one_is_found_whatever_lies_between() -> None:
    text = EXAMPLE.read_text().replace('last = "0000 0001 9992"', f'last = "{card_number.spell(5000)}"')
    for first in (3000, 4000):
        ends = card_number.spell(first), card_number.spell(first + 9)
        text += '[[operators.card_ranges]]\nfirst = "{}"\nlast = "{}"\n'.format(*ends)
    assert sorted(problems(text)) == [f"operators.1.card_ranges.{number}" for number in range(3)]


def test_more_products_on_a_service_than_an_ecm_holds_are_refused() -> None:
    text = EXAMPLE.read_text()
    for number in range(4, 15):
        text += f'[[networks.products]]\nid = "p{number}"\nproduct_id = {number}\nservices = ["news-ip"]\n'
    moved = tomllib.loads(text)
    found = {}
    with pytest.raises(SettingsError) as caught:
        from_mapping(moved)
    found = {problem.where: problem.text for problem in caught.value.problems}
    assert "news-ip is in 12 products; an ECM has room for 11" in found["networks.1.services.0"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"a = ", "not TOML"),
        (b"a = " + b"[" * 20_000, "nested too deeply"),
        (b"a = 1" + b"0" * 5000, "not TOML"),
        (b"#" * (FILE_BYTES_MAX + 1), "larger than"),
        (b"networks = 3", "must be an array"),
        (b"mqtt = 3", "must be a table"),
    ],
)
def test_what_is_no_settings_file_at_all(data: bytes, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        loads(data)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml cannot be used:\n  cannot be read: No such file"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(SettingsError, match="Is a directory"):
        load(tmp_path)


def test_two_streams_to_one_place_would_be_mixed() -> None:
    stream = '[[networks.streams]]\nid = "{}"\nhost = "239.192.10.1"\nport = 5000\n'
    text = EXAMPLE.read_text() + stream.format("more")
    assert problems(text) == {
        "networks.1.streams.1.port": "('239.192.10.1', 5000) is used twice in (host, port) of streams:"
        " first at networks.1.streams.0"
    }


def test_the_rate_of_a_whole_stream_follows_that_of_its_emms() -> None:
    example = load(EXAMPLE).networks[1].streams[0]
    shown = re.search(r"^# stream_kbps = (\d+)", EXAMPLE.read_text(), re.MULTILINE)
    assert shown is not None
    assert example.stream_kbps == int(shown[1])
    more = StreamSettings.model_validate({"id": "s", "host": "239.1.1.1", "port": 1, "bandwidth_kbps": 10_000})
    assert more.stream_kbps == 10_517
    assert {outlet.id for network in load(EXAMPLE).networks for outlet in network.outlets} == {
        "south-1",
        "south-2",
        "iptv-south-1",
    }


def test_remarks_name_what_is_legal_but_odd() -> None:
    text = SMALL.replace("localhost", "broker.example.net") + '[node]\nhttp_listen = "0.0.0.0:9464"\n'
    text += '[[networks.multiplexes]]\nid = "m"\nhost = "h"\nport = 1\nclient_id = 7\n[[networks]]\nid = "empty"\n'
    text += '[[networks.streams]]\nid = "s"\nhost = "h"\nport = 5001\nprotocol = "rtp"\n[[networks]]\nid = "void"\n'
    text += '[[operators]]\nid = "o"\nnetwork = "south"\n'
    remarks = {remark.where: remark.text for remark in crosscheck.remarks(loads(text.encode()))}
    assert set(remarks) == {
        "mqtt",
        "node.http_listen",
        "networks.0.multiplexes.0.client_id",
        "networks.1.streams.0.port",
        "networks.2",
        "operators.0",
    }
    assert crosscheck.remarks(loads(SMALL.replace("localhost", "127.0.0.1").encode()))[0].where == "networks.0"


def test_no_value_of_the_file_comes_back_in_an_error() -> None:
    text = SMALL + '[log]\nlevel = "geheim"\nformat = 5\n[node]\npassword = "geheim"\nstate_dir = "geheim"\n'
    with pytest.raises(SettingsError) as caught:
        loads(text.encode())
    assert len(caught.value.problems) == 4
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:1", ("::1", 1)), (":1", None), ("h:", None), ("h:99999", None)],
)
def test_listen_addresses(text: str, address: tuple[str, int] | None) -> None:
    assert listen_address(text) == address


def test_card_ranges_hold_addresses() -> None:
    operator = OperatorSettings.model_validate(
        {"id": "o", "network": "n", "card_ranges": [{"first": "0000-0000-1008", "last": "000000019992"}]}
    )
    assert (operator.card_ranges[0].first, operator.card_ranges[0].last) == (100, 1999)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_our_own_error(data: bytes) -> None:
    with pytest.raises(SettingsError):
        loads(data)


PARTS = EXAMPLE.read_text().splitlines(keepends=True)


@pytest.mark.slow
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(PARTS) - 1), st.text(max_size=20)), min_size=1, max_size=4))
def test_a_damaged_example_gives_settings_or_our_own_error(damage: list[tuple[int, str]]) -> None:
    parts = list(PARTS)
    for line, text in damage:
        parts[line] = text + "\n" if len(text) % 2 else parts[line].partition("=")[0] + "= " + text + "\n"
    with contextlib.suppress(SettingsError):
        assert isinstance(loads("".join(parts).encode(errors="replace")), Settings)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_value_at_any_place_gives_settings_or_our_own_error(data: st.DataObject) -> None:
    raw: Any = tomllib.loads(EXAMPLE.read_text())
    place = raw
    while True:
        step = data.draw(
            st.sampled_from(sorted(place)) if isinstance(place, dict) else st.sampled_from(range(len(place)))
        )
        if not isinstance(place[step], dict | list) or not place[step] or data.draw(st.booleans()):
            place[step] = data.draw(VALUES)
            break
        place = place[step]
    with contextlib.suppress(SettingsError):
        assert isinstance(from_mapping(raw), Settings)
