"""``evaluate``: how good a model is patch by patch, or how good detections are lesion by lesion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_metastasis.cli.console import note, say, say_json, say_table, show_progress
from napari_metastasis.cli.options import WrongUsage, with_settings
from napari_metastasis.settings import DEFAULT_MODEL, EvaluationSettings, ScanSettings

if TYPE_CHECKING:
    from napari_metastasis.evaluation import DetectionReport, Estimate

__all__ = ["evaluate"]

_SCORING = (
    "mpp",
    "truth_from",
    "tumour_value",
    "mask_downsample",
    "threshold",
    "keep_flawed",
    "resamples",
    "seed",
)


@with_settings("settings", ScanSettings, only=("augment_views", "device"), panel="Patches")
@with_settings("scoring", EvaluationSettings, only=_SCORING, panel="Detections against truth")
def evaluate(
    settings: ScanSettings,
    scoring: EvaluationSettings,
    patches: Annotated[
        Path | None,
        typer.Option(
            help="Labelled patches: a folder or zip with class folders 0 and 1, or PCam's HDF5.",
            rich_help_panel="Patches",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="A model's name ('models list'), or a .safetensors file.", rich_help_panel="Patches"),
    ] = DEFAULT_MODEL,
    detections: Annotated[
        Path | None,
        typer.Option(
            help="Folder of one CSV of probability,x,y in level-0 pixels for each slide, or of scans' result folders.",
            rich_help_panel="Detections against truth",
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Folder of outlines (ASAP XML, GeoJSON) or masks (TIFF, PNG); a slide without any is normal.",
            rich_help_panel="Detections against truth",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for report.html and evaluation.json; nothing is overwritten.",
            rich_help_panel="Detections against truth",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure a model on labelled patches, or detections against the truth as CAMELYON16 does, with 95 % intervals."""
    if (patches is None) == (detections is None):
        raise WrongUsage("expected either --patches or --detections with --truth, got neither or both; choose one")
    if patches is not None:
        if truth is not None or output is not None:
            raise WrongUsage("expected --truth and --output with --detections, got them with --patches; leave them out")
        _evaluate_patches(patches, model, settings, as_json=as_json)
        return
    if detections is None or truth is None:
        raise WrongUsage("expected --detections with --truth, got one alone; give both folders")
    _evaluate_detections(detections, truth, scoring, output, as_json=as_json)


def _evaluate_patches(patches: Path, model: str, settings: ScanSettings, *, as_json: bool) -> None:
    from napari_metastasis.evaluation import evaluate_patches
    from napari_metastasis.models import load_model
    from napari_metastasis.patches import open_patches
    from napari_metastasis.scanning import resolve_devices

    # Patches are few: one device is enough.
    device = resolve_devices(settings.device)[0]
    source = open_patches(patches)
    loaded = load_model(model)
    with show_progress(f"Evaluating {loaded.spec.name}", unit="patches") as progress:
        report = evaluate_patches(loaded, source, views=settings.augment_views, device=device, progress=progress)
    if as_json:
        say_json(report.to_json())
        return
    _say_figures(
        f"{loaded.spec.name} on {report.n:,} patches",
        {
            "AUC": report.auc,
            "accuracy": report.accuracy,
            "balanced accuracy": report.classes.balanced_accuracy,
            "precision": report.classes.precision,
            "recall": report.classes.recall,
            "F1": report.classes.f1,
            "calibration error": report.calibration_error,
        },
    )


def _evaluate_detections(
    detections: Path, truth: Path, scoring: EvaluationSettings, output: Path | None, *, as_json: bool
) -> None:
    from napari_metastasis.evaluation import prepare_report, score_folders, write_report

    if output is not None:
        prepare_report(output)
    with show_progress("Scoring", unit="slides") as progress:
        report = score_folders(detections, truth, scoring, progress=progress)
    written = write_report(report, output) if output is not None else None
    if as_json:
        say_json(report.to_json())
    else:
        _say_report(report)
        if written is not None:
            say(f"Report: {written}")
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
    _say_figures(f"{len(report.outcomes)} slides", report.figures())


def _say_figures(title: str, figures: dict[str, Estimate]) -> None:
    say_table(
        ("measure", "value", "95 % interval"),
        [(name, f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}") for name, one in figures.items()],
        title=title,
    )
