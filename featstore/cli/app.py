"""The tree of commands."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command_name

from featstore.cli import (
    bridge,
    dedup,
    diff,
    eval,
    export,
    finetune,
    index,
    jobs,
    look,
    lookafter,
    make,
    migrate,
    models,
    predict,
    refresh,
    search,
    train,
)
from featstore.cli.options import Quiet, Verbose

__all__ = ["app", "app_for"]

_HELP = ("-h", "--help")

app = typer.Typer(
    name="featstore",
    help="$ featstore extract photos/ --model efficientnet_lite0\n\n"
    "Turns images and texts into vectors, once each, and keeps them as versioned tables.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": [*_HELP]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from featstore import __version__

        typer.echo(f"featstore {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    pass


make.register(app)
index.register(app)
search.register(app)
train.register(app)
predict.register(app)
export.register(app)
refresh.register(app)
finetune.register(app)
migrate.register(app)
bridge.register(app)
look.register(app)
diff.register(app)
eval.register(app)
dedup.register(app)
lookafter.register(app)
models.register(app)
jobs.register(app)


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """The tree with only the command that the arguments begin with; all of it where they begin otherwise.

    Typer reads the signatures of every command of a tree before it runs one of them, which takes longer than
    many commands do.
    """
    if not arguments or arguments[0] in _HELP:
        return _contents()
    named = arguments[0]
    commands = [command for command in app.registered_commands if _name(command) == named]
    groups = [group for group in app.registered_groups if group.name == named]
    if not commands and not groups:
        return app
    small = copy.copy(app)
    small.registered_commands, small.registered_groups = commands, groups
    return small


def _contents() -> typer.Typer:
    """The tree as its own help shows it: names and what they are for, and no signatures."""
    small = copy.copy(app)
    small.registered_commands = [_bare(command) for command in app.registered_commands]
    small.registered_groups = [copy.copy(group) for group in app.registered_groups]
    for group in small.registered_groups:
        group.typer_instance = copy.copy(group.typer_instance)
        if group.typer_instance is not None:
            group.typer_instance.registered_commands = [
                _bare(command) for command in group.typer_instance.registered_commands
            ]
    return small


def _bare(command: typer.models.CommandInfo) -> typer.models.CommandInfo:
    made = copy.copy(command)
    made.name, made.callback = _name(command), lambda: None
    return made


def _name(command: typer.models.CommandInfo) -> str | None:
    return command.name or (command.callback and get_command_name(command.callback.__name__))
