"""The page of the command line, from what its commands say of themselves."""

from typer import Context
from typer.cli import get_docs_for_click
from typer.core import TyperGroup
from typer.main import get_command

from advfeat.flows.command_line.cli import app


def command_line_page() -> str:
    """Return every command with its arguments and options, in Markdown."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    context = Context(group)
    commands = [group.commands[name] for name in group.list_commands(context)]
    text = f"# Command line\n\n{group.help}\n\n| command | what it does |\n|---|---|\n"
    for command in commands:
        text += f"| [`{command.name}`](#advfeat-{command.name}) | {(command.help or '').splitlines()[0]} |\n"
    return "\n".join(
        [
            text,
            *(get_docs_for_click(obj=one, ctx=context, indent=1, call_prefix="advfeat") for one in commands),
        ]
    )
