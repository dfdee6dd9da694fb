"""``report``: one HTML page of a slide, from its result folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from napari_metastasis.cli.console import note, say
from napari_metastasis.cli.options import WrongUsage
from napari_metastasis.errors import StorageError, one_of_many
from napari_metastasis.slide_address import SlidePath, slide_path

__all__ = ["report"]


def report(
    results: Annotated[
        list[Path],
        typer.Argument(help="Result folders that 'scan' wrote, or folders that hold such ('*.metastasis')."),
    ],
    slide: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Where the slide lies now, if it was moved; of several results, the folder with them."
        ),
    ] = None,
) -> None:
    """Write report.html into result folders: findings, pictures and how they were made, in one page to print or send.

    A slide that is not found any more leaves its report without pictures.
    """
    from napari_metastasis.workflows.report import find_results

    # What holds no result says so when it is read.
    found = [one for place in results for one in find_results(place) or [place]]
    if slide is not None and len(found) > 1 and not os.path.isdir(slide):
        raise WrongUsage(f"expected the folder of the slides as --slide of {len(found)} results, got {slide}; give it")
    lies = None if slide is None else slide_path(slide)
    written = [_write(folder, lies) for folder in dict.fromkeys(found)]
    if not all(written):
        raise typer.Exit(1)


def _write(folder: Path, slide: SlidePath | None) -> bool:
    """Write the report of one result, or say why not; return whether it was written."""
    from napari_metastasis.workflows.report import results_inside, write_report

    faults: list[str] = []
    try:
        with one_of_many(faults.append):
            done = write_report(folder, slide=slide)
    except StorageError as error:
        faults.append(str(error))
    if faults:
        note(f"no report of {folder}: {faults[0]}")
        return False
    say(str(done.path))
    if done.without_pictures:
        note(f"{done.path} has no pictures: {done.without_pictures}")
    for line in done.result.told:
        note(f"{done.path}: {line}")
    if others := results_inside(folder):
        named = ", ".join(other.name for other in others)
        note(f"{folder} holds results of other settings as well, in {named}; give one of these folders to report it")
    return True
