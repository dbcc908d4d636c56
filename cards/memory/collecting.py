"""When a card takes an EMM: versions strictly rise, and all parts of a version are taken at once (D1, D2). Pure."""

from dataclasses import replace

from cards.memory.contents import Collection, Track
from cards.status_word import StatusWord
from emm.message import EmmHeader
from emm.payload import EmmPayload
from emm.traits import is_said_twice


def judge(track: Track, header: EmmHeader) -> StatusWord:
    """Whether an EMM with this header says something new: OK, ALREADY_HELD or OLDER_VERSION.

    Older is also what precedes a version of which parts are held: the card knows that newer truth is on its way.
    """
    if track.held is not None and header.version <= track.held:
        return StatusWord.ALREADY_HELD if header.version == track.held else StatusWord.OLDER_VERSION
    collecting = track.collecting
    if collecting is None or header.version > collecting.version:
        return StatusWord.OK
    if header.version < collecting.version:
        return StatusWord.OLDER_VERSION
    same = header.last_part == collecting.last_part
    return StatusWord.ALREADY_HELD if same and collecting.holds(header.part) else StatusWord.OK


def add(track: Track, header: EmmHeader, payload: EmmPayload) -> tuple[Track, StatusWord]:
    """The track after a part that `judge` found new and whose tag has verified.

    OK: the version was complete and replaces all that the track held; PART_HELD: other parts are awaited;
    NOT_UNDERSTOOD: the parts contradict each other, and the version's parts are dropped.
    """
    parts: tuple[tuple[int, EmmPayload], ...] = ()
    collecting = track.collecting
    if collecting is not None and (collecting.version, collecting.last_part) == (header.version, header.last_part):
        parts = collecting.parts
    grown = Collection(header.version, header.last_part, tuple(sorted((*parts, (header.part, payload)), key=_number)))
    blocks = [block for _, held in grown.parts for block in held.blocks]
    if len({held.state for _, held in grown.parts}) > 1 or is_said_twice(blocks):
        return replace(track, collecting=None), StatusWord.NOT_UNDERSTOOD
    if not grown.complete:
        return replace(track, collecting=grown), StatusWord.PART_HELD
    return Track(header.version, tuple(held for _, held in grown.parts)), StatusWord.OK


def _number(part: tuple[int, EmmPayload]) -> int:
    return part[0]
