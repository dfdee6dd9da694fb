"""``demo``: the main job, on a slide that is always there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_metastasis.cli.console import say, show_progress
from napari_metastasis.cli.scan import say_result, scan_to_end
from napari_metastasis.cli.view import open_window
from napari_metastasis.settings import DEFAULT_MODEL
from napari_metastasis.tasks import pass_tasks

__all__ = ["demo"]


def demo(
    model: Annotated[str, typer.Option(help="A model's name ('models list'), or a .safetensors file.")] = DEFAULT_MODEL,
    output: Annotated[Path | None, typer.Option(help="Result folder; by default beside the sample slide.")] = None,
    show: Annotated[
        bool | None,
        typer.Option("--show/--no-show", help="Open napari at the end; by default where there is a display."),
    ] = None,
) -> None:
    """Scan and refine the sample slide, print its lesions, draw them over it, and show both in napari."""
    from napari_metastasis.models import load_scan_models
    from napari_metastasis.slides import open_slide
    from napari_metastasis.synthetic import sample_slide_path
    from napari_metastasis.workflows.report import write_picture
    from napari_metastasis.workflows.scan import AtHand, PassRequest, ScanJob

    with show_progress("Drawing the sample slide", unit="squares") as progress:
        path = sample_slide_path(progress=progress)
    # What the window switches on by itself, too.
    usual = [task for task in pass_tasks() if task.settings is not None and task.settings.USUAL]
    found = load_scan_models(model, tasks=tuple(task.name for task in usual)).others
    passes = []
    for task in usual:
        if task.name in found:
            assert task.settings is not None
            # Nothing is kept of it: nobody goes on with a demonstration.
            passes.append(PassRequest(task=task.name, settings=task.settings().wanting().not_keeping()))
    with open_slide(path) as slide:
        result = scan_to_end(ScanJob(slide=path, model=model, passes=tuple(passes), output=output), AtHand(slide=slide))
        picture = write_picture(result.output, slide)
    say_result(result)
    say(f"Picture: {picture}")
    if _has_display() if show is None else show:
        open_window([path])


def _has_display() -> bool:
    """Return whether a window can open and somebody is there to see it."""
    if os.environ.get("CI"):
        return False
    return sys.platform in {"win32", "darwin"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
