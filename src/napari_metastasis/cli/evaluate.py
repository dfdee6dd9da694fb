"""``evaluate``: measures a model on patches or on a cohort of slides, or detections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from napari_metastasis.cli.cluster import with_cluster
from napari_metastasis.cli.console import note, say_json, show_progress
from napari_metastasis.cli.evaluate_points import evaluate_cohort_points, evaluate_point_folders
from napari_metastasis.cli.evaluate_stages import evaluate_stages
from napari_metastasis.cli.evaluated import evaluate_slides, finish, say_detections, say_published
from napari_metastasis.cli.figures import named, say_figures
from napari_metastasis.cli.memory import keep_freed_memory
from napari_metastasis.cli.options import WrongUsage, refuse_options, was_given, with_passes, with_settings
from napari_metastasis.settings import (
    DEFAULT_MODEL,
    ClusterSettings,
    CohortSettings,
    DetectionSettings,
    EvaluationSettings,
    MitosisSettings,
    PatchScoringSettings,
    PointScoringSettings,
    ScanSettings,
)
from napari_metastasis.tasks import pass_tasks
from napari_metastasis.workflows.scan_job import PassRequest, ScanJob

if TYPE_CHECKING:
    from napari_metastasis.cohorts.cohort import Cohort, Split
    from napari_metastasis.evaluation import DetectionReport
    from napari_metastasis.workflows.evaluate import CohortEvaluation

__all__ = ["evaluate"]

_SCORING = (
    "mpp", "truth_from", "tumour_value", "mask_downsample", "threshold", "keep_flawed", "allow_unpaired", "resamples",
    "seed",
)  # fmt: skip
_SCANNING = ("dense_coefficient", "augment_views", "device", "precision", "engine", "roi_px", "threads")
#: Headings of the options.
_MODEL, _COHORT, _DETECTIONS = "A model on patches or slides", "Slides", "Scoring of detections"
_STAGED, _POINTS = "Stages of patients", "Mitoses"


def _in(heading: str, text: str) -> Any:
    """Return an option that stands under a heading."""
    return typer.Option(help=text, rich_help_panel=heading)


_PATCHES = _in(_MODEL, "Labelled patches: a folder or zip with class folders 0 and 1, or PCam's HDF5.")
_SLIDES = _in(
    _COHORT,
    "Slides with annotations: a CSV file, or a folder laid out as CAMELYON16, CAMELYON17 or images/masks. What is not "
    "scanned yet is scanned. Of a mitosis model the annotations are points.",
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
    "Folder of outlines (ASAP XML, GeoJSON) or masks (TIFF, PNG); a slide without any is normal. Of mitoses, folder of "
    "points (ASAP XML, GeoJSON, CSV) or MIDOG's JSON. Of stages, a table.",
)
_SCORE = _in(
    _DETECTIONS,
    "What detections are: lesions, or mitoses, which are points; auto takes them for mitoses where truth is points "
    "without tumour.",
)
_STAGES = _in(_STAGED, "Table of stages, as 'stage --output' and CAMELYON17 write it, to measure against --truth.")
_OUTPUT = typer.Option(
    help="Folder for report.html and evaluation.json; an earlier report is kept. Of a cohort for its scans, too, with "
    "the report in 'report', or 'report-refined'; by default '<cohort>-<model>.evaluation' beside it."
)
_OVERWRITE = typer.Option("--overwrite", help="Replace an earlier report of something else; scans are kept.")

#: Options of the passes.
_PASSES = tuple(f"{task.name}_" for task in pass_tasks())
#: How lesions are scored, but for what holds for points as well.
_OF_LESIONS = ("scoring_truth_from", "scoring_tumour_value", "scoring_mask_downsample", "scoring_threshold")
#: Options that each way of measuring ignores, by the beginnings of their parameters' names.
_IGNORED = {
    "patches": (
        "cluster_", "scoring_", "points_", "score_as", "splits_", "detection_", *_PASSES,
        "settings_dense_coefficient", "settings_precision", "settings_engine", "settings_roi_px", "settings_threads",
    ),
    "cohort": (
        "points_", "score_as", "scoring_mpp", "scoring_truth_from", "scoring_mask_downsample", "scoring_allow_unpaired",
    ),
    "camelyon16": (
        "points_", "score_as", "scoring_truth_from", "scoring_mask_downsample", "scoring_allow_unpaired",
    ),
    "detections": ("cluster_", "points_", "settings_", *_PASSES, "splits_", "detection_", "model"),
    "stages": (
        "cluster_", "points_", "score_as", "settings_", *_PASSES, "splits_", "detection_", "model",
        *(f"scoring_{name}" for name in _SCORING[:-2]),
    ),
}  # fmt: skip
#: The same where mitoses are measured.
_IGNORED_OF_POINTS = {
    "cohort": (*_OF_LESIONS, "score_as", "scoring_mpp", "scoring_allow_unpaired", "detection_"),
    "detections": (
        "cluster_", *_OF_LESIONS, "scoring_keep_flawed", "settings_", "splits_", "detection_", "model",
        *(one for one in _PASSES if one != "mitosis_"), "mitosis_model", "mitosis_mitosis_above",
        "mitosis_mitosis_radius", "mitosis_hot_spot",
    ),
}  # fmt: skip


@with_passes("passes", panel=_COHORT, keeping=False)
@with_cluster
@with_settings("settings", ScanSettings, only=_SCANNING, panel=_MODEL)
@with_settings("splits", CohortSettings, panel=_COHORT)
@with_settings(
    "detection", DetectionSettings, only=("threshold",), flags={"threshold": "--detection-threshold"}, panel=_COHORT
)
@with_settings(
    "points",
    PointScoringSettings,
    only=("radius_um", "order"),
    flags={"radius_um": "--point-radius-um", "order": "--point-order"},
    panel=_POINTS,
)
@with_settings("scoring", EvaluationSettings, only=_SCORING, panel=_DETECTIONS)
def evaluate(
    context: typer.Context,
    settings: ScanSettings,
    passes: tuple[PassRequest, ...],
    splits: CohortSettings,
    detection: DetectionSettings,
    scoring: EvaluationSettings,
    points: PointScoringSettings,
    cluster: ClusterSettings,
    patches: Annotated[Path | None, _PATCHES] = None,
    cohort: Annotated[Path | None, _SLIDES] = None,
    camelyon16: Annotated[Path | None, _CAMELYON16] = None,
    split: Annotated[str | None, _SPLIT] = None,
    model: Annotated[str, _NAME] = DEFAULT_MODEL,
    detections: Annotated[Path | None, _FOLDER] = None,
    truth: Annotated[Path | None, _TRUTH] = None,
    stages: Annotated[Path | None, _STAGES] = None,
    score_as: Annotated[Literal["auto", "lesions", "mitoses"], _SCORE] = "auto",
    output: Annotated[Path | None, _OUTPUT] = None,
    overwrite: Annotated[bool, _OVERWRITE] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure a model on patches or slides, or detections or stages against a reference, with 95 % intervals.

    Slides are scored as CAMELYON16 does, and mitoses by precision, recall and F1. A cohort's scans that were stopped go
    on when the same command is run again.
    """
    mode = _check_usage(context)
    scored = replace(points, resamples=scoring.resamples, seed=scoring.seed)
    if detections is not None and truth is not None:
        # Before the truth is looked at.
        both = tuple(one for one in _IGNORED[mode] if one in _IGNORED_OF_POINTS[mode])
        refuse_options(context, both, f"--{mode}")
        if _scores_points(score_as, detections, truth):
            refuse_options(context, _IGNORED_OF_POINTS[mode], "--detections of mitoses")
            evaluate_point_folders(
                detections,
                truth,
                scored,
                mpp=scoring.mpp if was_given(context, "scoring_mpp") else None,
                threshold=next(
                    one.settings.mitosis_threshold for one in passes if isinstance(one.settings, MitosisSettings)
                ),
                allow_unpaired=scoring.allow_unpaired,
                output=output,
                overwrite=overwrite,
                as_json=as_json,
            )
            return
        refuse_options(context, _IGNORED[mode], f"--{mode}")
        _evaluate_detections(detections, truth, scoring, output, overwrite=overwrite, as_json=as_json)
    elif cohort is not None or camelyon16 is not None:
        from napari_metastasis.workflows.scan import settle_job

        # To measure needs no features afterwards, and a cohort's are large.
        requests = tuple(replace(one, settings=one.settings.not_keeping()) for one in passes)
        origin = cohort if cohort is not None else camelyon16
        assert origin is not None
        job = settle_job(ScanJob(slide=origin, model=model, passes=requests, scan=settings, detection=detection))
        looks_for_mitoses = job.settings_of(MitosisSettings) is not None
        if looks_for_mitoses and cohort is None:
            raise WrongUsage(
                "expected --cohort to look for mitoses, got --camelyon16, which has none; give the slides so"
            )
        ignored = _IGNORED_OF_POINTS if looks_for_mitoses else _IGNORED
        refuse_options(context, ignored[mode], f"--{mode}{' of mitoses' if looks_for_mitoses else ''}")
        found, chosen = _read_cohort(cohort, camelyon16, split, splits)
        if looks_for_mitoses:
            evaluate_cohort_points(
                found, job, scored, chosen, output,
                cluster=cluster, keep_flawed=scoring.keep_flawed, overwrite=overwrite, as_json=as_json,
            )  # fmt: skip
            return
        from napari_metastasis.workflows.evaluate import CohortEvaluation

        # The challenge takes one pixel size for all its slides.
        how = CohortEvaluation(job=job, scoring=scoring, split=chosen, own_mpp=camelyon16 is None)
        _evaluate_cohort(found, how, output, cluster=cluster, overwrite=overwrite, as_json=as_json)
    else:
        refuse_options(context, _IGNORED[mode], f"--{mode}")
        if stages is not None and truth is not None:
            evaluate_stages(stages, truth, scoring, as_json=as_json)
        elif patches is not None:
            _evaluate_patches(patches, model, settings, as_json=as_json)


