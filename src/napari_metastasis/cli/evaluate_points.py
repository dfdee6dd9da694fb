"""``evaluate`` of mitoses: a model on a cohort whose reference is points, or a folder of points against another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from napari_metastasis.cli.console import note, say_table, show_progress
from napari_metastasis.cli.evaluated import evaluate_slides, finish
from napari_metastasis.cli.figures import named, say_figures
from napari_metastasis.settings import ClusterSettings, PointScoringSettings
from napari_metastasis.workflows.scan_job import ScanJob

if TYPE_CHECKING:
    from napari_metastasis.cohorts.cohort import Cohort, Split
    from napari_metastasis.evaluation import PointReport

__all__ = ["evaluate_cohort_points", "evaluate_point_folders"]


def evaluate_cohort_points(
    cohort: Cohort,
    job: ScanJob,
    scoring: PointScoringSettings,
    split: Split,
    output: Path | None,
    *,
    cluster: ClusterSettings,
    keep_flawed: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure a model of mitoses on the slides of a cohort, which are scanned where they are not yet."""
    from napari_metastasis.workflows.evaluate_points import (
        MITOSIS,
        PointEvaluation,
        evaluate_points,
        points_measured_with,
    )

    how = PointEvaluation(job=job, scoring=scoring, split=split, keep_flawed=keep_flawed)
    evaluate_slides(
        job,
        cohort.origin,
        output,
        called=lambda models: models.others[MITOSIS].name,
        measured=lambda models: points_measured_with(cohort, models, how),
        evaluated=lambda models, **run: evaluate_points(cohort, models, how, **run),
        say_report=_say_points,
        cluster=cluster,
        overwrite=overwrite,
        as_json=as_json,
    )


def evaluate_point_folders(
    detections: Path,
    truth: Path,
    scoring: PointScoringSettings,
    *,
    mpp: float | None,
    threshold: float,
    allow_unpaired: bool,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure points of files against points of others."""
    from napari_metastasis.evaluation import prepare_report, score_point_folders

    lay_there = output is not None and prepare_report(output)
    with show_progress("Scoring", unit="slides") as progress:
        report = score_point_folders(
            detections,
            truth,
            scoring,
            mpp=mpp,
            threshold=threshold,
            allow_unpaired=allow_unpaired,
            progress=progress,
        )
    finish(
        report,
        output,
        say_report=lambda: _say_points(report),
        overwrite=overwrite,
        lay_there=lay_there,
        as_json=as_json,
    )


def _say_points(report: PointReport) -> None:
    """Print every slide, the figures at each threshold, and those at the one that counts."""
    rows = []
    for one in report.slides:
        hits, false_positives, misses = one.counts(report.threshold)
        counts = hits + misses, hits + false_positives
        area = one.tissue_mm2
        per_mm2 = [f"{count / area:.2f}" if area else "" for count in counts]
        rows.append((one.slide, *map(str, (*counts, hits, misses, false_positives)), *per_mm2))
    say_table(("slide", "set", "found", "hits", "misses", "FPs", "set per mm²", "found per mm²"), rows)
    say_table(
        ("from probability", "hits", "misses", "FPs", "precision", "recall", "F1", "95 % interval"),
        [
            (
                f"{one.threshold:g}",
                *map(str, (one.hits, one.misses, one.false_positives)),
                *(_number(figure.value) for figure in (one.precision, one.recall, one.f1)),
                "" if math.isnan(one.f1.low) else f"{one.f1.low:.4f} to {one.f1.high:.4f}",
            )
            for one in report.table
        ],
    )
    count = len(report.slides)
    title = f"{count} slide{'' if count == 1 else 's'}, from probability {report.threshold:g}"
    say_figures(f"{title}, within {report.settings.radius_um:g} µm", report.figures())
    if report.without_points:
        note(f"taken for slides without mitoses, for want of points: {named(report.without_points)}")
    for line in report.notes:
        note(line)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
