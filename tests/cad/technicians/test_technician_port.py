"""The port for technicians: real mutual TLS, roles, tenants apart, each act in the audit chain before its answer."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from cad.air.sent import CardOnAir
from cad.frame.tls import TlsFilesError
from cad.technicians.documents import CardAnswer, EmmAnswer, SignedExtract, VisitsAnswer
from cad.technicians.people import Act
from cad.technicians.server import common_name, server_context
from cards.application import CardApplication
from cards.memory.contents import CardKeys, CardMemory
from cards.session import CardSession
from config.technicians import PersonSettings
from emm.message import EmmKind, Version
from protocol import card_number
from tests.support.broker import Authority
from tests.support.cards import LADDER, OTHER_LADDER, PERIOD, MemoryStorage
from tests.support.technician import KAISA, OTHER, FieldHeadend, field_headend

MINE, THEIRS, NOBODYS = card_number.spell(KAISA), card_number.spell(OTHER), card_number.spell(KAISA + 1)


@pytest.fixture
async def headend(tmp_path: Path) -> AsyncIterator[FieldHeadend]:
    async with field_headend(tmp_path) as made:
        await made.set_up(KAISA)
        await made.set_up(OTHER, product="film", operator="other")
        yield made


def session(address: int = KAISA, ladder: object = LADDER) -> CardSession:
    memory = CardMemory(address, CardKeys.derive(ladder, address))  # type: ignore[arg-type]
    return CardSession(CardApplication(MemoryStorage(memory)).process)


@pytest.mark.slow
async def test_a_technician_sees_what_the_ledger_says_of_a_card(headend: FieldHeadend) -> None:
    async with headend.client("anna") as anna:
        answer = await anna.get(f"/v1/cards/{MINE}")
        card = CardAnswer.model_validate(answer.json())
    assert card.card.number == MINE
    assert not card.card.suspended
    assert [one.product_id for one in card.card.rights] == [7]
    assert [(one.product, one.services) for one in card.network.products] == [
        ("sport", ("Sport 1",)),
        ("film", ("Film 1",)),
    ]
    assert await headend.audit() == [
        {
            "seq": (await headend.audit())[0]["seq"],
            "at": headend.clock.now(),
            "kind": "technician",
            "who": "anna",
            "role": "technician",
            "operator": "kaisa",
            "act": "look",
            "card": MINE,
            "reader": "Reader 0",
        }
    ]


@pytest.mark.slow
async def test_a_card_that_was_not_sent_since_the_start_has_no_last_time(headend: FieldHeadend) -> None:
    asked = []

    def on_air(*about: object) -> tuple[CardOnAir, ...]:
        asked.append(about)
        return CardOnAir("mux-1", True, "base", 60.0, None), CardOnAir("mux-2", False, "base", None, 120.0)

    headend.air.networks["net"] = SimpleNamespace(on_air=on_air)
    async with headend.client("anna") as anna:
        listed = (await anna.get(f"/v1/cards/{MINE}")).json()["on_air"]
    assert asked == [(KAISA, "kaisa", {})]
    first = {"multiplex": "mux-1", "connected": True, "first_sent_at": "1970-01-01T00:01:00Z", "last_sent_at": None}
    second = {"multiplex": "mux-2", "connected": False, "first_sent_at": None, "last_sent_at": "1970-01-01T00:02:00Z"}
    assert listed == [first, second]


@pytest.mark.slow
async def test_another_operators_card_is_answered_like_one_that_does_not_exist(headend: FieldHeadend) -> None:
    async with headend.client("anna") as anna:
        for path in ("", "/challenge", "/emm"):
            method = "GET" if not path else "POST"
            theirs = await anna.request(method, f"/v1/cards/{THEIRS}{path}")
            nobodys = await anna.request(method, f"/v1/cards/{NOBODYS}{path}")
            assert (theirs.status_code, nobodys.status_code) == (404, 404)
            assert theirs.text.replace(THEIRS, "") == nobodys.text.replace(NOBODYS, "")
        extract = await anna.post("/v1/extract", json={"cards": [THEIRS, MINE]})
        assert THEIRS not in str(open_signed(headend, extract))
        assert MINE in str(open_signed(headend, extract))
    async with headend.client("eve") as eve:
        assert (await eve.get(f"/v1/cards/{THEIRS}")).status_code == 200
    asked = [(one["who"], one["card"], one.get("refused")) for one in await headend.audit() if "card" in one]
    assert ("anna", THEIRS, "unknown") in asked


def open_signed(headend: FieldHeadend, answer: httpx.Response) -> object:
    from cad.technicians.signing import open_extract

    assert answer.status_code == 200, answer.text
    return open_extract(answer.content, headend.desk._signer.public_key)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "refused"),
    [
        ("ros", {Act.PROVE, Act.EMM, Act.EXTRACT, Act.VISITS, Act.ACTS}),
        ("anna", {Act.ACTS}),
        ("otto", set()),
    ],
)
async def test_each_role_may_do_its_acts_and_no_others(headend: FieldHeadend, who: str, refused: set[Act]) -> None:
    visit = {
        "seq": 1,
        "at": 1,
        "card": MINE,
        "act": "verify",
        "reader": "R",
        "verdict": "ok",
        "passed": True,
    }
    asks = {
        Act.LOOK: ("GET", f"/v1/cards/{MINE}", None),
        Act.PROVE: ("POST", f"/v1/cards/{MINE}/challenge", None),
        Act.EMM: ("POST", f"/v1/cards/{MINE}/emm", None),
        Act.EXTRACT: ("POST", "/v1/extract", {}),
        Act.VISITS: ("POST", "/v1/visits", {"laptop": "0" * 16, "visits": [visit]}),
        Act.ACTS: ("GET", "/v1/acts", None),
    }
    assert set(asks) == set(Act)
    async with headend.client(who) as client:
        for act, (method, path, body) in asks.items():
            answer = await client.request(method, path, json=body)
            assert answer.status_code == (403 if act in refused else 200), (act, answer.text)
    told = {one["act"] for one in await headend.audit() if "role" in str(one.get("refused"))}
    assert told == {{Act.PROVE: "challenge"}.get(act, act.value) for act in refused}


@pytest.mark.slow
async def test_who_has_no_certificate_of_ours_does_not_get_in(headend: FieldHeadend, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "strangers")
    stranger.issue("anna")
    trusting = ssl.create_default_context(cafile=str(headend.authority.ca_file))
    with_other = ssl.create_default_context(cafile=str(headend.authority.ca_file))
    with_other.load_cert_chain(tmp_path / "strangers/anna.pem", tmp_path / "strangers/anna.key")
    for context in (trusting, with_other):
        async with httpx.AsyncClient(base_url=headend.url, verify=context) as client:
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                await client.get("/v1/me")
    async with headend.client("nobody") as nobody:
        answer = await nobody.get("/v1/me")
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "NotAllowedError")
    assert (await headend.audit())[-1]["who"] == "nobody"


@pytest.mark.slow
async def test_who_is_taken_out_of_the_settings_is_out_at_once(headend: FieldHeadend) -> None:
    async with headend.client("anna") as anna:
        assert (await anna.get("/v1/me")).json()["role"] == "technician"
        headend.people.follow([PersonSettings(name="anna", operator="kaisa", role="read-only")])
        assert (await anna.get("/v1/me")).json()["role"] == "read-only"
        headend.people.follow([])
        assert (await anna.get("/v1/me")).status_code == 403


@pytest.mark.slow
async def test_a_card_proves_that_it_is_genuine_and_a_copy_does_not(headend: FieldHeadend) -> None:
    async with headend.client("anna") as anna:
        for ladder, genuine in ((LADDER, True), (OTHER_LADDER, False)):
            challenge = (await anna.post(f"/v1/cards/{MINE}/challenge")).json()["challenge"]
            proof = session(ladder=ladder).authenticate(bytes.fromhex(challenge)).hex()
            body = {"challenge": challenge, "proof": proof}
            assert (await anna.post(f"/v1/cards/{MINE}/proof", json=body)).json() == {"genuine": genuine}
            again = await anna.post(f"/v1/cards/{MINE}/proof", json=body)
            assert again.status_code == 403, "a challenge is good for one answer"
    assert [one["genuine"] for one in await headend.audit() if "genuine" in one] == [True, False]


@pytest.mark.slow
async def test_a_challenge_is_for_one_card_one_person_and_one_minute(headend: FieldHeadend) -> None:
    await headend.order("card", "assign", card=NOBODYS, subscriber="second")
    async with headend.client("anna") as anna, headend.client("otto") as otto:

        async def ask() -> dict[str, str]:
            challenge = (await anna.post(f"/v1/cards/{MINE}/challenge")).json()["challenge"]
            return {"challenge": challenge, "proof": session().authenticate(bytes.fromhex(challenge)).hex()}

        assert (await otto.post(f"/v1/cards/{MINE}/proof", json=await ask())).status_code == 403
        assert (await anna.post(f"/v1/cards/{NOBODYS}/proof", json=await ask())).status_code == 403
        late = await ask()
        headend.clock.set(headend.clock.now() + 61)
        assert (await anna.post(f"/v1/cards/{MINE}/proof", json=late)).status_code == 403


@pytest.mark.slow
async def test_the_emm_given_out_is_the_current_one_and_gives_nothing_that_was_not_ordered(
    headend: FieldHeadend,
) -> None:
    card = session()
    async with headend.client("anna") as anna:
        emm = EmmAnswer.model_validate((await anna.post(f"/v1/cards/{MINE}/emm")).json())
        for section in emm.sections:
            card.process_emm(bytes.fromhex(section))
        info = card.read_info()
        assert info.versions.held[EmmKind.UNIQUE] == Version(PERIOD, emm.revision)
        assert [right.product_id for right in info.rights] == [7]
        await headend.order("card", "suspend", card=MINE)
        suspended = EmmAnswer.model_validate((await anna.post(f"/v1/cards/{MINE}/emm")).json())
        for section in suspended.sections:
            card.process_emm(bytes.fromhex(section))
        assert card.read_info().rights == ()
    assert suspended.revision > emm.revision


@pytest.mark.slow
async def test_no_method_of_the_port_changes_what_a_card_may_open(headend: FieldHeadend) -> None:
    """C12: whatever is sent to it, the ledger's view of the card stays the same."""
    before = await headend.ledger.card_view(KAISA)
    async with headend.client("otto") as otto:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            for path in ("", "/challenge", "/proof", "/emm", "/rights", "/assign"):
                await otto.request(method, f"/v1/cards/{MINE}{path}", json={"rights": [{"product_id": 8}]})
    assert await headend.ledger.card_view(KAISA) == before


