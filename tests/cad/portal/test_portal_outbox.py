"""The portal's outbox: on disk before a command leaves, also after kill -9; each id once; each fact once."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cad.portal.errors import CommandRefusedError, IdReusedError, OutboxError, UnknownCommandError
from cad.portal.messages import Answer
from cad.portal.outbox import Outbox
from protocol.card_number import spell
from protocol.portal.commands.cards import CardAssign, CardRefresh
from protocol.portal.commands.offers import OfferPut
from protocol.portal.events import CardOnAir

ASSIGN = CardAssign(id="one", card=7, rev=1, subscriber="customer-1")
ON_AIR = "cad/v1/kaisa/evt/card/on-air"
FACT = CardOnAir(card=7, command="one", multiplex="mux-1", at=1, revision=1, remaining=())


def answer(**changed: object) -> Answer:
    return Answer.model_validate(
        {"id": "one", "status": "committed", "code": "ok", "detail": ""} | changed, strict=False
    )


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    async with Outbox(tmp_path / "outbox.db", "kaisa", "web") as one:
        yield one


async def test_a_command_stays_until_it_is_answered_and_the_answer_stays(outbox: Outbox) -> None:
    (entry,) = await outbox.put([ASSIGN], 5.0)
    assert await outbox.open_commands() == [entry]
    assert entry.payload == b'{"id":"one","card":"%s","rev":1,"subscriber":"customer-1"}' % spell(7).encode()
    await outbox.settle([(entry.seq, answer(card=spell(7)))], [], 6.0)
    assert await outbox.open_commands() == []
    kept = (await outbox.get("one")).answer
    assert kept is not None
    assert kept.card == 7
    assert kept.ok


async def test_the_same_id_twice_is_one_command_and_another_content_is_refused(outbox: Outbox) -> None:
    first = await outbox.put([ASSIGN], 5.0)
    assert await outbox.put([ASSIGN], 9.0) == first
    for other in (ASSIGN.model_copy(update={"rev": 2}), CardRefresh(id="one", card=7)):
        with pytest.raises(IdReusedError, match="one"):
            await outbox.put([other], 9.0)


async def test_all_or_none(outbox: Outbox) -> None:
    with pytest.raises(IdReusedError):
        await outbox.put([ASSIGN, ASSIGN.model_copy(update={"rev": 2})], 5.0)
    assert await outbox.everything() == []


async def test_after_a_retryable_answer_the_same_command_goes_out_once_more(outbox: Outbox) -> None:
    (entry,) = await outbox.put([ASSIGN], 5.0)
    refused = answer(status="rejected", code="unknown_card", retryable=True)
    await outbox.settle([(entry.seq, refused)], [], 6.0)
    (again,) = await outbox.put([ASSIGN], 7.0)
    assert again.seq > entry.seq
    assert again.answer is None
    await outbox.settle([(again.seq, answer())], [], 8.0)
    assert (await outbox.put([ASSIGN], 9.0))[0].answer == answer()


async def test_a_command_too_large_is_refused_here(outbox: Outbox) -> None:
    names = {f"f{chr(97 + one // 26)}-{chr(97 + one % 26)}a": "ä" * 200 for one in range(20)}
    large = OfferPut(
        id="x",
        offer="a",
        rev=1,
        kind="channel",
        names=names,
        heading=names,
        products=tuple(f"p{one:030}" for one in range(64)),
    )
    with pytest.raises(CommandRefusedError, match="split"):
        await outbox.put([large], 1.0)


async def test_a_fact_comes_once_and_again_only_when_it_was_not_taken(outbox: Outbox) -> None:
    fact = ("event-1", ON_AIR, FACT.model_dump_json().encode())
    assert await outbox.settle([], [fact, fact], 1.0)
    assert not await outbox.settle([], [fact], 2.0)
    for _ in range(2):
        found = await outbox.next_fact()
        assert found is not None
        assert (found.id, found.resource, found.name, found.fact) == ("event-1", "card", "on-air", FACT)
    await outbox.take_fact(found.seq)
    assert await outbox.next_fact() is None
    assert not await outbox.settle([], [fact], 3.0)
    await outbox.forget_facts()
    assert await outbox.settle([], [fact], 4.0), "a replay that was asked for is heard"


async def test_facts_of_a_later_version_are_given_too(outbox: Outbox) -> None:
    added = FACT.model_dump_json()[:-1] + ',"added":1}'
    unknown = ("b", "cad/v1/kaisa/evt/card/danced", b'{"steps":3}')
    await outbox.settle([], [("a", ON_AIR, added.encode()), unknown, ("c", ON_AIR, b"no json")], 1.0)
    seen = []
    while (fact := await outbox.next_fact()) is not None:
        seen.append((fact.name, fact.fact, fact.data.get("steps")))
        await outbox.take_fact(fact.seq)
    assert seen == [("on-air", FACT, None), ("danced", None, 3), ("on-air", None, None)]


async def test_what_is_answered_and_taken_is_forgotten_in_time_and_nothing_else(outbox: Outbox) -> None:
    old, young = await outbox.put([ASSIGN, CardRefresh(id="two", card=7)], 1.0)
    await outbox.settle([(old.seq, answer())], [("a", ON_AIR, b"{}"), ("b", ON_AIR, b"{}")], 2.0)
    await outbox.take_fact(1)
    await outbox.forget(100.0)
    assert await outbox.everything() == [young]
    with pytest.raises(UnknownCommandError, match="one"):
        await outbox.get("one")
    found = await outbox.next_fact()
    assert found is not None
    assert found.id == "b"


@pytest.mark.slow
async def test_a_file_has_one_owner_and_one_user(outbox: Outbox, tmp_path: Path) -> None:
    with pytest.raises(OutboxError, match="in use by another process"):
        async with Outbox(tmp_path / "outbox.db", "kaisa", "web"):
            pass
    await outbox.__aexit__()
    with pytest.raises(OutboxError, match="belongs to kaisa/web"):
        async with Outbox(tmp_path / "outbox.db", "kaisa", "other"):
            pass
    assert (tmp_path / "outbox.db").stat().st_mode & 0o777 == 0o600


async def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"this is no database" * 100)
    for path, said in ((tmp_path / "no" / "folder", "cannot be opened"), (tmp_path / "garbage", "not a database")):
        with pytest.raises(OutboxError, match=said):
            async with Outbox(path, "kaisa", "web"):
                pass
    with sqlite3.connect(tmp_path / "later") as later:
        later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(OutboxError, match="format 99"):
        async with Outbox(tmp_path / "later", "kaisa", "web"):
            pass


async def test_a_closed_outbox_says_so(outbox: Outbox) -> None:
    await outbox.__aexit__()
    with pytest.raises(OutboxError, match="is closed"):
        await outbox.everything()


@pytest.mark.slow
async def test_what_was_put_is_there_after_kill_9(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from cad.portal.outbox import Outbox
from protocol.portal.commands.cards import CardRefresh
async def main():
    async with Outbox(Path({str(tmp_path / "outbox.db")!r}), "kaisa", "web") as outbox:
        number = 0
        while True:
            await outbox.put([CardRefresh(id=str(number), card=7)], 1.0)
            print(number, flush=True)
            number += 1
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(30)]
    os.kill(process.pid, signal.SIGKILL)
    told += [int(line) for line in process.stdout if line.endswith("\n")]
    process.stdout.close()
    process.wait()
    async with Outbox(tmp_path / "outbox.db", "kaisa", "web") as outbox:
        kept = [int(entry.id) for entry in await outbox.open_commands()]
    assert kept[: len(told)] == told
    assert len(kept) <= len(told) + 1
