"""Whom access criteria stand for, and what is shown to be entered in a scrambler."""

from pathlib import Path

import pytest

from cad.checks import scrambler_findings
from cad.ecmg.clients import AllowList, profile_of
from cad.ecmg.services import CACHED_MAX, Audience, ServiceBook, criteria_of
from config.load import load
from config.settings import NetworkSettings
from protocol.access_criteria import ProductsCriteria, build
from protocol.simulcrypt.ecmg.words import OrderRefusedError
from protocol.simulcrypt.ecmg_scs import ErrorStatus
from tests.support.ecmg import FILM, FREE, NETWORK, SPORT, ecmg_settings

SECOND = NetworkSettings.model_validate(
    {
        "id": "second",
        "services": [
            {"id": "sports", "name": "S", "original_network_id": 1, "transport_stream_id": 2, "service_id": 101}
        ],
        "products": [{"id": "other", "product_id": 9, "services": ["sports"]}],
    }
)


def test_a_service_stands_for_every_product_that_includes_it() -> None:
    book = ServiceBook([NETWORK])
    assert book.audience(SPORT, 0) == Audience(101, (1, 2))
    assert book.audience(FILM, 0) == Audience(102, (2,))


def test_a_service_that_two_networks_carry_has_the_products_of_both() -> None:
    assert ServiceBook([NETWORK, SECOND]).audience(SPORT, 0) == Audience(101, (1, 2, 9))


def test_nobody_and_everybody_cannot_be_named() -> None:
    book = ServiceBook([NETWORK])
    for data in (FREE, b"", b"\x02\x00\x65", bytes.fromhex("02 0065 0063"), bytes.fromhex("01 0001 0003 0065")):
        with pytest.raises(OrderRefusedError) as refused:
            book.audience(data, 0)
        assert refused.value.error_status is ErrorStatus.INV_PARAM_VALUE
        assert refused.value.error_information == (b"\x00\x0d",)


def test_what_was_found_before_is_forgotten_with_the_settings() -> None:
    book = ServiceBook([NETWORK])
    book.audience(SPORT, 0)
    book.follow([SECOND])
    assert book.audience(SPORT, 0) == Audience(101, (9,))
    with pytest.raises(OrderRefusedError):
        book.audience(FILM, 0)


@pytest.mark.slow
def test_memory_stays_bounded_whatever_is_asked() -> None:
    products = [{"id": f"p{number}", "product_id": number, "services": ["sports"]} for number in range(1, 12)]
    book = ServiceBook([SECOND.model_validate(SECOND.model_dump() | {"products": products})])
    numbers = list(range(1, 12))
    for turn in range(CACHED_MAX + 500):
        order = numbers[turn % 11 :] + numbers[: turn % 11]
        picked = tuple(one for place, one in enumerate(order) if turn >> place & 1) or (1,)
        book.audience(build(ProductsCriteria(0, picked)), 0)
        with pytest.raises(OrderRefusedError):
            book.audience(b"\xff" + turn.to_bytes(4, "big"), 0)
    assert len(book._found) <= CACHED_MAX


def test_check_shows_what_to_enter() -> None:
    assert dict(criteria_of(NETWORK)) == {"sport": SPORT, "film": FILM}
    shown = {finding.name: finding.text for finding in scrambler_findings(load(Path("config/cad.example.toml")))}
    assert shown["scramblers"] == "ECMs at 192.0.2.1:2222 for Super_CAS_id 0x4A750000"
    assert shown["service sport-1"] == "access criteria 0122F100010065"


def test_the_narrowest_address_says_who_it_is() -> None:
    clients = [
        {"id": "all", "address": "10.0.0.0/8"},
        {"id": "one", "address": "10.1.1.1", "super_cas_ids": [7]},
        {"id": "six", "address": "2001:db8::/64"},
    ]
    settings = ecmg_settings(clients=clients)
    allowed = AllowList(settings)
    found = {
        address: client.id if (client := allowed.find(address)) else None
        for address in ("10.1.1.1", "10.1.1.2", "::ffff:10.1.1.1", "2001:db8::1%eth0", "127.0.0.1", "::1", "", "x")
    }
    assert found == {
        "10.1.1.1": "one",
        "10.1.1.2": "all",
        "::ffff:10.1.1.1": "one",
        "2001:db8::1%eth0": "six",
        **dict.fromkeys(("127.0.0.1", "::1", "", "x")),
    }
    assert allowed.profile(settings.clients[1]).super_cas_ids == {7}
    assert allowed.profile(settings.clients[0]).super_cas_ids == {settings.super_cas_id}


def test_without_clients_this_machine_may_connect() -> None:
    allowed = AllowList(ecmg_settings())
    assert allowed.ids == ["local"]
    assert [bool(allowed.find(one)) for one in ("127.0.0.1", "127.9.9.9", "::1", "10.0.0.1")] == [True] * 3 + [False]


def test_settings_are_declared_as_they_stand() -> None:
    settings = ecmg_settings(
        mode="packet", lead_cw=0, cw_per_msg=1, delay_start_ms=-400, min_cp_duration_s=7.25, streams_max=3, versions=[3]
    )
    client = AllowList(settings).find("127.0.0.1")
    assert client is not None
    status = profile_of(settings, client).channel_status(5)
    assert (status.section_tspkt_flag, status.lead_cw, status.cw_per_msg, status.delay_start) == (1, 0, 1, -400)
    assert (status.min_cp_duration, status.max_streams, status.ecm_rep_period) == (72, 3, 100)
