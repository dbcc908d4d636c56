"""I10: one operator tries to read, change or sell what is another's, by every way there is. Each attempt is refused.

With the shipped access list of the broker, and without any: then only the daemon's own checks are left.
"""

import asyncio
import getpass
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiomqtt
import httpx
import pytest
from starlette.routing import Route

from cad.errors import NotFoundError, StockRefusedError
from cad.frame.clock import SystemClock
from cad.frame.health import Health
from cad.frame.metrics import Metrics
from cad.headend import HeadendView
from cad.http.app import public_app
from cad.http.stock import Claim, LedgerDesk, Reservation
from cad.ledger.model import Grants
from cad.technicians.app import technicians_app
from protocol.card_number import spell
from protocol.portal.commands.parsing import COMMANDS
from protocol.portal.documents import schemas
from protocol.portal.documents.samples import CARD, OTHER_CARD
from tests.support.broker import HOST, SHIPPED, Mosquitto, running
from tests.support.eventually import eventually
from tests.support.hand_headend import HELSINKI
from tests.support.headend import FIRST, Headend, headend
from tests.support.order_desk import GRANTS, OrderDesk, mqtt_settings, order_desk
from tests.support.portal_client import Portal, portal
from tests.support.technician import KAISA, OTHER, FieldHeadend, field_headend

pytestmark = pytest.mark.integration

# karjaa is robbed: it alone may sell `film`, and has card, offer, subscription and snapshot. kaspnet tries.
ROBBED, THIEF = "karjaa", "kaspnet"
THEIRS, OWN = spell(7), spell(1007)
SUBSCRIBER: Final = "customer-whom-nobody-else-knows"
OPEN: Final = "pattern readwrite #\n"
REGIONS: Final = {ROBBED: {"coast": 7, "islands": 9}, THIEF: {"coast": 7}}
WITH_REGIONS: Final = Grants({name: replace(GRANTS.operators[name], regions=REGIONS[name]) for name in REGIONS})
"""Both have cards on the coast; the islands are in another network, which is the robbed's alone."""
REFUSALS: Final = {
    "unknown_card",
    "unknown_offer",
    "unknown_subscription",
    "unknown_snapshot",
    "unknown_message",
    "unknown_region",
    "not_granted",
}
NAMES_NOTHING: Final = {("invoice", "replay"), ("snapshot", "request")}
"""Commands that name no resource: they give what is the sender's own."""
_BY_THIEF: Final = f'attempt operator="{THIEF}" client="'