@pytest.mark.slow
async def test_visits_are_recorded_once_and_conflicts_are_told_and_overwrite_nothing(headend: FieldHeadend) -> None:
    view = await headend.ledger.card_view(KAISA)
    assert view is not None
    common = {"at": int(headend.clock.now()), "card": MINE, "reader": "R", "verdict": "ok", "passed": True}
    extract = "ab" * 8
    visits = [
        {**common, "seq": 1, "act": "verify", "held": [PERIOD, view.revision], "extract": extract},
        {**common, "seq": 2, "act": "refresh", "put": [PERIOD, view.revision], "extract": extract},
        {**common, "seq": 3, "act": "verify", "card": THEIRS},
    ]
    headend.clock.set(headend.clock.now() + 60)
    async with headend.client("anna") as anna:
        first = await send(anna, visits[:2])
        assert [(one.status, one.conflict) for one in first.visits] == [("recorded", None)] * 2
        await headend.order("subscription", "end", subscription=f"s-{KAISA}")
        after = await headend.ledger.card_view(KAISA)
        second = await send(anna, visits)
        assert [one.status for one in second.visits] == ["known", "known", "recorded"]
        told = [one.conflict or "" for one in second.visits]
        assert "orders have been changed since" in told[0]
        assert f"the ledger is at {after.revision}" in told[1]  # type: ignore[union-attr]
        assert "does not belong" in told[2]
    assert await headend.ledger.card_view(KAISA) == after
    recorded = [one for one in await headend.audit() if "done_at" in one]
    assert [one["visit"] for one in recorded] == [1, 2, 3]


