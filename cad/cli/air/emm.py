"""`cad emm`: what EMMs say."""

import io
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import click
from pydantic import BaseModel, ConfigDict

from cad.cli.air.notice_view import NoticePartDocument, part_documents, spell_part
from cad.cli.air.section_files import Form, open_sections
from cad.cli.shell.exit_codes import ExitCode
from cad.cli.shell.options import config_option, json_option
from cad.cli.shell.output import console, show_json, table
from emm.errors import EmmError
from emm.keys import KeyLadder
from emm.message import FORMAT, NOTICE_FORMAT, EmmKind, SealedEmm, parse_emm
from emm.notices.seal import OpenedNotice, open_notice
from emm.payload import EmmPayload, OpaqueBlock, RightsBlock
from emm.seal import open_sealed
from protocol import card_number, receiver_number

PID_MAX: Final = 0x1FFE


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RightDocument(_Document):
    """A product within a window. `start` null: already open. Times: RFC 3339, UTC."""

    product_id: int
    start: str | None
    end: str
    epochs: list[int]


class ContentDocument(_Document):
    """What an opened EMM says, without its keys. `ignored_blocks`: tags that a card of this version skips.

    `receiver`: number of the one that the card is paired with, without the key of the pair. `pin_reset`: the mark of
    the newest reset of the PIN, 0 for none.
    """

    state: Literal["active", "suspended"]
    rights: list[RightDocument]
    receiver: str | None
    parental_level: int
    pin_reset: int
    ignored_blocks: list[int]


class EmmDocument(_Document):
    """An EMM. `card`: the printed number (unique EMMs only). `times`: how often just these bytes stand in the file.

    `content` of an EMM of format 1, `notice` of format 2.
    """

    kind: Literal["unique", "group", "global"]
    table_id: int
    format: int
    address: int
    card: str | None
    key_version: int
    period: int
    revision: int
    part: int
    last_part: int
    times: int
    section: str
    content: ContentDocument | None
    notice: NoticePartDocument | None = None


class FaultDocument(_Document):
    """A section with the table_id of an EMM that is none, or (with --open) does not open."""

    section: str
    times: int
    reason: str


class DecodedDocument(_Document):
    """`cad emm decode --json`. `others`: sections that are no EMMs, by table_id; `damage`: what the file had lost."""

    file: str
    form: Form
    pids: list[int]
    emms: list[EmmDocument]
    faults: list[FaultDocument]
    others: dict[str, int]
    damage: dict[str, int]


def _pid(_context: click.Context, _parameter: click.Parameter, values: Iterable[str]) -> tuple[int, ...]:
    pids: list[int] = []
    for value in values:
        try:
            pid = int(value, 0)
        except ValueError:
            pid = -1
        if not 0 <= pid <= PID_MAX:
            raise click.BadParameter(f"{value!r} is no PID: give 0..{PID_MAX}, also as 0x..")
        pids.append(pid)
    return tuple(pids)


@click.group("emm")
def group() -> None:
    """Decode EMMs."""


@group.command("decode")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--pid", "pids", multiple=True, callback=_pid, metavar="PID", help="Where EMMs are; else the CAT says.")
@click.option("--open", "opening", is_flag=True, help="Open them with the master key of the settings.")
@config_option
@json_option
def decode(file: Path, pids: tuple[int, ...], opening: bool, config: Path, as_json: bool) -> int:
    """Show each EMM in FILE: a transport stream, sections one after another, or their hexadecimal text.

    "-" is standard input. Equal EMMs are shown once. With --open it also shows what they say, without their keys.
    Exit code 11 when a section that should be an EMM is none or does not open.
    """
    ladder = _ladder(config) if opening else None
    with _stream(file) as stream:
        found = _decode(str(file), stream, pids, ladder)
    if as_json:
        show_json(found.model_dump(mode="json"))
    else:
        _show(found)
    return ExitCode.INPUT if found.faults else ExitCode.OK


def _stream(file: Path) -> AbstractContextManager[BinaryIO]:
    if str(file) == "-":
        return nullcontext(io.BytesIO(sys.stdin.buffer.read()))
    return file.open("rb")


def _ladder(config: Path) -> KeyLadder:
    from cad import keystore
    from config.load import load

    return KeyLadder(keystore.load(load(config).keys))


def _decode(name: str, stream: BinaryIO, pids: tuple[int, ...], ladder: KeyLadder | None) -> DecodedDocument:
    source = open_sections(stream, pids)
    others: Counter[str] = Counter()
    sections: Counter[bytes] = Counter()
    for section in source.sections():
        if section[0] in set(EmmKind):
            sections[section] += 1
        else:
            others[f"0x{section[0]:02X}"] += 1
    emms: list[EmmDocument] = []
    notices: dict[int, OpenedNotice] = {}
    faults: list[FaultDocument] = []
    for section, times in sections.items():
        try:
            emm = parse_emm(section)
            if ladder is not None and emm.header.format == NOTICE_FORMAT:
                notices[len(emms)] = open_notice(emm, _key(emm, ladder))
            emms.append(_document(emm, section, times, ladder))
        except EmmError as error:
            faults.append(FaultDocument(section=section.hex(), times=times, reason=str(error)))
    for place, said in zip(notices, part_documents(notices.values()), strict=True):
        emms[place] = emms[place].model_copy(update={"notice": said})
    return DecodedDocument(
        file=name,
        form=source.form,
        pids=list(source.pids),
        emms=emms,
        faults=faults,
        others=dict(sorted(others.items())),
        damage=dict(source.damage),
    )


