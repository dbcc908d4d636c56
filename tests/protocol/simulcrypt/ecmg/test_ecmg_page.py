"""docs/ecmg.md says what the tables say, and docs/headend.md shows settings and access criteria that are right."""

import re
from pathlib import Path

from config.ecmg import EcmgSettings
from config.load import load
from config.outlets import MultiplexSettings
from protocol.access_criteria import ServiceCriteria, build
from tests.support.ecmg_page import PAGE, PARTS, generated

HEADEND = Path("docs/headend.md").read_text(encoding="utf-8")
EXAMPLE = load(Path("config/cad.example.toml"))


def test_the_page_is_what_the_tables_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert generated(page) == page, "run: python -m tests.support.ecmg_page"


def test_the_page_has_every_part() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [part for part in PARTS if f"<!-- generated: {part} -->" not in page] == []


def test_the_integrators_page_speaks_of_the_example_settings() -> None:
    service = EXAMPLE.networks[0].services[0]
    criteria = build(ServiceCriteria(service.original_network_id, service.transport_stream_id, service.service_id))
    assert EXAMPLE.ecmg is not None
    for value in (criteria.hex().upper(), f"0x{EXAMPLE.ecmg.super_cas_id:08X}", EXAMPLE.ecmg.listen):
        assert value in HEADEND
    assert set(re.findall(r"\b01[0-9A-F]{12}\b", HEADEND)) == {criteria.hex().upper()}


def test_the_integrators_page_names_settings_that_exist() -> None:
    known = {*EcmgSettings.model_fields, *MultiplexSettings.model_fields}
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?: = [^`]*)?`", HEADEND))
    assert named - known == {"ca_system_id"}
