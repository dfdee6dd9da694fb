"""The program's commands; errors become one line and an exit status here."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from types import TracebackType

import typer
from typer.main import get_command

from napari_metastasis import __version__
from napari_metastasis.cli import (
    demo,
    evaluate,
    export,
    models,
    report,
    retrain,
    review,
    sample,
    scan,
    segment,
    slides,
    slides_convert,
    stage,
    train,
    view,
)
from napari_metastasis.cli.console import note, note_lines, quiet_libraries, say
from napari_metastasis.errors import MetastasisError
from napari_metastasis.stopping import stoppable

__all__ = ["app", "run"]

_NAME = "napari-metastasis"

#: Exit status after Ctrl-C, as shells know it; typer's, too.
_INTERRUPTED = 130
#: Commands, and options of other commands, that go on where they were stopped.
_RESUMABLE = {"convert", "demo", "scan", "retrain", "segment", "train", "--cohort", "--camelyon16"}

app = typer.Typer(
    name=_NAME,
    help="Find breast-cancer metastases in lymph-node slides. Not a medical device.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("view")(view.view)
app.command("scan")(scan.scan)
app.command("segment")(segment.segment)
app.add_typer(train.app, name="train")
app.command("report")(report.report)
app.command("export")(export.export)
app.add_typer(review.app, name="review")
app.command("retrain")(retrain.retrain)
app.command("stage")(stage.stage)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(models.app, name="models")
slides.app.command("convert")(slides_convert.convert)
app.add_typer(slides.app, name="slides")
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


def run(arguments: list[str] | None) -> int:
    """Run one command; see :func:`napari_metastasis.cli.main`.

    Returns
    -------
    int
        The exit status.
    """
    given = sys.argv[1:] if arguments is None else arguments
    # Behind '--' stand names of files alone.
    options = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in options
    wanted = [option for option in options if option != "--debug"] + given[len(options) :]
    if arguments is None:
        sys.excepthook = _whole if debug else _one_line
    with stoppable("napari-metastasis: stopped\n") as stopped, quiet_libraries(quiet=not debug):
        try:
            status = _run(wanted, debug=debug)
        except KeyboardInterrupt:
            status = _INTERRUPTED
        except Exception:
            # What breaks once it was asked to stop, as a terminal that has closed does, broke for that.
            if not stopped.number or debug:
                raise
            status = _INTERRUPTED
    if status == _INTERRUPTED:
        goes_on = "; what was finished is kept, and the same command goes on from there"
        with suppress(OSError):
            note("stopped" + (goes_on if _RESUMABLE & {argument.partition("=")[0] for argument in wanted} else ""))
        return stopped.status
    return status


def _run(wanted: list[str], *, debug: bool) -> int:
    """Return the exit status of a command; :data:`_INTERRUPTED` where it was interrupted."""
    try:
        # Called as an app, typer would print its own tracebacks.
        return get_command(app)(wanted or ["--help"], prog_name=_NAME, standalone_mode=False) or 0
    except typer.TyperException as error:
        note(_with_help(error))
        return 2
    except (MetastasisError, MemoryError) as error:
        if debug:
            raise
        note(str(error) or "expected enough free memory, got too little; close other programs and try again")
        return 1


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    del trace
    # That of an interrupt comes from C code that cannot hand it on; it is told where it ends the command.
    if not issubclass(kind, KeyboardInterrupt):
        note(f"unexpected {kind.__name__}: {error}; run the same command with --debug and report what it prints")


def _whole(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    note_lines("".join(traceback.format_exception(kind, error, trace)).rstrip())


def _with_help(error: typer.TyperException) -> str:
    """Return what is wrong with the arguments, and where to read how they are written."""
    # Only the parser's errors know their command; the settings' messages name the remedy.
    context = getattr(error, "ctx", None)
    hint = f"; see '{context.command_path} --help'" if context is not None else ""
    return error.format_message().rstrip(".") + hint
