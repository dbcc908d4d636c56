"""C6, M3 through daemon, broker and multiplexer: messages to a card, by offer, by region, to all; what cards show."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from emm.notices.content import Fingerprint, Message, Notice
from protocol.portal.fields import spell_moment
from tests.support.headend import FIRST, Headend, Viewer, headend
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration

LONG = "Уважаемый абонент! Завтра с 02:00 до 05:00 вещание может прерываться. " * 4


REGIONS = """
[[networks.regions]]
id = "coast"
name = "Coast"
number = 7
[[networks.regions]]
id = "inland"
name = "Inland"
number = 8
"""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Headend]:
    async with headend(tmp_path, multiplexers=1) as one:
        one.write_settings(lambda text: text.replace("[[operators]]", REGIONS + "[[operators]]", 1))
        await one.start()
        yield one


async def committed(one: Portal, command: str, **body: Any) -> dict[str, Any]:
    reply = await one.reply(await one.order(*command.split(), body))
    assert reply.payload["code"] == "ok", reply.payload
    return reply.payload


def aired(one: Portal) -> dict[tuple[str, int], float]:
    """When each message was told to have been sent to all, by name and rev: once, but for repeats of the same event."""
    events = {
        heard.properties["id"]: heard.payload for heard in one.heard if heard.topic.endswith("/evt/message/on-air")
    }
    found = {(event["message"], event["rev"]): moment(event["at"]) for event in events.values()}
    assert len(found) == len(events), events
    return found


def moment(spelt: str) -> float:
    return datetime.fromisoformat(spelt).timestamp()


def shown(card: Viewer) -> list[Notice]:
    """What lies in the card's mailbox after all it has heard."""
    card.listen()
    return [card.session.letter(held.number) for held in card.session.mailbox()]


def texts(card: Viewer) -> list[str]:
    return [dict(one.texts)["ru"] for one in shown(card) if isinstance(one, Message)]


async def test_c06_messages_and_fingerprints_reach_those_they_are_for(running: Headend) -> None:
    mine, neighbour = running.card(FIRST["kaisa"]), running.card(FIRST["kaisa"] + 1)
    others = running.card(FIRST["other"])
    async with portal(running.broker, "kaisa") as kaisa, portal(running.broker, "other") as other:
        await committed(kaisa, "offer put", offer="sport", rev=1, kind="channel", names={"fi": "U"}, products=["sport"])
        for number, card in enumerate((mine, neighbour)):
            await committed(kaisa, "card assign", card=card.number, rev=1, subscriber=f"customer-{number}")
        await committed(kaisa, "subscription put", subscription="s-1", rev=1, card=mine.number, offer="sport")
        await committed(other, "card assign", card=others.number, rev=1, subscriber="customer")

        ordered_at = int(time.time())
        reply = await committed(kaisa, "card message", card=mine.number, message="one", rev=1, text={"ru": LONG})
        assert reply["card"] == mine.number
        few = await committed(kaisa, "message put", message="few", rev=1, to={"offer": "sport"}, text={"ru": "Хоккей"})
        to_all = {"to": {"all": True}, "mode": "forced"}
        everyone = await committed(kaisa, "message put", message="all", rev=1, text={"ru": "Всем"}, **to_all)
        await running.until(lambda: sorted(texts(mine)) == sorted([LONG, "Хоккей", "Всем"]), "three messages")
        await running.until(lambda: texts(neighbour) == ["Всем"], "the message to all")
        assert [held.due for held in mine.session.mailbox() if held.forced] == [True]
        await running.until(lambda: len(aired(kaisa)) == 3, "the events of three messages")
        for told, name in ((reply, "one"), (few, "few"), (everyone, "all")):
            assert ordered_at <= aired(kaisa)[name, 1] <= moment(told["on_air_by"]) < ordered_at + 600
            assert told["visible_by"] is None

        to = {"cards": [neighbour.number]}
        await committed(kaisa, "card fingerprint", message="print", rev=1, to=to, service="film-1", duration_s=20)
        await running.until(lambda: any(isinstance(one, Fingerprint) for one in shown(neighbour)), "the fingerprint")
        (print_,) = [one for one in shown(neighbour) if isinstance(one, Fingerprint)]
        assert (print_.service_id, print_.duration_s) == (102, 20)

        refused = await other.reply(await other.order("message", "withdraw", {"message": "all", "rev": 2}))
        assert refused.payload["code"] == "unknown_message"
        body = {"message": "m", "rev": 1, "to": {"cards": [mine.number]}, "text": {"ru": "!"}}
        refused = await other.reply(await other.order("message", "put", body))
        assert refused.payload["code"] == "unknown_card"
        await committed(other, "message put", message="all", rev=1, to={"all": True}, text={"ru": "Другим"})
        await running.until(lambda: texts(others) == ["Другим"], "the other operator's own message, and no other")
        assert len(shown(mine)) == 3
        assert not any(isinstance(one, Fingerprint) for one in shown(mine))

        metrics = (await running.ask("/metrics")).text
        assert 'cad_messages_active{operator="kaisa"} 4.0' in metrics
        assert 'cad_sent_emms_total{multiplex="mux-0",ring="notice"}' in metrics


