"""What is written and printed of an evaluation on slides, whatever was measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from napari_metastasis.cli.cluster import opened_cluster
from napari_metastasis.cli.console import note, say, say_json, say_table, show_slides, stop_on_interrupt
from napari_metastasis.cli.figures import say_figures
from napari_metastasis.errors import ScanCancelledError, StorageError
from napari_metastasis.settings import ClusterSettings
from napari_metastasis.storage import folder_gone, with_option

if TYPE_CHECKING:
    from napari_metastasis.evaluation import DetectionReport, LeftOut, PointReport
    from napari_metastasis.models import ScanModels
    from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["evaluate_slides", "finish", "say_detections", "say_published"]


_Report = TypeVar("_Report", "DetectionReport", "PointReport")


def evaluate_slides(
    job: ScanJob,
    origin: Path,
    output: Path | None,
    *,
    called: Callable[[ScanModels], str],
    measured: Callable[[ScanModels], Mapping[str, Any]],
    evaluated: Callable[..., _Report],
    say_report: Callable[[_Report], None],
    cluster: ClusterSettings,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure on slides that are scanned where they are not yet, and print what came out.

    Parameters
    ----------
    job
        How they are scanned.
    origin
        The cohort.
    output
        Folder of the scans and the report; ``None`` for the one beside the cohort.
    called
        Returns the name of the model that is measured, which that folder bears.
    measured
        What the report will say of the origin of its figures, by the models.
    evaluated
        Measures: takes the models and, as keywords, output, bar, should_stop, engines and scanner.
    say_report
        Prints what came out.
    cluster, overwrite, as_json
        As the command takes them.

    Raises
    ------
    KeyboardInterrupt
        If it was stopped; the same command goes on.
    """
    from napari_metastasis.evaluation import prepare_report
    from napari_metastasis.workflows.evaluated_slides import evaluation_output, report_folder
    from napari_metastasis.workflows.scan import EngineCache, check_passes, load_job_models

    models = load_job_models(job)
    folder = evaluation_output(origin, called(models)) if output is None else output
    # Refused before hours are spent.
    check_passes(job, models)
    where = report_folder(folder, job)
    try:
        lay_there = prepare_report(where, measured(models), overwrite=overwrite)
    except StorageError as error:
        if output is not None or error.errno is None:
            raise
        raise with_option(error) from error
    # The engine is closed when everything is written and said: nothing is lost with a crash in there.
    with EngineCache(lambda _: models) as engines:
        try:
            with stop_on_interrupt() as should_stop, opened_cluster(cluster, job.scan, should_stop) as scanner:
                report = evaluated(
                    models,
                    output=folder,
                    bar=show_slides,
                    should_stop=should_stop,
                    engines=engines,
                    scanner=scanner,
                )
        except ScanCancelledError:
            raise KeyboardInterrupt from None
        finish(
            report,
            where,
            say_report=lambda: say_report(report),
            overwrite=overwrite,
            lay_there=lay_there,
            as_json=as_json,
        )


def finish(
    report: DetectionReport | PointReport,
    where: Path | None,
    *,
    say_report: Callable[[], None],
    overwrite: bool,
    lay_there: bool,
    as_json: bool,
) -> None:
    """Write a report where that was asked for, print it, and name the slides that were left out.

    Parameters
    ----------
    report
        What was measured.
    where
        Folder of the report; ``None`` where none is wanted.
    say_report
        Prints it, unless it is printed as JSON.
    overwrite, lay_there
        As :func:`~napari_metastasis.evaluation.prepare_report` takes, and returned it.
    as_json
        Whether one JSON object is printed and nothing else.

    Raises
    ------
    StorageError
        If the folder is gone, or the disk refuses.
    typer.Exit
        With status 1 where a slide was left out that should not have been.
    """
    from napari_metastasis.evaluation import write_report

    if where is not None and not os.path.isdir(where):
        raise folder_gone(where)
    written = None if where is None else write_report(report, where, overwrite=overwrite)
    if as_json:
        say_json(report.to_json())
    else:
        say_report()
        if written is not None:
            say(f"Report: {written}")
    if lay_there and not overwrite:
        note(f"the same report lies in {where} already; nothing was written")
    _say_left_out(report.left_out)


def _say_left_out(left_out: Sequence[LeftOut]) -> None:
    """Name the slides that were left out; exit with status 1 where one of them should not have been."""
    for one in left_out:
        note(f"left out {one.slide}: {one.why}")
    failures = sum(one.is_failure for one in left_out)
    if failures:
        note(f"expected every slide to be scored, got {failures} that cannot be read; correct what is named above")
        raise typer.Exit(1)


def say_detections(report: DetectionReport) -> None:
    """Print what detections are worth: every slide, the rates, the sizes, and the figures."""
    say_table(
        ("slide", "tumour", "score", "lesions", "targets", "hits", "misses", "FPs"),
        [
            (
                one.slide,
                "yes" if one.is_tumour else "no",
                f"{one.score:.3f}",
                str(len(one.lesions)),
                str(one.targets),
                str(len(one.hits)),
                str(one.targets - len(one.hits)),
                str(len(one.false_positives)),
            )
            for one in report.outcomes
        ],
    )
    if report.linear is not None and report.step is not None:
        say_table(
            ("FPs per slide", "sensitivity", "95 % interval", "read as step"),
            [
                (f"{rate:g}", f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}", f"{step.value:.4f}")
                for rate, one, step in zip(
                    report.settings.fp_rates, report.linear.sensitivity, report.step.sensitivity, strict=True
                )
            ],
        )
    say_table(
        ("size", "lesions", "found"), [(one.size_class, str(one.lesions), str(one.found)) for one in report.sizes]
    )
    say_figures(f"{len(report.outcomes)} slides", report.figures())


def say_published(report: DetectionReport) -> None:
    """Print the challenge's published figures with the report's own among them."""
    from napari_metastasis.evaluation import TABLE_III, TABLE_III_SOURCE

    rows = [(row.method, f"{row.froc_score:.4f}", f"{row.auc:.4f}") for row in TABLE_III]
    score = "" if report.linear is None else f"{report.linear.score.value:.4f}"
    auc = "" if report.slides is None else f"{report.slides.auc.value:.4f}"
    # Figures on other slides than the challenge's do not compare.
    remark = "" if report.is_camelyon16_test else f" (on {len(report.outcomes)} other slides: does not compare)"
    say_table(("method", "FROC score", "AUC"), [*rows, (report.name + remark, score, auc)], title=TABLE_III_SOURCE)
