"""[ecmg]: defaults, limits, and what must fit together with the other tables."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from config import crosscheck
from config.errors import SettingsError
from config.load import from_mapping, load
from config.settings import Settings

EXAMPLE = Path("config/cad.example.toml")


def raw(**ecmg: Any) -> dict[str, Any]:
    """The example with these keys of [ecmg] instead."""
    example = tomllib.loads(EXAMPLE.read_text())
    example["ecmg"] |= ecmg
    return example


def problems(settings: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        from_mapping(settings)
    return {problem.where: problem.text for problem in caught.value.problems}


def ecmg(settings: Settings) -> Any:
    assert settings.ecmg is not None
    return settings.ecmg


def test_without_the_table_nothing_listens() -> None:
    example = raw()
    del example["ecmg"]
    assert from_mapping(example).ecmg is None


def test_the_example_shows_the_defaults() -> None:
    shown = ecmg(load(EXAMPLE))
    least = ecmg(from_mapping(raw() | {"ecmg": {"listen": "127.0.0.1:2222"}}))
    assert least.model_dump(exclude={"listen", "clients"}) == shown.model_dump(exclude={"listen", "clients"})
    assert shown.super_cas_id == 0x4A750000
    assert [client.connections_max for client in shown.clients] == [8]
    for key in ("super_cas_id", "super_cas_ids"):
        found = re.search(rf"^# {key} = \[?(0x[0-9A-F]+)\]?", EXAMPLE.read_text(), re.MULTILINE)
        assert found is not None
        assert int(found[1], 0) == shown.super_cas_id


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"listen": ""}, "ecmg.listen", "at least 1 character"),
        ({"listen": "2222"}, "ecmg.listen", "write host:port"),
        ({"listen": "127.0.0.1:9464"}, "ecmg.listen", "take another port"),
        ({"clients": []}, "ecmg.listen", "name in [[ecmg.clients]] the scramblers"),
        ({"versions": [1]}, "ecmg.versions.0", "greater than or equal to 2"),
        ({"versions": []}, "ecmg.versions", "at least 1 item"),
        ({"mode": "packets"}, "ecmg.mode", "'section' or 'packet'"),
        ({"ids_in_use": "yes"}, "ecmg.ids_in_use", "'refuse' or 'tolerate'"),
        ({"lead_cw": 0}, "ecmg", "delay_start_ms must be negative"),
        ({"lead_cw": 2}, "ecmg.lead_cw", "less than or equal to 1"),
        ({"delay_start_ms": 2501}, "ecmg", "more than half"),
        ({"max_comp_time_ms": 5000}, "ecmg", "less than min_cp_duration_s"),
        ({"super_cas_id": "x"}, "ecmg.super_cas_id", "valid integer"),
        ({"cw_per_message": 2}, "ecmg.cw_per_message", "did you mean 'cw_per_msg'?"),
        ({"clients": [{"id": "a", "address": "scrambler"}]}, "ecmg.clients.0.address", "write an IP address"),
        ({"clients": [{"id": "a", "address": "192.0.2.1/24"}]}, "ecmg.clients.0.address", "has host bits set"),
        ({"clients": [{"id": "A b", "address": "192.0.2.1"}]}, "ecmg.clients.0.id", "short name"),
        (
            {"clients": [{"id": "a", "address": "192.0.2.1"}, {"id": "a", "address": "192.0.2.2"}]},
            "ecmg.clients.1.id",
            "'a' is used twice: first at ecmg.clients.0",
        ),
        (
            {"clients": [{"id": "a", "address": "192.0.2.1"}, {"id": "b", "address": "192.0.2.1/32"}]},
            "ecmg.clients.1.address",
            "is used twice",
        ),
    ],
)
def test_one_thing_wrong(changes: dict[str, Any], where: str, words: str) -> None:
    found = problems(raw(**changes))
    assert words in found[where]


def test_on_the_loopback_no_client_need_be_named() -> None:
    assert ecmg(from_mapping(raw(listen="[::1]:2222", clients=[]))).clients == ()


def test_an_early_ecm_with_one_word_is_allowed() -> None:
    assert ecmg(from_mapping(raw(lead_cw=0, cw_per_msg=1, delay_start_ms=-2500))).delay_start_ms == -2500


def test_a_service_of_two_networks_has_one_ecm() -> None:
    settings = raw()
    service = {"id": "again", "name": "Again", "original_network_id": 0x22F1, "transport_stream_id": 1}
    settings["networks"][1]["services"].append(service | {"service_id": 101})
    for number in range(100, 110):
        product = {"id": f"p{number}", "product_id": number, "services": ["again"]}
        settings["networks"][1]["products"].append(product)
    assert "in 2 networks and in 12 products" in problems(settings)["networks.1.services.1"]
    settings["networks"][1]["products"].pop()
    from_mapping(settings)
    settings["networks"][1]["products"].append(product)
    del settings["ecmg"]
    from_mapping(settings)


def test_remarks_name_what_no_card_would_ever_answer() -> None:
    settings = raw(super_cas_id=0x4A760000)
    settings["ecmg"]["clients"][0]["super_cas_ids"] = [0x4A750001, 7]
    settings["networks"][0]["products"][1]["services"] = ["sport-1"]
    remarks = {remark.where: remark.text for remark in crosscheck.remarks(from_mapping(settings))}
    assert set(remarks) == {"ecmg.super_cas_id", "ecmg.clients.0.super_cas_ids", "networks.0.services.1"}
    assert "movies is in no product" in remarks["networks.0.services.1"]
