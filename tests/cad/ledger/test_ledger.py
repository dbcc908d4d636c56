"""The ledger as the daemon sees it: on the event loop, in its own thread, mending itself."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cad.frame.clock import SystemClock
from cad.frame.supervisor import Supervisor
from cad.ledger.errors import AuditBroken, LedgerUnavailable
from cad.ledger.ledger import Ledger
from cad.ledger.model import CardChange, Grants, OutboxMessage
from cad.ledger.promise import NoPromise, Promise
from cad.ledger.store import FILE_NAME
from protocol.portal.events import REPLY_TYPE
from tests.support.clock import ManualClock
from tests.support.eventually import eventually
from tests.support.hand_clock import HandClock
from tests.support.ledgers import GRANTS, KEY, NOW, Air, assign, codes, offer, refresh, statuses, subscribe


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    ledger = await Ledger.open(tmp_path / FILE_NAME, audit_key=KEY, grants=GRANTS, clock=SystemClock())
    yield ledger
    await ledger.close()
    await ledger.close()


async def sql(ledger: Ledger, statement: str) -> Any:
    """Run a statement in the ledger's own thread."""
    return await ledger._run(ledger._store.read, lambda held: held.exec_driver_sql(statement).scalar())


def replies(messages: list[OutboxMessage]) -> list[OutboxMessage]:
    return [one for one in messages if one.type == REPLY_TYPE]


async def test_commits_run_in_one_thread_and_promises_on_the_event_loop(ledger: Ledger) -> None:
    threads: set[str] = set()

    def promise(operator: str, now: float) -> Promise:
        threads.add(threading.current_thread().name)
        return NoPromise(1, 2, f"for {operator}")

    ledger.promise = promise
    outcomes = await ledger.commit([assign(), assign("k1", "kaspnet", card=1001)])
    assert [outcome.reply.detail for outcome in outcomes if outcome.reply] == ["for karjaa", "for kaspnet"]
    assert threads == {threading.main_thread().name}
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("ledger")] == ["ledger_0"]


async def test_messages_for_the_outbox_are_handed_over_in_order_before_a_commit_returns(ledger: Ledger) -> None:
    told: list[OutboxMessage] = []
    ledger.on_messages = told.extend
    await asyncio.gather(*(ledger.commit([assign(f"a{card}", card=card)]) for card in range(20)))
    assert len(replies(told)) == 20
    assert [one.seq for one in told] == sorted(one.seq for one in told)
    assert await ledger.pending(0, 100) == told
    ledger.published([one.seq for one in told[5:]])
    assert ledger.unmarked == len(told) - 5
    await ledger.commit([refresh(card=1)])
    assert ledger.unmarked == 0
    assert await ledger.pending(0, 100) == [*told[:5], told[-1]]


@pytest.mark.slow
async def test_it_mends_itself_when_the_fault_is_over(ledger: Ledger) -> None:
    supervisor = Supervisor(SystemClock(), jitter=lambda: 0.0)
    said: list[str | None] = []
    recovered: list[CardChange] = []
    supervisor.start("keeper", lambda: ledger.keep(recovered.extend, said.append))
    await ledger.commit([assign()])
    pages = await sql(ledger, "PRAGMA page_count")
    await sql(ledger, f"PRAGMA max_page_count = {pages}")
    batch = [assign(f"a{card}", card=card, subscriber="x" * 60) for card in range(100, 400)]
    with pytest.raises(LedgerUnavailable):
        await ledger.commit(batch)
    assert "disk is full" in str(ledger.fault)
    async with asyncio.timeout(10):
        await ledger.wait_usable()
    assert ledger.fault is None
    assert set(statuses(await ledger.commit(batch))) == {"committed"}
    assert said[0] is None
    assert "disk is full" in str(said[1])
    await eventually(lambda: said[-1] is None)
    await supervisor.stop_all()


@pytest.mark.slow
async def test_a_whole_network_can_be_read_while_orders_go_on(ledger: Ledger) -> None:
    await ledger.commit([offer(), *(assign(f"a{card}", card=card) for card in range(100))])
    await ledger.commit([subscribe(f"s{card}", subscription=f"s{card}", card=card) for card in range(100)])
    cards = [int(address) async for block in ledger.load_cards("south") for address in block.addresses]
    rights = [int(address) async for block in ledger.load_rights("south") for address in block.addresses]
    assert cards == list(range(100))
    assert sorted(rights) == cards
    assert [block async for block in ledger.load_cards("north")] == []
    assert [block async for block in ledger.load_rights("north")] == []
    changes = [one async for one in ledger.open_changes(0)]
    assert [one.address for one in changes] == list(range(100))
    await ledger.first_air([Air(one.change_seq, mux, 1.0) for one in changes for mux in ("mux-1", "mux-2")])
    assert [one async for one in ledger.open_changes(ledger.highest_time + 1)] == []
    await ledger.prune()
    view = await ledger.card_view(7)
    assert view is not None
    assert len(view.changes) == 2


async def test_the_audit_chain_is_verified_and_exported(ledger: Ledger) -> None:
    await ledger.commit([offer(), assign()])
    await ledger.note("operator", {"action": "test"})
    head = await ledger.audit_head()
    assert await ledger.audit_verify() == head
    assert await ledger.audit_verify(head) == head
    exported = [record async for record in ledger.audit_export()]
    assert [record["seq"] for record, _ in exported] == list(range(1, head.seq + 1))
    assert exported[-1][1] == head.mac.hex()
    assert exported[-1][0]["action"] == "test"
    await sql(ledger, "UPDATE audit SET record = replace(record, 'test', 'tent') RETURNING 1")
    with pytest.raises(AuditBroken) as found:
        await ledger.audit_verify()
    assert found.value.seq == head.seq


async def test_an_order_given_up_by_its_caller_is_carried_out_and_its_reply_goes_out(ledger: Ledger) -> None:
    told: list[OutboxMessage] = []
    ledger.on_messages = told.extend
    begun, given_up = threading.Event(), threading.Event()
    commit = ledger._store.commit

    def slow(*arguments: Any) -> Any:
        begun.set()
        given_up.wait(10)
        return commit(*arguments)

    ledger._store.commit = slow  # type: ignore[method-assign]
    waiting = asyncio.create_task(ledger.commit([assign()]))
    await asyncio.to_thread(begun.wait, 10)
    waiting.cancel()
    given_up.set()
    await asyncio.gather(waiting, return_exceptions=True)
    assert codes(await ledger.commit([refresh()])) == ["ok"]
    assert [one.payload.split(b'"')[3] for one in replies(told)] == [b"assign-1", b"refresh-1"]


async def test_a_clock_that_is_wrong_at_the_start_gets_no_record(tmp_path: Path) -> None:
    first = await Ledger.open(tmp_path / FILE_NAME, audit_key=KEY, grants=GRANTS, clock=ManualClock(NOW))
    await first.close()
    # A hundred years ahead, and changed settings, which are put on record at once.
    clock = HandClock(NOW + 100 * 366 * 86_400.0)

    def time_after(seen: float) -> float:
        clock.remember(seen)
        return clock.now()

    again = await Ledger.open(
        tmp_path / FILE_NAME, audit_key=KEY, grants=Grants({}), clock=clock, time_after=time_after
    )
    assert clock.suspect
    assert again.highest_time < NOW + 60
    await again.close()
