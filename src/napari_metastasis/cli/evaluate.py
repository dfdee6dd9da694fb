"""``evaluate``: measures a model on patches or on a cohort of slides, or detections."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from napari_metastasis.cli.console import note, say, say_json, say_table, show_progress, show_slides, stop_on_interrupt
from napari_metastasis.cli.evaluate_stages import evaluate_stages
from napari_metastasis.cli.figures import named, say_figures
from napari_metastasis.cli.memory import keep_freed_memory
from napari_metastasis.cli.options import WrongUsage, refuse_options, with_passes, with_settings
from napari_metastasis.errors import ScanCancelledError, StorageError
from napari_metastasis.settings import (
    DEFAULT_MODEL,
    CohortSettings,
    DetectionSettings,
    EvaluationSettings,
    PatchScoringSettings,
    ScanSettings,
)
from napari_metastasis.storage import folder_gone, with_option
from napari_metastasis.tasks import pass_tasks
from napari_metastasis.workflows.scan_job import PassRequest, ScanJob

if TYPE_CHECKING:
    from napari_metastasis.cohorts.cohort import Cohort, Split
    from napari_metastasis.evaluation import DetectionReport
    from napari_metastasis.workflows.evaluate import CohortEvaluation

__all__ = ["evaluate"]

_SCORING = ("mpp", "truth_from", "tumour_value", "mask_downsample", "threshold", "keep_flawed", "resamples", "seed")
_SCANNING = ("dense_coefficient", "augment_views", "device", "precision", "engine", "roi_px", "threads")
#: Headings of the options.
_MODEL, _COHORT, _DETECTIONS = "A model on patches or slides", "Slides", "Scoring of detections"
_STAGED = "Stages of patients"


def _in(heading: str, text: str) -> Any:
    """Return an option that stands under a heading."""
    return typer.Option(help=text, rich_help_panel=heading)


_PATCHES = _in(_MODEL, "Labelled patches: a folder or zip with class folders 0 and 1, or PCam's HDF5.")
_SLIDES = _in(
    _COHORT,
    "Slides with annotations: a CSV file, or a folder laid out as CAMELYON16, CAMELYON17 or images/masks. What is not "
    "scanned yet is scanned.",
)
_CAMELYON16 = _in(
    _COHORT, "CAMELYON16's folder: its test slides are measured as in the challenge, beside the published figures."
)
_SPLIT = _in(
    _COHORT,
    "Slides of the cohort to measure on: train, validation or test. By default test, or validation where there is no "
    "test.",
)
_NAME = _in(_MODEL, "A model's name ('models list'), or a .safetensors file; of slides a refiner's, too.")
_FOLDER = _in(
    _DETECTIONS, "Folder of one CSV of probability,x,y in level-0 pixels for each slide, or of scans' result folders."
)
_TRUTH = _in(
    _DETECTIONS,
    "Folder of outlines (ASAP XML, GeoJSON) or masks (TIFF, PNG); a slide without any is normal. Of stages, a table.",
)
_STAGES = _in(_STAGED, "Table of stages, as 'stage --output' and CAMELYON17 write it, to measure against --truth.")
_OUTPUT = typer.Option(
    help="Folder for report.html and evaluation.json; an earlier report is kept. Of a cohort for its scans, too, with "
    "the report in 'report', or 'report-refined'; by default '<cohort>-<model>.evaluation' beside it."
)
_OVERWRITE = typer.Option("--overwrite", help="Replace an earlier report of something else; scans are kept.")

#: Options of the passes.
_PASSES = tuple(f"{task.name}_" for task in pass_tasks())
#: Options that each way of measuring ignores, by the beginnings of their parameters' names.
_IGNORED = {
    "patches": (
        "scoring_", "splits_", "detection_", *_PASSES,
        "settings_dense_coefficient", "settings_precision", "settings_engine", "settings_roi_px", "settings_threads",
    ),
    "cohort": ("scoring_mpp", "scoring_truth_from", "scoring_mask_downsample"),
    "camelyon16": ("scoring_truth_from", "scoring_mask_downsample"),
    "detections": ("settings_", *_PASSES, "splits_", "detection_", "model"),
    "stages": ("settings_", *_PASSES, "splits_", "detection_", "model", *(f"scoring_{name}" for name in _SCORING[:-2])),
}  # fmt: skip


@with_passes("passes", panel=_COHORT, keeping=False)
@with_settings("settings", ScanSettings, only=_SCANNING, panel=_MODEL)
@with_settings("splits", CohortSettings, panel=_COHORT)
@with_settings(
    "detection", DetectionSettings, only=("threshold",), flags={"threshold": "--detection-threshold"}, panel=_COHORT
)
@with_settings("scoring", EvaluationSettings, only=_SCORING, panel=_DETECTIONS)
def evaluate(
    context: typer.Context,
    settings: ScanSettings,
    passes: tuple[PassRequest, ...],
    splits: CohortSettings,
    detection: DetectionSettings,
    scoring: EvaluationSettings,
    patches: Annotated[Path | None, _PATCHES] = None,
    cohort: Annotated[Path | None, _SLIDES] = None,
    camelyon16: Annotated[Path | None, _CAMELYON16] = None,
    split: Annotated[str | None, _SPLIT] = None,
    model: Annotated[str, _NAME] = DEFAULT_MODEL,
    detections: Annotated[Path | None, _FOLDER] = None,
    truth: Annotated[Path | None, _TRUTH] = None,
    stages: Annotated[Path | None, _STAGES] = None,
    output: Annotated[Path | None, _OUTPUT] = None,
    overwrite: Annotated[bool, _OVERWRITE] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure a model on patches or slides, or detections or stages against a reference, with 95 % intervals.

    Slides are scored as CAMELYON16 does. A cohort's scans that were stopped go on when the same command is run again.
    """
    _check_usage(context)
    if stages is not None and truth is not None:
        evaluate_stages(stages, truth, scoring, as_json=as_json)
    elif patches is not None:
        _evaluate_patches(patches, model, settings, as_json=as_json)
    elif detections is not None and truth is not None:
        _evaluate_detections(detections, truth, scoring, output, overwrite=overwrite, as_json=as_json)
    else:
        from napari_metastasis.workflows.evaluate import CohortEvaluation
        from napari_metastasis.workflows.scan import settle_job

        found, chosen = _read_cohort(cohort, camelyon16, split, splits)
        # To measure needs no features afterwards, and a cohort's are large.
        requests = tuple(replace(one, settings=one.settings.not_keeping()) for one in passes)
        job = settle_job(ScanJob(slide=found.origin, model=model, passes=requests, scan=settings, detection=detection))
        # The challenge takes one pixel size for all its slides.
        how = CohortEvaluation(job=job, scoring=scoring, split=chosen, own_mpp=camelyon16 is None)
        _evaluate_cohort(found, how, output, overwrite=overwrite, as_json=as_json)