@pytest.fixture(params=["access list", "no access list"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with running(tmp_path) as one:
        if request.param != "access list":
            acl = tmp_path / "acl"
            acl.write_text(OPEN)
            one.stop()
            one.configure(acl=acl)
            one.start()
        yield one


class Scene:
    """Both portals and the desk. `theirs` is all that the robbed has in the ledger."""

    def __init__(self, broker: Mosquitto, desk: OrderDesk, robbed: Portal, thief: Portal) -> None:
        self.broker, self.desk, self.robbed, self.thief = broker, desk, robbed, thief

    async def theirs(self) -> list[Any]:
        rows: list[Any] = []
        async for block in self.desk.ledger.copy(ROBBED):
            rows += [*block.cards, *block.offers, *block.subscriptions]
        return [tuple(row) for row in rows] + list(await self.desk.ledger.messages([ROBBED]))

    async def records(self, command_id: str) -> list[dict[str, Any]]:
        return [one async for one, _ in self.desk.ledger.audit_export() if one.get("id") == command_id]

    def rejects(self) -> list[dict[str, Any]]:
        return [one.payload for one in self.thief.heard if one.topic == f"cad/v1/{THIEF}/rej"]

    async def next_reject(self, after: int) -> dict[str, Any]:
        await eventually(lambda: len(self.rejects()) > after)
        return self.rejects()[after]

    async def unreadable(self) -> list[tuple[str, str]]:
        """Operator and code of all messages that the audit says could not be understood."""
        records = [one async for one, _ in self.desk.ledger.audit_export()]
        return [(one["operator"], one["code"]) for one in records if one["kind"] == "unreadable"]

    async def logged(self, attempt: str) -> None:
        """Wait until the broker's log says that the thief tried this."""
        end = f" {attempt}"
        await eventually(lambda: any(line.endswith(end) and _BY_THIEF in line for line in self.broker.attempts()), 30)

    def told_the_thief(self) -> str:
        return json.dumps([one.payload for one in self.thief.heard])


@pytest.fixture
async def scene(broker: Mosquitto, tmp_path: Path) -> AsyncIterator[Scene]:
    async with (
        order_desk(tmp_path / "state", mqtt_settings(broker), grants=WITH_REGIONS) as desk,
        portal(broker, ROBBED) as robbed,
        portal(broker, THIEF) as thief,
    ):
        offer = {"offer": "sport", "rev": 1, "kind": "channel", "names": {"fi": "U"}, "products": ["sport", "film"]}
        await robbed.reply(await robbed.order("offer", "put", offer), "committed")
        card = {"card": THEIRS, "rev": 1, "subscriber": SUBSCRIBER, "region": "coast"}
        await robbed.reply(await robbed.order("card", "assign", card), "committed")
        order = {"subscription": "s-1001", "rev": 1, "card": THEIRS, "offer": "sport"}
        await robbed.reply(await robbed.order("subscription", "put", order), "committed")
        await robbed.reply(await robbed.order("snapshot", "request", {}, "their-snapshot"), "committed")
        message = {"message": "m-1001", "rev": 1, "card": THEIRS, "text": {"fi": "Hei"}}
        await robbed.reply(await robbed.order("card", "message", message), "committed")
        card = {"card": OWN, "rev": 1, "subscriber": "mine", "region": "coast"}
        await thief.reply(await thief.order("card", "assign", card), "committed")
        yield Scene(broker, desk, robbed, thief)


def attempts(resource: str, verb: str) -> list[dict[str, Any]]:
    """The command with everything in it another's; and with the first card one's own, where there is more to name."""
    described = next(one for one in schemas.messages() if one.name == f"command.{resource}.{verb}")
    example = described.example()
    assert example is not None
    example.pop("id", None)
    if "to" in example or "text" in example:
        example.pop("ends_at", None)  # messages have a term of their own
    named = {"offer": "sport", "subscription": "s-1001", "snapshot": "their-snapshot", "products": ["film"]}
    whole = {name: named.get(name, value) for name, value in example.items()} | {"rev": 1_000}
    if "rev" not in example:
        del whole["rev"]
    if "to" in whole:
        others = ({"cards": [THEIRS]}, {"cards": [OWN, THEIRS]}, {"offer": "sport"}, {"region": "islands"})
        return [whole | {"to": to} for to in others]
    text = json.dumps(whole)
    theirs = json.loads(text.replace(CARD, THEIRS).replace(OTHER_CARD, spell(8)))
    own_card = json.loads(text.replace(CARD, OWN).replace(OTHER_CARD, THEIRS))
    return [theirs] if own_card == theirs or not _names_more(own_card) else [theirs, own_card]


def _names_more(body: dict[str, Any]) -> bool:
    return bool({"offer", "subscription", "snapshot", "products", "replacement"} & body.keys())


async def test_no_command_reaches_what_is_anothers(scene: Scene) -> None:
    before = await scene.theirs()
    heard = len(scene.robbed.heard)
    for resource, verb in COMMANDS:
        for body in attempts(resource, verb):
            asked = await scene.thief.order(resource, verb, body)
            reply = (await scene.thief.reply(asked)).payload
            if (resource, verb) not in NAMES_NOTHING:
                assert reply["code"] in REFUSALS, (resource, verb, body, reply)
                assert reply["status"] == "rejected"
            record = (await scene.records(asked))[-1]
            assert (record["operator"], record["code"]) == (THIEF, reply["code"])
        assert await scene.theirs() == before, f"{resource} {verb} changed what is another's"
    assert SUBSCRIBER not in scene.told_the_thief()
    assert scene.robbed.heard[heard:] == [], "nothing comes to the robbed by it"


async def test_an_offer_of_the_same_name_is_another_offer(scene: Scene) -> None:
    before = await scene.theirs()
    mine = {"offer": "sport", "rev": 99, "kind": "package", "names": {"fi": "mine"}, "products": ["sport"]}
    await scene.thief.reply(await scene.thief.order("offer", "put", mine), "committed")
    order = {"subscription": "s-1001", "rev": 99, "card": OWN, "offer": "sport"}
    await scene.thief.reply(await scene.thief.order("subscription", "put", order), "committed")
    assert await scene.theirs() == before


async def test_a_message_to_a_region_is_for_ones_own_cards_there(scene: Scene) -> None:
    for who, name in ((scene.robbed, ROBBED), (scene.thief, THIEF)):
        for verb, body in (("put", {"text": {"fi": "Hei"}}), ("fingerprint", {})):
            command = {"message": f"{verb}-{name}", "rev": 1, "to": {"region": "coast"}} | body
            await who.reply(await who.order("message" if verb == "put" else "card", verb, command), "committed")
    ledger = scene.desk.ledger
    cards = {one.message: await ledger.message_cards(one) for one in await ledger.messages([ROBBED, THIEF])}
    assert cards.pop("m-1001") == [(7, 1)]
    assert cards == {
        f"{verb}-{name}": [(address, 1)]
        for verb in ("put", "fingerprint")
        for name, address in ((ROBBED, 7), (THIEF, 1007))
    }


async def test_no_ecm_of_a_service_that_was_not_granted_is_opened_by_an_event_of_ones_own(scene: Scene) -> None:
    event = {"offer": "match", "rev": 1, "kind": "event", "names": {"fi": "O"}, "service": "film-1"}
    window = {"starts_at": "2030-01-01T18:00:00Z", "ends_at": "2030-01-01T20:00:00Z"}
    reply = await scene.thief.reply(await scene.thief.order("offer", "put", event | window), "rejected")
    assert reply.payload["code"] == "not_granted"


async def test_a_card_of_anothers_range_is_not_taken_first(scene: Scene) -> None:
    for resource, verb in (("card", "assign"), ("card", "blacklist")):
        body = {"card": spell(50), "rev": 1} | ({"subscriber": "mine"} if verb == "assign" else {})
        reply = await scene.thief.reply(await scene.thief.order(resource, verb, body), "rejected")
        assert reply.payload["code"] == "unknown_card"
    assert await scene.desk.ledger.card_view(50) is None


@pytest.mark.parametrize(
    "topic",
    [
        "cad/v1/karjaa/rep/web",
        "cad/v1/kaspnet/rep/../../karjaa/rep/web",
        "cad/v1/_node/node-1/state",
        "cad/v1/kaspnet/rej",
    ],
)
async def test_no_reply_goes_into_anothers_tree(scene: Scene, topic: str) -> None:
    heard = len(scene.robbed.heard)
    for resource, verb, body in (
        ("card", "refresh", {"card": OWN}),
        ("snapshot", "request", {}),
        ("snapshot", "read", {"snapshot": "their-snapshot"}),
    ):
        rejects, records = len(scene.rejects()), len(await scene.unreadable())
        payload = json.dumps(body | {"id": f"x-{verb}"}).encode()
        await scene.thief.send(f"cad/v1/kaspnet/cmd/{resource}/{verb}", payload, response_topic=topic)
        assert (await scene.next_reject(rejects))["code"] == "bad_reply_topic"
        assert (await scene.unreadable())[records:] == [(THIEF, "bad_reply_topic")]
    assert scene.robbed.heard[heard:] == []


async def test_reply_to_names_a_client_and_no_topic(scene: Scene) -> None:
    for name in ("../../karjaa/rep/web", "a/b", "+", "#", ""):
        rejects, records = len(scene.rejects()), len(await scene.unreadable())
        body = json.dumps({"id": f"x{name}", "card": OWN, "reply_to": name}).encode()
        await scene.thief.send("cad/v1/kaspnet/cmd/card/refresh", body)
        reject = await scene.next_reject(rejects)
        assert (reject["hash"], reject["code"]) == (hashlib.sha256(body).hexdigest(), "bad_reply_topic")
        assert (await scene.unreadable())[records:] == [(THIEF, "bad_reply_topic")]


async def test_who_publishes_in_anothers_name_is_stopped_by_the_access_list(scene: Scene) -> None:
    """The topic says who one is: without an access list the audit still tells whose topic it was."""
    before = await scene.theirs()
    body = {"id": "stolen", "card": THEIRS, "rev": 500, "reason": "robbery"}
    async with portal(scene.broker, ROBBED, "thief", certificate=THIEF, v5=False) as liar:
        await liar.client.publish("cad/v1/karjaa/cmd/card/suspend", json.dumps(body).encode(), qos=1)
        await scene.thief.reply(await scene.thief.order("card", "refresh", {"card": OWN}), "committed")
    if _listed(scene.broker):
        await scene.logged('publish "cad/v1/karjaa/cmd/card/suspend"')
        assert await scene.records("stolen") == []
        assert await scene.theirs() == before
    else:
        async with asyncio.timeout(10):
            while not await scene.records("stolen"):
                await asyncio.sleep(0.02)
        assert (await scene.records("stolen"))[0]["operator"] == ROBBED


def _listed(broker: Mosquitto) -> bool:
    return f"acl_file {SHIPPED / 'acl'}" in (broker.folder / "mosquitto.conf").read_text()


async def test_operators_that_are_made_up_are_told_apart_from_none_and_count_as_other(scene: Scene) -> None:
    async with portal(scene.broker, "stranger") as stranger:
        await stranger.order("card", "refresh", {"card": THEIRS})
        reject = await stranger.until(lambda one: one.topic == "cad/v1/stranger/rej")
        assert reject.payload["code"] == "unknown_operator"
    await scene.thief.reply(await scene.thief.order("card", "refresh", {"card": THEIRS}), "rejected")
    text = scene.desk.metrics.render().decode()
    labels = {part.split('"')[1] for line in text.splitlines() for part in line.split(",") if 'operator="' in part}
    assert labels <= {ROBBED, THIEF, "other"}
    assert SUBSCRIBER not in text
    assert THEIRS not in text


@pytest.mark.parametrize("broker", ["access list"], indirect=True)
async def test_anothers_messages_cannot_be_listened_to(scene: Scene) -> None:
    heard = len(scene.thief.heard)
    for topic in (
        "#",
        f"cad/v1/{ROBBED}/#",
        "cad/v1/+/rep/+/+",
        "cad/v1/+/rep/#",
        "cad/v1/+/evt/+/+",
        "cad/v1/+/cmd/#",
    ):
        await scene.thief.client.subscribe(topic, qos=1)
        await scene.logged(f'subscribe "{topic}"')
    await scene.robbed.reply(await scene.robbed.order("snapshot", "read", {"snapshot": "their-snapshot"}), "committed")
    await scene.thief.reply(await scene.thief.order("card", "refresh", {"card": OWN}), "committed")
    assert [one.topic for one in scene.thief.heard[heard:] if ROBBED in one.topic] == []
    assert len(scene.broker.attempts()) == 6, "what is everybody's own is no attempt"


@pytest.mark.parametrize("broker", ["access list"], indirect=True)
async def test_a_will_in_anothers_tree_and_anothers_client_id_are_logged(scene: Scene) -> None:
    topic = f"cad/v1/{ROBBED}/evt/card/on-air"
    heard = len(scene.robbed.heard)
    async with aiomqtt.Client(
        *(HOST, scene.broker.port),
        identifier=f"{ROBBED}-batch",
        tls_context=scene.broker.authority.context(THIEF),
        will=aiomqtt.Will(topic, b"{}"),
    ) as liar:
        await scene.logged(f'will "{topic}"')
        liar._client._sock_close()
    async with portal(scene.broker, ROBBED, "batch"):
        pass
    async with portal(scene.broker, ROBBED, "batch", certificate=THIEF):
        await scene.logged(f'client-id-of "{ROBBED}"')
    assert scene.robbed.heard[heard:] == []


@pytest.fixture
async def field(tmp_path: Path) -> AsyncIterator[FieldHeadend]:
    async with field_headend(tmp_path) as made:
        await made.set_up(KAISA)
        await made.set_up(OTHER, product="film", operator="other")
        yield made


ROUTES: Final = [route for route in technicians_app(None, None).routes if isinstance(route, Route)]  # type: ignore[arg-type]
BODIES: Final[dict[str, dict[str, Any]]] = {
    "/v1/cards/{number}/proof": {"challenge": "00" * 16, "proof": "00" * 16},
    "/v1/extract": {"cards": [spell(OTHER)]},
    "/v1/visits": {
        "laptop": "0" * 16,
        "visits": [
            {"seq": 1, "at": 1, "card": spell(OTHER), "act": "verify", "reader": "R", "verdict": "ok", "passed": True}
        ],
    },
}


@pytest.mark.parametrize("who", ["anna", "otto", "ros"])
async def test_no_role_of_a_technician_sees_anothers_card(field: FieldHeadend, who: str) -> None:
    """Over mutual TLS, by every route there is: what is another's is answered like what is nobody's."""
    before = await field.ledger.card_view(OTHER)
    nobody = spell(OTHER + 1)
    async with field.client(who) as client:
        for route in ROUTES:
            (method,) = (route.methods or {"GET"}) - {"HEAD"}
            path, body = route.path, BODIES.get(route.path)
            answer = await client.request(method, path.replace("{number}", spell(OTHER)), json=body)
            if "{number}" in path:
                assert answer.status_code in (403, 404), path
                same = await client.request(method, path.replace("{number}", nobody), json=body)
                assert answer.text.replace(spell(OTHER), nobody) == same.text, path
            assert f"s-{OTHER}" not in answer.text, path
            assert str(OTHER) not in answer.text.replace(spell(OTHER), ""), path
    assert await field.ledger.card_view(OTHER) == before
    asked = [one for one in await field.audit() if one.get("card") == spell(OTHER)]
    assert asked, "the attempts are in the audit"
    assert {one["operator"] for one in asked} == {"kaisa"}


async def test_the_open_port_tells_no_cards_and_takes_no_acts() -> None:
    clock, metrics = SystemClock(), Metrics(operators=["karjaa"])
    app = public_app(Health(clock, metrics), metrics)
    assert {route.path for route in app.routes if isinstance(route, Route)} == {"/livez", "/readyz", "/metrics"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cad") as client:
        for path in ("/v1/status", f"/v1/explain/{THEIRS}", "/v1/audit/export", "/v1/stock", "/v1/snapshot"):
            assert (await client.get(path)).status_code == 404


async def test_a_chip_of_another_operator_is_not_taken_into_stock(field: FieldHeadend) -> None:
    desk = LedgerDesk(field.ledger)
    for operator in ("kaisa", "other"):
        await desk.reserve(Reservation(operator=operator, batch="b", count=2))
    await desk.claim(Claim(operator="kaisa", batch="b", serial="A" * 20))
    with pytest.raises(StockRefusedError, match="another operator"):
        await desk.claim(Claim(operator="other", batch="b", serial="A" * 20))
    with pytest.raises(StockRefusedError, match="card range of other"):
        await desk.reserve(Reservation(operator="other", batch="c", count=1, first=KAISA + 500))


def question_desk(field: FieldHeadend) -> HeadendView:
    """What the control socket asks, over the ledger of the field's headend."""
    return HeadendView(field.air, field.ledger, field.clock, dict, 0.0)  # type: ignore[arg-type]


async def test_explain_for_one_operator_answers_of_its_own_cards_only(field: FieldHeadend) -> None:
    desk = question_desk(field)
    found = await desk.explain(spell(KAISA), "sport-1", "kaisa")
    assert (found["operator"], found["channel"]["needs"][0]["code"]) == ("kaisa", "multiplex")
    assert await desk.explain(spell(KAISA), "sport-1") == found
    refused = {}
    for address in (OTHER, OTHER + 1, KAISA + 1):
        with pytest.raises(NotFoundError) as error:
            await desk.explain(spell(address), None, "kaisa")
        refused[address] = str(error.value).replace(spell(address), "…")
    assert set(refused.values()) == {"card … is not a card of kaisa"}
    with pytest.raises(NotFoundError, match="there is no operator 'nobody'"):
        await desk.explain(spell(KAISA), None, "nobody")


async def test_a_card_in_stock_is_told_of_to_its_own_operator_only(field: FieldHeadend) -> None:
    stock, desk = LedgerDesk(field.ledger), question_desk(field)
    first = (await stock.reserve(Reservation(operator="other", batch="box-17", count=1)))["first"]
    await stock.claim(Claim(operator="other", batch="box-17", serial="A" * 20))
    with pytest.raises(NotFoundError, match="box-17"):
        await desk.explain(spell(first), None, "other")
    with pytest.raises(NotFoundError, match=r"^card [0-9]+ is not a card of kaisa$"):
        await desk.explain(spell(first), None, "kaisa")


async def test_an_extract_of_the_audit_holds_one_operators_records_with_the_macs_of_the_chain(
    field: FieldHeadend,
) -> None:
    desk = question_desk(field)
    whole = [json.loads(line) async for line in desk.audit_export()]
    for operator in ("kaisa", "other"):
        mine = [json.loads(line) async for line in desk.audit_export(operator)]
        assert mine == [one for one in whole if one.get("operator") == operator]
        assert len(mine) == 3
        assert all(len(one["mac"]) == 64 for one in mine)
    with pytest.raises(NotFoundError, match="there is no operator 'nobody'"):
        desk.audit_export("nobody")


async def cad(one: Headend, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cad", *arguments, "--config", str(one.config)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.slow
async def test_the_command_line_keeps_to_the_operator_that_is_named(tmp_path: Path) -> None:
    """`--operator`, through the daemon: a telco is shown nothing of another's, and what was asked is in the log."""
    card = spell(FIRST["kaisa"])
    async with headend(tmp_path, multiplexers=0) as one:
        await one.start()
        async with portal(one.broker, "kaisa") as kaisa:
            offer = {"offer": "sport", "rev": 1, "kind": "channel", "names": {"fi": "U"}, "products": ["sport"]}
            await kaisa.reply(await kaisa.order("offer", "put", offer), "committed")
            body = {"card": card, "rev": 1, "subscriber": SUBSCRIBER}
            await kaisa.reply(await kaisa.order("card", "assign", body), "committed")
            order = {"subscription": "s-1", "rev": 1, "card": card, "offer": "sport"}
            await kaisa.reply(await kaisa.order("subscription", "put", order), "committed")
        today = datetime.now(HELSINKI).date()  # reports go by the operator's days
        period = ("--from", str(today - timedelta(1)), "--to", str(today + timedelta(1)))
        view = tmp_path / "view"
        view.write_text(json.dumps({"item": "card", "card": card, "subscriber": "somebody-else"}))

        for operator, seen in (("kaisa", True), ("other", False)):
            scope = ("--operator", operator)
            code, shown = await cad(one, "report", "active", "--day", str(today), *scope, "--json")
            assert code == 0, shown
            (found,) = json.loads(shown)["operators"]
            assert (found["operator"], found["cards"], bool(found["offers"])) == (operator, int(seen), seen)
            code, shown = await cad(one, "report", "changes", *period, *scope)
            assert (code, card in shown, "sport-1" in shown) == (0, seen, seen), shown
            code, shown = await cad(one, "report", "snapshot", *scope)
            assert (code, SUBSCRIBER in shown) == (0, seen), shown
            code, shown = await cad(one, "report", "differences", str(view), *scope)
            assert (code, SUBSCRIBER in shown) == (4, seen), shown
            code, shown = await cad(one, "audit", "export", *scope)
            assert (code, SUBSCRIBER in shown) == (0, seen), shown
            code, shown = await cad(one, "explain", card, "sport-1", *scope)
            assert (code, SUBSCRIBER in shown) == (0 if seen else 8, seen), shown
            assert seen or f"card {card} is not a card of other" in shown
        for command in (
            *(("report", "active", "--day", str(today)), ("report", "changes", *period), ("report", "snapshot")),
            *(("audit", "export"), ("explain", card), ("offer", "list")),
        ):
            code, shown = await cad(one, *command, "--operator", "nobody")
            assert code == 8, shown
            assert "no operator 'nobody'" in shown
        told = [(event["event"], event["operator"], event["path"]) for event in one.events() if "operator" in event]
        assert {event["who"] for event in one.events() if event["event"] in ("data read", "request refused")} == {
            f"{getpass.getuser()} (uid {os.getuid()})"
        }
    read = ["/v1/reports/active", "/v1/reports/changes", "/v1/snapshot", "/v1/snapshot", "/v1/audit/export"]
    explain = f"/v1/explain/{card}"
    assert [path for event, operator, path in told if (event, operator) == ("data read", "kaisa")] == read
    assert [path for event, operator, path in told if (event, operator) == ("data read", "other")] == read
    assert [path for event, operator, path in told if (event, operator) == ("request refused", "other")] == [explain]
    assert [path for event, operator, path in told if (event, operator) == ("request refused", "nobody")] == [
        *(*read[:3], read[4], explain, "/v1/offers")
    ]
