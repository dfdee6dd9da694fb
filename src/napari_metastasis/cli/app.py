"""The program's commands; errors become one line and an exit status here."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

import typer
from typer.main import get_command

from napari_metastasis import __version__
from napari_metastasis.cli import demo, evaluate, models, sample, scan, train, view
from napari_metastasis.cli.console import note, note_lines, quiet_libraries, say
from napari_metastasis.errors import MetastasisError

__all__ = ["app", "main"]

_NAME = "napari-metastasis"

#: Exit status after Ctrl-C, as shells know it.
_INTERRUPTED = 130
#: Commands, and options of other commands, that go on where they were stopped.
_RESUMABLE = {"demo", "scan", "train", "--cohort", "--camelyon16"}

app = typer.Typer(
    name=_NAME,
    help="Find breast-cancer metastases in lymph-node slides. Not a medical device.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("view")(view.view)
app.command("scan")(scan.scan)
app.add_typer(train.app, name="train")
app.command("evaluate")(evaluate.evaluate)
app.add_typer(models.app, name="models")
app.add_typer(sample.app, name="sample")
app.command("demo")(demo.demo)


def _say_version(wanted: bool) -> None:
    if wanted:
        say(f"{_NAME} {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; also after a command's name."),
    version: bool = typer.Option(
        False, "--version", callback=_say_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Find breast-cancer metastases in lymph-node slides. Not a medical device."""
    del debug, version  # one is taken out of the arguments by main(), the other is answered before this is reached


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit.

    Parameters
    ----------
    arguments
        The command line; by default this process's own. Then even a fault of the program ends in one line.

    Raises
    ------
    SystemExit
        With status 0: done, 1: failed, 2: wrong usage, 130: stopped by Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else arguments
    # Behind '--' stand names of files alone.
    options = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in options
    wanted = [option for option in options if option != "--debug"] + given[len(options) :]
    if arguments is None:
        sys.excepthook = _whole if debug else _one_line
    with quiet_libraries(quiet=not debug):
        try:
            # Called as an app, typer would print its own tracebacks.
            status = get_command(app)(wanted or ["--help"], prog_name=_NAME, standalone_mode=False)
        except typer.TyperException as error:
            note(_with_help(error))
            raise SystemExit(2) from None
        except (MetastasisError, MemoryError) as error:
            if debug:
                raise
            note(str(error) or "expected enough free memory, got too little; close other programs and try again")
            raise SystemExit(1) from None
    if status == _INTERRUPTED:
        goes_on = "; what was finished is kept, and the same command goes on from there"
        note("stopped" + (goes_on if _RESUMABLE & {argument.partition("=")[0] for argument in wanted} else ""))
    raise SystemExit(status or 0)


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    del trace
    note(f"unexpected {kind.__name__}: {error}; run the same command with --debug and report what it prints")


def _whole(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    note_lines("".join(traceback.format_exception(kind, error, trace)).rstrip())


def _with_help(error: typer.TyperException) -> str:
    """Return what is wrong with the arguments, and where to read how they are written."""
    # Only the parser's errors know their command; the settings' messages name the remedy.
    context = getattr(error, "ctx", None)
    hint = f"; see '{context.command_path} --help'" if context is not None else ""
    return error.format_message().rstrip(".") + hint