async def test_c06_a_message_to_a_region_reaches_the_operators_cards_that_stand_there(running: Headend) -> None:
    coast, inland = running.card(FIRST["kaisa"]), running.card(FIRST["kaisa"] + 1)
    others = running.card(FIRST["other"])
    async with portal(running.broker, "kaisa") as kaisa, portal(running.broker, "other") as other:
        for one, card, region in ((kaisa, coast, "coast"), (kaisa, inland, "inland"), (other, others, "coast")):
            body = {"card": card.number, "rev": 1, "subscriber": "customer", "region": region}
            await committed(one, "card assign", **body)
        to = {"to": {"region": "coast"}}
        await committed(kaisa, "message put", message="storm", rev=1, text={"ru": "Шторм"}, **to)
        await committed(kaisa, "card fingerprint", message="print", rev=1, **to)
        await running.until(lambda: len(shown(coast)) == 2, "message and fingerprint on the coast")
        assert (texts(coast), shown(inland), shown(others)) == (["Шторм"], [], [])
        listed = (await running.ask("/v1/messages")).json()["messages"]
        assert [one["to"] for one in listed] == ["cards in region coast"] * 2

        nowhere = {"message": "m", "rev": 1, "to": {"region": "moon"}, "text": {"ru": "!"}}
        refused = await kaisa.reply(await kaisa.order("message", "put", nowhere))
        assert refused.payload["code"] == "unknown_region"
        await committed(kaisa, "card region", card=inland.number, rev=2, region="coast")
        await committed(kaisa, "message put", message="later", rev=1, text={"ru": "Штиль"}, **to)
        await running.until(lambda: sorted(texts(inland)) == ["Штиль", "Шторм"], "both messages, once it stands there")
        assert shown(others) == []


async def test_c06_a_message_survives_kill_9_and_a_card_that_comes_later_hears_it(running: Headend) -> None:
    first = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await committed(kaisa, "message put", message="all", rev=1, to={"all": True}, text={"ru": "Всем"}, repeat_s=30)
        await running.until(lambda: texts(first) == ["Всем"], "the message")
        await running.until(lambda: aired(kaisa), "the event")
        sent = set(running.multiplexers[0].whole_sections)
        running.kill()
        heard = len(running.multiplexers[0].whole_sections)
        await running.start()
        late = running.card(FIRST["kaisa"] + 7)
        late.skip(heard)
        await running.until(lambda: texts(late) == ["Всем"], "the message after the restart")
        notices = {section for section in running.multiplexers[0].whole_sections if section[0] == 0x88}
        assert notices <= sent, "the same bytes as before, which receivers drop"
        await committed(kaisa, "message withdraw", message="all", rev=2)
        listed = await running.until(lambda: nothing_listed(running), "the message to be gone")
        assert listed
        later = running.card(FIRST["kaisa"] + 8)
        later.skip(len(running.multiplexers[0].whole_sections))
        await asyncio.sleep(0.5)
        assert shown(later) == []
        assert list(aired(kaisa)) == [("all", 1)], "not told again after the restart"


async def test_c06_nothing_is_promised_while_a_multiplex_is_away_and_it_is_told_when_it_was_sent(
    running: Headend,
) -> None:
    card, mux = running.card(FIRST["kaisa"]), running.multiplexers[0]
    async with portal(running.broker, "kaisa") as kaisa:
        await committed(kaisa, "card assign", card=card.number, rev=1, subscriber="customer")
        await mux.stop()
        await running.until(lambda: is_away(running), "the daemon to miss the multiplexer")
        reply = await committed(kaisa, "message put", message="all", rev=1, to={"all": True}, text={"ru": "Всем"})
        assert (reply["on_air_by"], reply["visible_by"]) == (None, None)
        assert "no time can be told while multiplex mux-0 is not connected" in reply["detail"]
        body = {"message": "later", "rev": 1, "card": card.number, "text": {"ru": "Потом"}}
        reply = await committed(kaisa, "card message", starts_at=spell_moment(int(time.time()) + 3600), **body)
        assert reply["on_air_by"] is None
        running.kill()
        assert aired(kaisa) == {}
        await mux.listen()
        await running.start()
        await running.until(lambda: texts(card) == ["Всем"], "the message after the restart")
        await running.until(lambda: list(aired(kaisa)) == [("all", 1)], "the event")
        starts_at = int(time.time()) + 1800
        body = {"message": "soon", "rev": 1, "to": {"all": True}, "text": {"ru": "Скоро"}}
        reply = await committed(kaisa, "message put", starts_at=spell_moment(starts_at), **body)
        assert starts_at <= moment(reply["on_air_by"]) < starts_at + 600
        reply = await committed(kaisa, "message put", message="none", rev=1, to={"region": "coast"}, text={"ru": "!"})
        assert (reply["on_air_by"], "no card is among the recipients" in reply["detail"]) == (None, True)


async def is_away(running: Headend) -> bool:
    return not (await running.ask("/v1/status")).json()["networks"][0]["multiplexes"][0]["connected"]


async def nothing_listed(running: Headend) -> bool:
    return (await running.ask("/v1/messages")).json()["messages"] == []
