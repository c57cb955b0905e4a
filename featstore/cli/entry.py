"""Where a command begins and every error ends: a few lines on stderr and an exit code."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import typer

from featstore.cli import console, logs, signals
from featstore.cli.options import volume
from featstore.errors import StatedError
from featstore.storage import documents

__all__ = ["main"]

_BUG = "This is a bug in featstore; run again with -v for the traceback, and please report it."

# What only looks something up goes on whatever the environment holds.
_HELP = {"-h", "--help", "--version"}

# Imports make some hundred thousand objects that stay; looking through them every 700 takes a tenth of a short command.
_COLLECTIONS = (20_000, 20, 20)

# What a shell reports for a program that SIGPIPE ended.
_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits with its code.

    Args:
        arguments: What stands after ``featstore``. By default those of this process, which then is the
            command's own: signals are handled, and it ends without waiting for what libraries left behind.
    """
    volume.verbose = volume.quiet = False
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file's name need not be text in any encoding
            stream.reconfigure(errors="backslashreplace")
    logs.begin(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments is None:
            # Where nobody says otherwise pydantic looks for plug-ins in every installed package.
            os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
            gc.set_threshold(*_COLLECTIONS)
            signals.install()
        code = _run(arguments)
        sys.stdout.flush()
    except BaseException as error:
        code = _report(error)
    if arguments is not None:
        sys.exit(code)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Ends the process with the code, whatever threads of the libraries are doing.

    The interpreter's own way out stops such a thread within C++ code now and then, which aborts the
    process: a finished command would end with SIGABRT instead of its exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    from featstore.cli.app import app_for

    words = sys.argv[1:] if arguments is None else arguments
    if words and not _HELP & {*words}:
        _check_environment()
    app = app_for(words)
    returned = app(args=arguments, prog_name="featstore", standalone_mode=False)
    return returned if isinstance(returned, int) else 0


def _check_environment() -> None:
    """Refuses variables that nothing reads: by a mistyped FEATSTORE_STORE a command would act on another store."""
    if not any(name.startswith("FEATSTORE_") and name != "FEATSTORE_STORE" for name in os.environ):
        return  # the settings take a while to import, and few commands need them at once
    from featstore.settings import check_environment

    check_environment()


def _report(error: BaseException) -> int:
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        return _BROKEN_PIPE
    interrupt = signals.received()
    shown = interrupt if interrupt is not None else error
    if logs.active():
        return _log(error, shown)
    if volume.verbose:
        console.complain("".join(traceback.format_exception(error)).rstrip())
    if isinstance(shown, StatedError):
        console.complain(f"error: {console.plain(shown.message)}")
        if shown.hint:
            console.complain(console.plain(shown.hint))
        if volume.verbose:
            for key, value in shown.context.items():
                console.complain(f"  {key}: {console.plain(str(value))}")
        return shown.exit_code
    if isinstance(shown, typer.TyperException):
        context = getattr(shown, "ctx", None)
        command = context.command_path if context is not None else "featstore"
        message = shown.format_message()
        if not message:  # no command was named, and the help has been printed
            return shown.exit_code
        console.complain(f"error: {console.plain(message)}")
        console.complain(f"See: {command} --help")
        return shown.exit_code
    if isinstance(shown, SystemExit):
        return shown.code if isinstance(shown.code, int) else 1
    console.complain(f"error: {type(shown).__name__}: {console.plain(str(shown))}")
    console.complain(_BUG)
    return 1


def _log(error: BaseException, shown: BaseException) -> int:
    """The error as one JSON object."""
    hint, code, kind = _BUG, 1, type(shown).__name__
    message = f"{kind}: {shown}"
    more: dict[str, object] = {}
    if isinstance(shown, StatedError):
        message, hint, code = shown.message, shown.hint or "", shown.exit_code
        result = error.context.get("result") if isinstance(error, StatedError) else None
        more = {"run": getattr(result, "run_id", None), "gates": _refused(result)}
    elif isinstance(shown, typer.TyperException):
        context = getattr(shown, "ctx", None)
        message, code = shown.format_message(), shown.exit_code
        hint = f"See: {context.command_path if context is not None else 'featstore'} --help"
    elif isinstance(shown, SystemExit):
        return shown.code if isinstance(shown.code, int) else 1
    trace = "".join(traceback.format_exception(error)) if volume.verbose else None
    logs.note("error", message, error=kind, code=code, hint=hint or None, traceback=trace, **more)
    return code


def _refused(result: object) -> list[object] | None:
    gates = [gate for gate in getattr(result, "gates", ()) if gate.status == "refused"]
    return [documents.to_json(gate) for gate in gates] or None
