"""``evaluate --stages``: how well patients were staged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_metastasis.cli.console import note, say_json, say_table
from napari_metastasis.cli.figures import named, say_figures
from napari_metastasis.settings import EvaluationSettings

if TYPE_CHECKING:
    from napari_metastasis.evaluation import Agreement

__all__ = ["evaluate_stages"]


def evaluate_stages(stages: Path, truth: Path, scoring: EvaluationSettings, *, as_json: bool) -> None:
    """Print how a table of stages agrees with another; exit with status 1 where it leaves patients out."""
    from napari_metastasis.cohorts.stages import read_stages
    from napari_metastasis.evaluation import score_stages

    report = score_stages(read_stages(stages), read_stages(truth), resamples=scoring.resamples, seed=scoring.seed)
    if as_json:
        say_json(report.to_json())
    else:
        _say_confusion(report.patients, "true stage")
        if report.slides is not None:
            _say_confusion(report.slides, "true verdict")
        count = report.patients.n
        say_figures(f"{count} {'patient' if count == 1 else 'patients'}", report.figures())
    for what, names in (("stages no", report.missing), ("says nothing of", report.missing_slides)):
        if names:
            note(f"{stages} {what} {named(names)}, which the truth has: left out")
    if report.unknown:
        note(f"left out {named(report.unknown)}: the truth says nothing of them")
    if report.missing:
        note(f"expected every patient of {truth} to be staged, got {len(report.missing)} that are not; stage them")
        raise typer.Exit(1)


def _say_confusion(found: Agreement, what: str) -> None:
    say_table(
        (what, *(f"as {name}" for name in found.names)),
        [(name, *map(str, row)) for name, row in zip(found.names, found.confusion.tolist(), strict=True)],
    )
