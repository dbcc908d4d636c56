"""`cad backup` and `cad restore`: the ledger as a file, and back."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cad.cli.shell.options import config_option, daemon_options, json_option

if TYPE_CHECKING:
    from cad.ledger.acts.backup import Copy

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command("backup")
@_FILE
@daemon_options
def command(file: Path, config: Path, socket_path: Path | None, as_json: bool) -> None:
    """Write the ledger of this moment to FILE while the daemon goes on, and check the copy.

    Beside it stands FILE.sha256. Keep the audit head that is shown apart from the backup: it proves later that the
    copy is the one taken now. Keys and settings are not in it.
    """
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, document, show_json
    from cad.errors import BackupError
    from cad.ledger.acts import backup

    draft = file.with_name(file.name + ".part")
    if file.exists():
        raise BackupError(f"{file} exists already; name another file")
    try:
        with daemon(config, socket_path) as client, _draft(draft) as out:
            for piece in client.pieces("/v1/backup"):
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        copy = backup.look(draft)
        total = backup.sum_of(draft)
        file.with_name(file.name + backup.SUM_SUFFIX).write_text(f"{total}  {file.name}\n", encoding="ascii")
        draft.replace(file)
    except OSError as error:
        raise BackupError(f"{file} cannot be written: {error.strerror}; there is no backup") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    found = {"file": str(file), **_facts(copy), "sha256": total}
    if as_json:
        show_json(found)
    else:
        console().print(document(found))


@click.command("restore")
@_FILE
@click.option("--head", "spelt_head", metavar="SEQ:MAC", help="The audit head that was shown when FILE was written.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def restore_command(file: Path, spelt_head: str | None, yes: bool, config: Path, as_json: bool) -> None:
    """Put the ledger in FILE in place of the present one, which is kept beside it. The daemon must be stopped.

    The whole copy and its audit chain are verified first. Versions on the air jump ahead, so that cards follow. What
    was ordered after the backup is not in it: have the portals compare (snapshot) and send again.
    """
    from cad import keystore
    from cad.app import make_state_dir
    from cad.cli.shell.output import console, document, show_json
    from cad.frame.lifecycle import StateLock
    from cad.ledger.acts import backup
    from cad.ledger.model import AuditHead, Grants
    from config.load import load
    from emm.keys import KeyLadder

    try:
        head = None if spelt_head is None else AuditHead.parse(spelt_head)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--head") from None
    settings = load(config)
    state_dir = settings.node.state_dir
    make_state_dir(state_dir)
    with StateLock(state_dir):
        summed = backup.check_sum(file)
        copy = backup.look(file)
        key = KeyLadder(keystore.load(settings.keys)).audit_key()
        backup.verify(copy, key, head)
        facts = {"file": str(file), **_facts(copy), "sum_compared": summed, "head_compared": head is not None}
        if not yes:
            console(err=True).print(document(facts))
            click.confirm(f"Put it in place of the ledger in {state_dir}?", abort=True, err=True)
        aside = backup.put_back(copy, state_dir, key, Grants.from_settings(settings), _time_after)
    facts |= {"restored_to": str(state_dir), "replaced": None if aside is None else str(aside)}
    if as_json:
        show_json(facts)
    else:
        console().print(document(facts))


def _facts(copy: "Copy") -> dict[str, Any]:
    from cad.frame.clock import spell

    return {
        "taken_at": spell(copy.taken_at),
        "bytes": copy.size,
        "cards": copy.cards,
        "subscriptions": copy.subscriptions,
        "audit_head": copy.head.spell(),
    }


def _time_after(last_seen: float) -> float:
    """Return the time by the machine's clock, where that fits to what the ledger has seen."""
    from cad.frame.clock import SystemClock

    clock = SystemClock()
    clock.remember(last_seen)
    return clock.now()


def _draft(path: Path) -> Any:
    """Open a new file that nobody else may read: subscribers' references stand in it."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