async def send(client: httpx.AsyncClient, visits: list[dict[str, object]]) -> VisitsAnswer:
    answer = await client.post("/v1/visits", json={"laptop": "01" * 8, "visits": visits})
    assert answer.status_code == 200, answer.text
    return VisitsAnswer.model_validate(answer.json())


@pytest.mark.slow
async def test_an_operator_sees_the_acts_of_his_own_people_only(headend: FieldHeadend) -> None:
    async with headend.client("anna") as anna, headend.client("eve") as eve:
        await anna.get(f"/v1/cards/{MINE}")
        await eve.get(f"/v1/cards/{THEIRS}")
    async with headend.client("otto") as otto:
        acts = (await otto.get("/v1/acts")).json()
    assert {one["who"] for one in acts["acts"]} == {"anna", "otto"}
    assert acts["complete"] is True


@pytest.mark.slow
async def test_an_extract_of_too_many_cards_is_refused_with_what_to_do(headend: FieldHeadend) -> None:
    for address in range(KAISA + 1, KAISA + 6):
        await headend.order("card", "assign", card=card_number.spell(address), subscriber="x")
    async with headend.client("anna") as anna:
        whole = await anna.post("/v1/extract", json={})
        assert (whole.status_code, whole.json()["error"]["type"]) == (409, "ExtractError")
        assert "has 6 cards, an extract takes 5" in whole.text
        some = await anna.post("/v1/extract", json={"cards": [MINE, NOBODYS]})
        assert SignedExtract.model_validate(some.json())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/visits", b"{", "the body: "),
        ("/v1/visits", b'{"laptop": "0000000000000000", "visits": []}', "visits: "),
        ("/v1/extract", b'{"cards": ["1"]}', "cards.0: "),
        ("/v1/visits", b"x" * 600_000, "more than 524288 bytes"),
    ],
)
async def test_bad_bodies_are_told_what_is_wrong(headend: FieldHeadend, path: str, body: bytes, words: str) -> None:
    async with headend.client("otto") as otto:
        answer = await otto.post(path, content=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["text"]


@pytest.mark.slow
async def test_a_mistyped_number_is_refused_and_no_secret_is_ever_said(headend: FieldHeadend) -> None:
    said = []
    async with headend.client("otto") as otto:
        assert (await otto.get(f"/v1/cards/{MINE[:-1]}{(int(MINE[-1]) + 1) % 10}")).status_code == 400
        for method, path in (("GET", ""), ("POST", "/challenge"), ("POST", "/emm")):
            said.append((await otto.request(method, f"/v1/cards/{MINE}{path}")).text)
        said.append(repr(open_signed(headend, await otto.post("/v1/extract", json={}))))
    said.append(str(await headend.audit()))
    for key in (LADDER.card_key(KAISA, 1), LADDER.extract_key(), LADDER.audit_key()):
        for half in (key[:16].hex(), key[16:].hex()):
            assert not any(half in text.lower() for text in said)


@pytest.mark.slow
async def test_the_reader_is_cut_to_what_a_record_can_bear(headend: FieldHeadend) -> None:
    async with headend.client("anna") as anna:
        await anna.get(f"/v1/cards/{MINE}", headers={"X-Cad-Reader": "R" * 500})
    assert (await headend.audit())[-1]["reader"] == "R" * 120


@pytest.mark.slow
async def test_while_the_ledger_cannot_note_it_nothing_is_answered(headend: FieldHeadend) -> None:
    await asyncio.sleep(0)
    store = headend.ledger._store
    kept = store.note

    def broken(*_: object) -> None:
        from cad.ledger.errors import LedgerUnavailable

        raise LedgerUnavailable("the disk is full", "make room")

    store.note = broken  # type: ignore[method-assign, assignment]
    async with headend.client("anna") as anna:
        answer = await anna.get(f"/v1/cards/{MINE}")
    store.note = kept  # type: ignore[method-assign]
    assert answer.status_code == 503
    assert MINE not in answer.text


def test_a_name_counts_only_when_there_is_one() -> None:
    assert common_name({"subject": ((("commonName", "anna"),),)}) == "anna"
    assert common_name({"subject": ((("commonName", "anna"),), (("commonName", "otto"),))}) is None
    assert common_name({"subject": ()}) is None
    assert common_name(None) is None


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    from config.technicians import TechniciansSettings

    authority = Authority(tmp_path)
    cert, key = authority.issue("headend")
    whole = TechniciansSettings(listen="127.0.0.1:0", ca_file=authority.ca_file, cert_file=cert, key_file=key)
    assert server_context(whole).verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(TlsFilesError, match=r"technicians\.ca_file .* cannot be used: No such file"):
        server_context(whole.model_copy(update={"ca_file": tmp_path / "none"}))
    with pytest.raises(TlsFilesError, match=r"technicians\.cert_file .*not PEM"):
        server_context(whole.model_copy(update={"key_file": authority.ca_file}))