def _document(emm: SealedEmm, section: bytes, times: int, ladder: KeyLadder | None) -> EmmDocument:
    header = emm.header
    return EmmDocument(
        kind=_KIND[header.kind],
        table_id=header.kind,
        format=header.format,
        address=header.address,
        card=card_number.spell(header.address) if header.kind is EmmKind.UNIQUE else None,
        key_version=header.key_version,
        period=header.version.period,
        revision=header.version.revision,
        part=header.part,
        last_part=header.last_part,
        times=times,
        section=section.hex(),
        content=_content(open_sealed(emm, _key(emm, ladder)).payload) if ladder and header.format == FORMAT else None,
    )


_KIND: Final[dict[EmmKind, Literal["unique", "group", "global"]]] = {
    EmmKind.UNIQUE: "unique",
    EmmKind.GROUP: "group",
    EmmKind.GLOBAL: "global",
}


def _key(emm: SealedEmm, ladder: KeyLadder) -> bytes:
    header = emm.header
    match header.kind:
        case EmmKind.UNIQUE:
            return ladder.card_key(header.address, header.key_version)
        case EmmKind.GROUP:
            return ladder.group_key(header.address, header.key_version)
        case EmmKind.GLOBAL:
            return ladder.global_key(header.key_version)


def _content(payload: EmmPayload) -> ContentDocument:
    return ContentDocument(
        state="active" if payload.state == 0 else "suspended",
        rights=[right for block in payload.rights for right in _rights(block)],
        receiver=None if payload.pairing is None else receiver_number.spell(payload.pairing.receiver),
        parental_level=payload.traits.parental,
        pin_reset=payload.traits.pin_reset,
        ignored_blocks=[block.tag for block in payload.blocks if isinstance(block, OpaqueBlock)],
    )


def _rights(block: RightsBlock) -> list[RightDocument]:
    return [
        RightDocument(
            product_id=product.product_id,
            start=_time(block.start) if block.start else None,
            end=_time(block.end),
            epochs=list(range(block.first_epoch, block.first_epoch + len(product.keys))),
        )
        for product in block.products
    ]


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _show(found: DecodedDocument) -> None:
    out = console()
    if found.emms:
        opened = any(emm.content is not None or emm.notice is not None for emm in found.emms)
        columns = ["to", "key version", "period", "revision", "part", "bytes", "times", *(["says"] if opened else [])]
        out.print(table(columns, [_row(emm) for emm in found.emms]))
    if found.faults:
        rows = [
            [fault.section[:32] + "…", len(fault.section) // 2, fault.times, fault.reason] for fault in found.faults
        ]
        out.print(table(["faulty section", "bytes", "times", "reason"], rows))
    out.print(_summary(found), soft_wrap=True)


def _row(emm: EmmDocument) -> list[Any]:
    to = {
        "unique": f"card {emm.card}",
        "group": f"group {emm.address}",
        "global": "all cards",
    }[emm.kind]
    numbers = [str(number) for number in (emm.key_version, emm.period, emm.revision)]
    row = [to, *numbers, f"{emm.part + 1} of {emm.last_part + 1}", len(emm.section) // 2, emm.times]
    if emm.notice is not None:
        return [*row, spell_part(emm.notice)]
    return row if emm.content is None else [*row, _says(emm.content)]


def _says(content: ContentDocument) -> str:
    lines = ["suspended"] if content.state == "suspended" else []
    lines += [f"product {each.product_id} {each.start or 'open'} – {each.end}" for each in content.rights]
    lines = lines or ["active, no rights"]
    lines += [] if content.receiver is None else [f"paired with receiver {content.receiver}"]
    lines += [f"PIN from age {content.parental_level}"] if content.parental_level else []
    return "\n".join([*lines, f"PIN reset {content.pin_reset}"] if content.pin_reset else lines)


def _summary(found: DecodedDocument) -> str:
    where = f" on PID {', '.join(f'0x{pid:04X}' for pid in found.pids)}" if found.pids else ""
    total = sum(emm.times for emm in found.emms)
    words = [f"{found.form}{where}: {total} EMMs, {len(found.emms)} different"]
    words += [f"{count} sections of table_id {table_id}" for table_id, count in found.others.items()]
    words += [f"{len(found.faults)} faulty"] if found.faults else []
    words += [f"{what}: {count}" for what, count in found.damage.items()]
    return "; ".join(words)
