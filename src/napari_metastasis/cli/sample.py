"""``sample``: data to try the program on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from napari_metastasis.cli.console import say, say_json, show_progress
from napari_metastasis.cli.options import with_settings
from napari_metastasis.errors import StorageError
from napari_metastasis.settings import CohortSampleSettings, PatchSampleSettings, SyntheticSettings

__all__ = ["app"]

app = typer.Typer(help="Make data to try the program on.")


@app.callback()
def _sample() -> None:
    """Make data to try the program on."""


@app.command()
@with_settings("settings", SyntheticSettings, panel="What it shows")
def slide(
    output: Annotated[Path, typer.Argument(help="TIFF to write; its outlines go beside it, with the suffix .xml.")],
    settings: SyntheticSettings,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Draw a synthetic lymph-node slide with metastases whose outlines are known."""
    from napari_metastasis.lesions import SIZE_CLASSES
    from napari_metastasis.synthetic import make_slide, size_class

    outlines = output.with_suffix(".xml")
    _refuse_existing(output, outlines, overwrite=overwrite)
    with show_progress("Drawing", unit="squares") as progress:
        annotations = make_slide(output, settings, progress=progress)
    classes = [size_class(annotation, settings.mpp) for annotation in annotations]
    counts = {name: classes.count(name) for name in list(SIZE_CLASSES)[::-1]}
    if as_json:
        say_json({"slide": str(output), "annotations": str(outlines), "metastases": counts})
        return
    say(f"Slide: {output}")
    say(f"Outlines: {outlines} ({', '.join(f'{count} {name}' for name, count in counts.items())})")


@app.command()
@with_settings("settings", PatchSampleSettings)
def patches(
    output: Annotated[Path, typer.Argument(help="Zip archive to write, with class folders 0 and 1.")],
    settings: PatchSampleSettings,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Cut labelled patches of synthetic tissue, for training: 96 px at 0.972 µm/px."""
    from napari_metastasis.synthetic import make_patches

    _refuse_existing(output, overwrite=overwrite)
    with show_progress("Cutting", unit="patches") as progress:
        make_patches(
            output, slides=settings.slides, per_slide=settings.per_slide, seed=settings.seed, progress=progress
        )
    say(f"Patches: {output}")


@app.command()
@with_settings("settings", CohortSampleSettings)
def cohort(
    output: Annotated[Path, typer.Argument(help="Folder to draw into; a cohort that was begun there is completed.")],
    settings: CohortSampleSettings,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Draw a cohort of synthetic slides in CAMELYON16's layout, to train and measure on."""
    from napari_metastasis.lesions import SIZE_CLASSES
    from napari_metastasis.synthetic import make_cohort

    with show_progress("Drawing", unit="slides") as progress:
        plan = make_cohort(output, settings, progress=progress)
    splits = {name: [str(s.kind) for s in plan.slides if s.split == name] for name in ("train", "validation", "test")}
    counts = {name: {kind: kinds.count(kind) for kind in ("normal", *SIZE_CLASSES)} for name, kinds in splits.items()}
    if as_json:
        say_json({"cohort": str(output / "cohort.csv"), "slides": len(plan.slides), "splits": counts})
        return
    say(f"Cohort: {output / 'cohort.csv'}")
    for name, kinds in counts.items():
        say(f"{name}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}")


def _refuse_existing(*paths: Path, overwrite: bool) -> None:
    for path in paths:
        if os.path.exists(path) and not overwrite:
            raise StorageError(
                f"expected no file at {path}, got one; choose another name, or replace it with --overwrite"
            )
