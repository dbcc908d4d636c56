"""Spell the tree of `cad` commands as one page for people."""

import click

from cad.cli.main import cli

HEAD = """# The commands

Written by `scripts/commands-doc` from the commands themselves. Exit codes: [operator.md](operator.md#exit-codes).
"""


def page() -> str:
    """Return docs/commands.md as it should be."""
    return HEAD + "".join(_sections(cli, click.Context(cli, info_name="cad", **cli.context_settings)))


def _sections(group: click.Group, context: click.Context) -> list[str]:
    parts = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        inner = click.Context(command, info_name=name, parent=context, max_content_width=110, terminal_width=110)
        if isinstance(command, click.Group):
            parts += _sections(command, inner)
        else:
            parts.append(f"\n## {inner.command_path}\n\n```\n{command.get_help(inner)}\n```\n")
    return parts


if __name__ == "__main__":
    print(page(), end="")
