"""``slides``: what a slide's file is, and what reads it. Conversion has its own module."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_metastasis.cli.console import note, say, say_json, say_table
from napari_metastasis.cli.options import WrongUsage
from napari_metastasis.errors import one_of_many
from napari_metastasis.slide_address import slide_path
from napari_metastasis.storage import atomic_write, check_new

if TYPE_CHECKING:
    from napari_metastasis.slides.facts import ReaderFacts, SlideFacts

__all__ = ["app"]

app = typer.Typer(help="Look at slides' files, and convert them.")


@app.command()
def info(
    slides: Annotated[
        list[str],
        typer.Argument(help="Slides: files, folders that are one, addresses (https://…, s3://…).", show_default=False),
    ],
    label: Annotated[
        Path | None,
        typer.Option(help="PNG to write the label of one slide to. It may name the patient."),
    ] = None,
    macro: Annotated[
        Path | None,
        typer.Option(help="PNG to write the picture of one whole glass to. It may show the label."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier pictures.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Say of slides: format, levels, pixel size and where it is from, and which readers would take them."""
    from napari_metastasis.slides.facts import slide_facts

    pictures = {name: path for name, path in (("label", label), ("macro", macro)) if path is not None}
    if pictures and len(slides) > 1:
        raise WrongUsage(f"expected one slide for --{next(iter(pictures))}, got {len(slides)}; ask for one at a time")
    for path in pictures.values():
        check_new(path, overwrite=overwrite)
    told: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []

    def leave_out(slide: str, why: str) -> None:
        failed.append({"path": str(slide_path(slide)), "error": why})
        note(why)

    for slide in slides:
        with one_of_many(partial(leave_out, slide)):
            facts = slide_facts(slide_path(slide))
            told.append(facts.to_json())
            if not as_json:
                _say(facts)
    for name, path in () if failed else pictures.items():
        with one_of_many(partial(leave_out, slides[0])):
            _write_picture(slides[0], name, path)
    if as_json:
        say_json({"slides": told, "failed": failed})
    if failed:
        raise typer.Exit(1)


def _write_picture(slide: str, name: str, path: Path) -> None:
    import imagecodecs

    from napari_metastasis.slides.facts import associated_image

    data = imagecodecs.png_encode(associated_image(slide_path(slide), name))
    with atomic_write(path) as file:
        file.write(data)


def _say(facts: SlideFacts) -> None:
    say(str(facts.path))
    say(f"  format: {facts.format}")
    if facts.mpp is None:
        say("  pixel size: not stated")
    else:
        across, down = facts.mpp
        size = f"{across:.6g}" if across == down else f"{across:.6g} x {down:.6g}"
        say(f"  pixel size: {size} µm, from {facts.mpp_source or 'the file'}")
    say(f"  objective: {'not stated' if facts.objective_power is None else f'{facts.objective_power:g}x'}")
    bounds = facts.bounds
    if bounds is not None:
        say(f"  scanned: {bounds.width} x {bounds.height} px at ({bounds.x}, {bounds.y})")
    say(f"  beside it: {', '.join(facts.associated) or 'no images'}")
    say(f"  readers: {'; '.join(_reader(one) for one in facts.readers)}")
    for line in facts.notes:
        say(f"  noted: {line}")
    if facts.refused:
        say(f"  not scanned as it is: {facts.refused}")
    say_table(
        ("level", "width", "height", "downsample", "tile"),
        [
            (
                str(index),
                str(level.size.width),
                str(level.size.height),
                f"{level.downsample:g}",
                f"{level.tile.width} x {level.tile.height}",
            )
            for index, level in enumerate(facts.levels)
        ],
    )


def _reader(reader: ReaderFacts) -> str:
    if reader.used:
        return f"{reader.name} (used)"
    return reader.name if reader.installed else f"{reader.name} (needs the extra '{reader.extra}')"
