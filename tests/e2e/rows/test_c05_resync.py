"""C5 through daemon and broker: portal and headend compare all they have, across kill -9, and nothing changes by it."""

import asyncio
import time
from pathlib import Path

import pytest

from cad.portal.client import PortalClient
from cad.portal.settings import PortalSettings
from protocol.portal.commands.cards import CardAssign
from protocol.portal.commands.offers import OfferPut
from protocol.portal.commands.snapshot import AnyItem, CardItem, SubscriptionItem
from protocol.portal.commands.subscriptions import SubscriptionEnd, SubscriptionPut
from tests.support.broker import HOST
from tests.support.headend import FIRST, Headend, headend

pytestmark = pytest.mark.integration

CARD = FIRST["kaisa"]


def settings(one: Headend, folder: Path) -> PortalSettings:
    cert_file, key_file = one.broker.authority.issue("kaisa")
    return PortalSettings(
        operator="kaisa",
        outbox=folder / "outbox.db",
        host=HOST,
        port=one.broker.port,
        ca_file=one.broker.authority.ca_file,
        cert_file=cert_file,
        key_file=key_file,
        repeat_after_s=1.0,
    )


async def test_c05_differences_are_found_told_and_set_right_by_commands_alone(tmp_path: Path) -> None:
    async with headend(tmp_path, multiplexers=1) as one:
        await one.start()
        viewer = one.card(CARD)
        async with PortalClient(settings(one, tmp_path)) as portal, asyncio.timeout(90):
            orders = [
                OfferPut(offer="sport", rev=1, kind="channel", names={"en": "Sport"}, products=("sport",)),
                CardAssign(card=CARD, rev=1, subscriber="customer-1"),
                SubscriptionPut(subscription="s-1", rev=1, card=CARD, offer="sport"),
            ]
            for order in orders:
                assert (await portal.order(order)).ok
            await one.until(lambda: viewer.opens("sport-1", time.time()), "the channel to open")

            forgetful: list[AnyItem] = [CardItem(card=CARD, subscriber="customer-1")]
            found = await portal.differences(forgetful)
            assert [one["subscription"] for one in found.missing_there if one["item"] == "subscription"] == ["s-1"]
            assert (found.missing_here, found.different) == ([], [])
            assert viewer.opens("sport-1", time.time()), "nothing changes without a command"

            asking = asyncio.ensure_future(portal.differences(forgetful))
            await asyncio.sleep(0)
            one.kill()
            await one.start()
            assert (await asking).missing_there == found.missing_there, "asked again by itself after kill -9"

            assert (await portal.order(SubscriptionEnd(subscription="s-1", rev=2))).ok
            right: list[AnyItem] = [*forgetful, SubscriptionItem(subscription="s-1", card=CARD, offer="sport")]
            found = await portal.differences(right)
            assert [item["subscription"] for item in found.missing_here] == ["s-1"], "what has ended is not there"
            await one.until(lambda: not viewer.opens("sport-1", time.time()), "the channel to close")
