"""The portal's client against a real broker and a real headend."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cad.portal.client import PortalClient
from cad.portal.errors import UnknownCommandError
from cad.portal.messages import Fact
from cad.portal.settings import PortalSettings
from protocol.card_number import spell
from protocol.portal.codes import Code
from protocol.portal.commands.cards import CardAssign, CardRefresh
from protocol.portal.commands.offers import OfferPut
from protocol.portal.commands.parsing import COMMANDS
from protocol.portal.commands.subscriptions import SubscriptionPut
from protocol.portal.events import CardOnAir
from protocol.portal.replies import Status
from tests.support.broker import HOST, Mosquitto, running
from tests.support.eventually import eventually
from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import portal as plain_portal

pytestmark = pytest.mark.integration

CARD = FIRST["kaisa"]
OFFER = OfferPut(offer="sport", rev=1, kind="channel", names={"en": "Sport"}, products=("sport",))
ASSIGN = CardAssign(card=CARD, rev=1, subscriber="customer-1")
SUBSCRIBE = SubscriptionPut(subscription="s-1", rev=1, card=CARD, offer="sport")


def settings(broker: Mosquitto, folder: Path, operator: str = "kaisa", **changed: Any) -> PortalSettings:
    cert_file, key_file = broker.authority.issue(operator)
    given: dict[str, Any] = {
        "operator": operator,
        "outbox": folder / f"{operator}-outbox.db",
        "host": HOST,
        "port": broker.port,
        "ca_file": broker.authority.ca_file,
        "cert_file": cert_file,
        "key_file": key_file,
        "repeat_after_s": 0.5,
    }
    return PortalSettings(**given | changed)


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[Headend]:
    async with headend(tmp_path, multiplexers=1) as one:
        await one.start()
        yield one


async def next_fact(client: PortalClient) -> Fact:
    async with asyncio.timeout(15), contextlib.aclosing(client.facts()) as facts:
        async for fact in facts:
            return fact
    raise AssertionError


async def test_orders_are_answered_and_events_come(whole: Headend, tmp_path: Path) -> None:
    async with PortalClient(settings(whole.broker, tmp_path)) as portal, asyncio.timeout(30):
        ids = await portal.send_all([OFFER, ASSIGN, SUBSCRIBE])
        answers = [await portal.answer(one) for one in ids]
        assert [(one.status, one.code) for one in answers] == [(Status.COMMITTED, Code.OK)] * 3
        assert answers[2].card == CARD
        assert answers[2].visible_by is not None
        refused = await portal.order(SUBSCRIBE.model_copy(update={"subscription": "s-2", "offer": "nothing"}))
        assert (refused.status, refused.code, refused.ok) == (Status.REJECTED, Code.UNKNOWN_OFFER, False)
        told: set[str] = set()
        async for fact in portal.facts():
            if isinstance(fact.fact, CardOnAir):
                assert fact.fact.card == CARD
                told.add(fact.fact.command)
            if ids[2] in told:
                break
        await eventually(lambda: portal.headends)
        assert portal.serves("1.0") is True
        assert portal.serves("1.999") is False
        assert portal.serves("2.0") is False
        with pytest.raises(UnknownCommandError):
            await portal.answer("never sent")


async def test_commands_wait_for_a_broker_that_is_not_there_and_for_the_portal_that_restarts(
    whole: Headend, tmp_path: Path
) -> None:
    whole.broker.kill()
    ours = settings(whole.broker, tmp_path)
    async with PortalClient(ours) as portal:
        ids = await portal.send_all([OFFER, ASSIGN, SUBSCRIBE])
        await eventually(lambda: portal.last_error)
        assert "start the broker" in str(portal.last_error)
    whole.broker.start()
    async with PortalClient(ours) as portal, asyncio.timeout(30):
        assert [(await portal.answer(one)).ok for one in ids] == [True] * 3
        assert portal.waiting == 0
    async with PortalClient(ours) as portal:
        assert [entry.answer.ok for entry in await portal.commands() if entry.answer] == [True] * 3


async def test_a_lost_reply_is_asked_for_again_and_nothing_is_done_twice(whole: Headend, tmp_path: Path) -> None:
    """The order gets through, the reply does not: the portal was gone, and its session with it."""
    command = ASSIGN.model_copy(update={"id": "order-1"})
    async with plain_portal(whole.broker, "kaisa") as plain:
        await plain.order("card", "assign", json.loads(command.model_dump_json(exclude_defaults=True)), "order-1")
        await plain.reply("order-1", "committed")
    async with PortalClient(settings(whole.broker, tmp_path)) as portal, asyncio.timeout(20):
        answer = await portal.order(command)
    assert answer.status is Status.DUPLICATE
    assert answer.ok


async def test_a_fact_that_was_not_taken_comes_again_after_a_restart(whole: Headend, tmp_path: Path) -> None:
    ours = settings(whole.broker, tmp_path)
    async with PortalClient(ours) as portal:
        await portal.order(ASSIGN)
        first = await next_fact(portal)
    async with PortalClient(ours) as portal:
        assert await next_fact(portal) == first


async def test_what_the_headend_cannot_understand_is_answered_too(
    whole: Headend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client newer than the headend: its command is told on `rej`, and does not wait for ever."""

    class CardDance(CardRefresh):
        verb = "dance"

    monkeypatch.setitem(COMMANDS, ("card", "dance"), CardDance)
    async with PortalClient(settings(whole.broker, tmp_path)) as portal, asyncio.timeout(20):
        answer = await portal.order(CardDance(card=CARD))
        assert (answer.status, answer.code) == (Status.REJECTED, Code.UNKNOWN_COMMAND)
        assert answer.detail


async def test_a_broker_that_does_not_let_us_in_says_why(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        wrong = settings(broker, tmp_path, ca_file=broker.authority.folder / "broker.pem")
        async with PortalClient(wrong) as portal:
            await portal.send(ASSIGN)
            await eventually(lambda: portal.last_error)
            assert "certificate verify failed" in str(portal.last_error)
            assert portal.serves("1.0") is None
            assert portal.waiting == 1


async def test_an_operator_that_is_not_ours_is_denied_and_said_so(whole: Headend, tmp_path: Path) -> None:
    cert_file, key_file = whole.broker.authority.issue("other")
    stolen = settings(whole.broker, tmp_path, cert_file=cert_file, key_file=key_file)
    async with PortalClient(stolen) as portal:
        await portal.send(CardRefresh(card=CARD))
        await eventually(lambda: portal.last_error)
        assert portal.waiting == 1
    assert spell(CARD) not in whole.log_tail()


async def test_leaving_while_connecting_leaves_nothing_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(tmp_path) as broker:
        for pause_s in (0, 0.005, 0.01, 0.02, 0.05):
            async with PortalClient(settings(broker, tmp_path)):
                await asyncio.sleep(pause_s)
        assert len(asyncio.all_tasks()) == 1
    assert caplog.records == []