def _scores_points(score_as: str, detections: Path, truth: Path) -> bool:
    """Return whether mitoses are scored: where that is asked for, or truth is points."""
    from napari_metastasis.evaluation import holds_points

    return score_as == "mitoses" or (score_as == "auto" and holds_points(truth, detections))


def _check_usage(context: typer.Context) -> str:
    """Refuse options that do not go together, and return what is measured on."""
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
    return next(name for name in _IGNORED if given[name] is not None)


def _read_cohort(
    cohort: Path | None, camelyon16: Path | None, split: str | None, splits: CohortSettings
) -> tuple[Cohort, Split]:
    from napari_metastasis.cohorts.cohort import read_cohort
    from napari_metastasis.workflows.evaluated_slides import split_to_evaluate

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
    cohort: Cohort,
    how: CohortEvaluation,
    output: Path | None,
    *,
    cluster: ClusterSettings,
    overwrite: bool,
    as_json: bool,
) -> None:
    from napari_metastasis.workflows.evaluate import evaluate_cohort, measured_with

    def say_report(report: DetectionReport) -> None:
        say_detections(report)
        if not how.own_mpp:
            say_published(report)

    evaluate_slides(
        how.job,
        cohort.origin,
        output,
        called=lambda models: models.detector.name,
        measured=lambda models: measured_with(cohort, models, how),
        evaluated=lambda models, **run: evaluate_cohort(cohort, models, how, **run),
        say_report=say_report,
        cluster=cluster,
        overwrite=overwrite,
        as_json=as_json,
    )


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
    finish(
        report,
        output,
        say_report=lambda: say_detections(report),
        overwrite=overwrite,
        lay_there=lay_there,
        as_json=as_json,
    )
