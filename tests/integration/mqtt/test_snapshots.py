"""Resync over a real broker (C5): a portal compares what it believes with what the headend has, and nothing changes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from cad.portal.client import PortalClient
from cad.portal.errors import SnapshotError
from cad.portal.settings import PortalSettings
from protocol.card_number import spell
from protocol.portal.commands import snapshot
from protocol.portal.commands.snapshot import AnyItem, CardItem, OfferItem, SubscriptionItem
from tests.support.broker import HOST, Mosquitto, running
from tests.support.order_desk import OrderDesk, mqtt_settings, order_desk
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration

OFFER = {"offer": "sport", "rev": 1, "kind": "channel", "names": {"fi": "Urheilu"}, "products": ["sport"]}
CARDS = range(1, 40)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with running(tmp_path) as one:
        yield one


@pytest.fixture
async def desk(broker: Mosquitto, tmp_path: Path) -> AsyncIterator[OrderDesk]:
    async with order_desk(tmp_path / "state", mqtt_settings(broker)) as one:
        yield one


@pytest.fixture
async def karjaa(broker: Mosquitto, desk: OrderDesk) -> AsyncIterator[Portal]:
    async with portal(broker, "karjaa") as one:
        await fill(one)
        yield one


async def fill(one: Portal) -> None:
    await one.reply(await one.order("offer", "put", OFFER), "committed")
    for number in CARDS:
        await one.order("card", "assign", {"card": spell(number), "rev": 1, "subscriber": f"c-{number}"})
        body = {"subscription": f"s-{number}", "rev": 1, "card": spell(number), "offer": "sport"}
        last = await one.order("subscription", "put", body)
    await one.reply(last, "committed", 30)


def settings(broker: Mosquitto, folder: Path, operator: str = "karjaa") -> PortalSettings:
    cert_file, key_file = broker.authority.issue(operator)
    return PortalSettings(
        operator=operator,
        outbox=folder / f"{operator}.db",
        host=HOST,
        port=broker.port,
        ca_file=broker.authority.ca_file,
        cert_file=cert_file,
        key_file=key_file,
        repeat_after_s=1.0,
    )


def view() -> list[AnyItem]:
    """What the portal believes: just as it ordered."""
    offer = OfferItem(offer="sport", rev=1, kind="channel", names={"fi": "Urheilu"}, products=("sport",))
    cards = [CardItem(card=number, subscriber=f"c-{number}", state="active") for number in CARDS]
    subscriptions = [
        SubscriptionItem(subscription=f"s-{number}", card=number, offer="sport", ends_at=None) for number in CARDS
    ]
    return [offer, *cards, *subscriptions]


async def test_a_portal_that_is_right_learns_so_from_the_digests_alone(
    broker: Mosquitto, karjaa: Portal, tmp_path: Path
) -> None:
    async with PortalClient(settings(broker, tmp_path)) as client, asyncio.timeout(30):
        found = await client.differences(view())
        assert not found
        assert found.snapshot.items == {"card": 39, "offer": 1, "subscription": 39}
        assert [one.command.verb for one in await client.commands()] == ["request"], "no page was asked for"


async def test_every_kind_of_difference_is_found(
    desk: OrderDesk, broker: Mosquitto, karjaa: Portal, tmp_path: Path
) -> None:
    before = await desk.ledger.card_view(3)
    theirs = [one for one in view() if not (isinstance(one, CardItem) and one.card == 5)]
    theirs.append(SubscriptionItem(subscription="only-there", card=5, offer="sport"))
    place = next(n for n, one in enumerate(theirs) if isinstance(one, SubscriptionItem) and one.subscription == "s-3")
    theirs[place] = theirs[place].model_copy(update={"offer": "film"})
    async with PortalClient(settings(broker, tmp_path)) as client, asyncio.timeout(30):
        found = await client.differences(theirs)
    assert [one["subscription"] for one in found.missing_here] == ["only-there"]
    assert [one["card"] for one in found.missing_there] == [spell(5)]
    (different,) = found.different
    assert (different.item, different.name, different.fields) == ("subscription", "s-3", {"offer": ("sport", "film")})
    assert await desk.ledger.card_view(3) == before


async def test_all_items_come_in_pages_each_once_and_the_digest_is_theirs(
    broker: Mosquitto, karjaa: Portal, tmp_path: Path
) -> None:
    async with PortalClient(settings(broker, tmp_path)) as client, asyncio.timeout(30):
        taken = await client.snapshot()
        items = [item async for item in client.items(taken)]
    keys = [snapshot.key(one["item"], snapshot.name_of(one)) for one in items]
    assert keys == sorted(set(keys))
    assert len(keys) == sum(taken.items.values()) == 79
    buckets = snapshot.digests(zip(keys, map(snapshot.line, items), strict=True))
    assert snapshot.digest(buckets) == taken.digest


async def wait_for(one: Portal, name: str, command_id: str) -> dict[str, Any]:
    key = "snapshot" if name == "taken" else "command"
    heard = await one.until(
        lambda told: told.topic.endswith(f"/rep/web/{name}") and told.payload[key] == command_id, 20
    )
    return heard.payload


async def test_a_portal_without_our_client_sends_its_own_view(karjaa: Portal) -> None:
    taken = await karjaa.order("snapshot", "request", {})
    assert (await wait_for(karjaa, "taken", taken))["items"]["card"] == 39
    reply = await karjaa.reply(taken, "committed")
    assert reply.payload["detail"].startswith("79 items as of ")
    items = [{"item": "card", "card": spell(1), "subscriber": "somebody-else"}, {"item": "card", "card": spell(99)}]
    ends = snapshot.key("card", spell(1))
    asked = await karjaa.order(
        "snapshot", "compare", {"snapshot": taken, "after": ends[:2], "upto": ends[:3] + "g", "items": items}
    )
    told = await wait_for(karjaa, "differences", asked)
    (different,) = told["different"]
    assert different["fields"] == [{"field": "subscriber", "here": "c-1", "there": "somebody-else"}]
    assert (await karjaa.reply(asked)).payload["code"] == "ok"


async def test_the_same_command_again_changes_nothing_and_gives_the_same_snapshot(
    desk: OrderDesk, karjaa: Portal
) -> None:
    command_id = await karjaa.order("snapshot", "request", {}, "again")
    first = await wait_for(karjaa, "taken", "again")
    await karjaa.reply(command_id, "committed")
    await karjaa.reply(await karjaa.order("card", "suspend", {"card": spell(1), "rev": 2}), "committed")
    await karjaa.order("snapshot", "request", {}, "again")
    await karjaa.reply(command_id, "duplicate")
    told = [one.payload for one in karjaa.heard if one.topic.endswith("/taken")]
    assert told == [first, first]


async def test_after_a_restart_the_portal_is_told_to_ask_again(
    broker: Mosquitto, desk: OrderDesk, karjaa: Portal, tmp_path: Path
) -> None:
    async with PortalClient(settings(broker, tmp_path)) as client, asyncio.timeout(60):
        taken = await client.snapshot()
        await desk.crash()
        assert list((tmp_path / "state" / "snapshots").iterdir()) != [], "it left its file behind"
        async with order_desk(tmp_path / "state", mqtt_settings(broker)):
            assert list((tmp_path / "state" / "snapshots").iterdir()) == []
            with pytest.raises(SnapshotError) as refused:
                [item async for item in client.items(taken)]
            assert refused.value.code == "unknown_snapshot"
            assert not await client.differences(view())


async def test_a_snapshot_without_a_way_back_is_told_on_rej(karjaa: Portal) -> None:
    await karjaa.send("cad/v1/karjaa/cmd/snapshot/request", json.dumps({"id": "lost"}).encode())
    reject = await karjaa.until(lambda one: one.topic.endswith("/rej"))
    assert (reject.payload["id"], reject.payload["code"]) == (None, "bad_reply_topic")


async def test_fields_that_are_not_there_are_refused_by_name(karjaa: Portal) -> None:
    asked = await karjaa.order("snapshot", "request", {"fields": {"card": ["pin"]}})
    reply = await karjaa.reply(asked, "rejected")
    assert reply.payload["code"] == "invalid"
    assert "a card has no pin" in reply.payload["errors"][0]["text"]


async def test_what_it_reads_is_in_the_audit(desk: OrderDesk, karjaa: Portal) -> None:
    asked = await karjaa.order("snapshot", "read", {"snapshot": "never-taken"})
    reply = await karjaa.reply(asked, "rejected")
    assert reply.payload["code"] == "unknown_snapshot"
    records = [record async for record, _ in desk.ledger.audit_export()]
    assert (records[-1]["resource"], records[-1]["verb"], records[-1]["code"]) == (
        "snapshot",
        "read",
        "unknown_snapshot",
    )