def _check_usage(context: typer.Context) -> None:
    """Refuse options that do not go together, or that the way of measuring ignores."""
    given = context.params
    split = given["split"]
    if sum(given[name] is not None for name in _IGNORED) != 1:
        raise WrongUsage(
            "expected one of --patches, --cohort, --camelyon16, and --detections or --stages with --truth, got none or "
            "several; choose one"
        )
    if (given["detections"] is None and given["stages"] is None) != (given["truth"] is None):
        what = "--detections with --truth, or --stages with it" if given["stages"] is None else "--stages with --truth"
        raise WrongUsage(f"expected {what}, got one alone; give both, or leave them out")
    if given["stages"] is not None and (given["output"] is not None or given["overwrite"]):
        raise WrongUsage("expected --output with slides or detections, got it with --stages; leave it out")
    if given["patches"] is not None and given["output"] is not None:
        raise WrongUsage("expected --output with slides or detections, got it with --patches; leave it out")
    if given["patches"] is not None and given["overwrite"]:
        raise WrongUsage("expected --overwrite with slides or detections, got it with --patches; leave it out")
    if given["overwrite"] and given["cohort"] is None and given["camelyon16"] is None and given["output"] is None:
        raise WrongUsage("expected --output with --overwrite, got no report to replace; name its folder")
    if split is not None and (given["cohort"] is None or split not in ("train", "validation", "test")):
        raise WrongUsage(f"expected --cohort with a --split of train, validation or test, got {split!r}; correct it")
    mode = next(name for name in _IGNORED if given[name] is not None)
    refuse_options(context, _IGNORED[mode], f"--{mode}")


def _read_cohort(
    cohort: Path | None, camelyon16: Path | None, split: str | None, splits: CohortSettings
) -> tuple[Cohort, Split]:
    from napari_metastasis.cohorts.cohort import read_cohort
    from napari_metastasis.workflows.evaluate import split_to_evaluate

    path = cohort if cohort is not None else camelyon16
    assert path is not None
    found = read_cohort(
        path,
        validation_share=splits.validation_share,
        seed=splits.split_seed,
        mpp=splits.cohort_mpp or None,
        layout="camelyon16" if camelyon16 is not None else None,
    )
    if camelyon16 is not None:
        return found, "test"
    return found, split_to_evaluate(found) if split is None else cast("Split", split)


