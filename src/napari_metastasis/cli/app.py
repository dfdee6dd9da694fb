"""The program's commands and the one place where errors become a line and an exit status."""

from __future__ import annotations

import sys

import typer

from napari_metastasis.cli import train
from napari_metastasis.errors import MetastasisError

__all__ = ["app", "main"]

app = typer.Typer(
    name="napari-metastasis",
    help="Find breast-cancer metastases in lymph-node slides. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(train.app, name="train")


@app.callback()
def _common(
    context: typer.Context,
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    context.obj = {"debug": debug}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(arguments)
    except MetastasisError as error:
        if "--debug" in arguments:
            raise
        typer.echo(f"napari-metastasis: {error}", err=True)
        raise SystemExit(1) from None