def _evaluate_cohort(
    cohort: Cohort, how: CohortEvaluation, output: Path | None, *, overwrite: bool, as_json: bool
) -> None:
    from napari_metastasis.evaluation import prepare_report
    from napari_metastasis.workflows.evaluate import evaluate_cohort, evaluation_output, measured_with, report_folder
    from napari_metastasis.workflows.scan import EngineCache, check_passes, load_job_models

    models = load_job_models(how.job)
    folder = evaluation_output(cohort.origin, models.detector.name) if output is None else output
    # Refused before hours are spent.
    check_passes(how.job, models)
    where = report_folder(folder, how.job)
    try:
        lay_there = prepare_report(where, measured_with(cohort, models, how), overwrite=overwrite)
    except StorageError as error:
        if output is not None or error.errno is None:
            raise
        raise with_option(error) from error
    # The engine is closed when everything is written and said: nothing is lost with a crash in there.
    with EngineCache(lambda _: models) as engines:
        with stop_on_interrupt() as should_stop:
            try:
                report = evaluate_cohort(
                    cohort, models, how, output=folder, bar=show_slides, should_stop=should_stop, engines=engines
                )
            except ScanCancelledError:
                raise KeyboardInterrupt from None
        _finish(report, where, overwrite=overwrite, lay_there=lay_there, published=not how.own_mpp, as_json=as_json)


def _finish(
    report: DetectionReport,
    where: Path | None,
    *,
    overwrite: bool,
    lay_there: bool,
    published: bool = False,
    as_json: bool,
) -> None:
    """Write a report where that was asked for, print it, and name the slides that were left out."""
    from napari_metastasis.evaluation import write_report

    if where is not None and not os.path.isdir(where):
        raise folder_gone(where)
    written = None if where is None else write_report(report, where, overwrite=overwrite)
    if as_json:
        say_json(report.to_json())
    else:
        _say_report(report)
        if published:
            _say_published(report)
        if written is not None:
            say(f"Report: {written}")
    if lay_there and not overwrite:
        note(f"the same report lies in {where} already; nothing was written")
    _say_left_out(report)


def _evaluate_patches(patches: Path, model: str, settings: ScanSettings, *, as_json: bool) -> None:
    from napari_metastasis.cohorts.patches import colours_note, open_patches
    from napari_metastasis.evaluation import evaluate_patches
    from napari_metastasis.models import load_detector
    from napari_metastasis.scanning import resolve_devices

    keep_freed_memory()
    # Patches are few: one device is enough.
    device = resolve_devices(settings.device)[0]
    source = open_patches(patches)
    loaded = load_detector(model)
    if doubt := colours_note(source):
        note(doubt)
    with show_progress(f"Evaluating {loaded.spec.name}", unit="patches") as progress:
        report = evaluate_patches(
            loaded, source, PatchScoringSettings(), views=settings.augment_views, device=device, progress=progress
        )
    if as_json:
        say_json({**report.to_json(), "notes": [doubt] if doubt else []})
        return
    say_figures(
        f"{loaded.spec.name} on {report.n:,} patches",
        {
            "AUC": report.auc,
            "accuracy": report.accuracy,
            "balanced accuracy": report.classes.balanced_accuracy,
            "precision": report.classes.precision,
            "recall": report.classes.recall,
            "F1": report.classes.f1,
            "calibration error": report.calibration_error,
            "sensitivity at 1 % false positives": report.sensitivity[0],
            "sensitivity at 0.2 % false positives": report.sensitivity[1],
        },
    )


def _evaluate_detections(
    detections: Path, truth: Path, scoring: EvaluationSettings, output: Path | None, *, overwrite: bool, as_json: bool
) -> None:
    from napari_metastasis.evaluation import prepare_report, score_folders

    lay_there = output is not None and prepare_report(output)
    with show_progress("Scoring", unit="slides") as progress:
        report = score_folders(detections, truth, scoring, progress=progress)
    normal = report.measured.get("normal_without_truth", [])
    if normal:
        note(f"taken as normal, for want of truth: {named(normal)}")
    _finish(report, output, overwrite=overwrite, lay_there=lay_there, as_json=as_json)


def _say_left_out(report: DetectionReport) -> None:
    """Name the slides that were left out; exit with status 1 where one of them should not have been."""
    for one in report.left_out:
        note(f"left out {one.slide}: {one.why}")
    failures = sum(one.is_failure for one in report.left_out)
    if failures:
        note(f"expected every slide to be scored, got {failures} that cannot be read; correct what is named above")
        raise typer.Exit(1)


def _say_report(report: DetectionReport) -> None:
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


def _say_published(report: DetectionReport) -> None:
    """Print the challenge's published figures with the report's own among them."""
    from napari_metastasis.evaluation import TABLE_III, TABLE_III_SOURCE

    rows = [(row.method, f"{row.froc_score:.4f}", f"{row.auc:.4f}") for row in TABLE_III]
    score = "" if report.linear is None else f"{report.linear.score.value:.4f}"
    auc = "" if report.slides is None else f"{report.slides.auc.value:.4f}"
    # Figures on other slides than the challenge's do not compare.
    remark = "" if report.is_camelyon16_test else f" (on {len(report.outcomes)} other slides: does not compare)"
    say_table(("method", "FROC score", "AUC"), [*rows, (report.name + remark, score, auc)], title=TABLE_III_SOURCE)
