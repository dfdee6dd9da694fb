"""``scan``: a slide in, its heatmap, detections and lesions out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_metastasis.cli.console import note, say, say_json, say_table, show_progress, stop_on_interrupt
from napari_metastasis.cli.options import WrongUsage, with_settings
from napari_metastasis.errors import SettingsError
from napari_metastasis.geometry import Region
from napari_metastasis.settings import DEFAULT_MODEL, DetectionSettings, ScanSettings, TissueSettings

if TYPE_CHECKING:
    from napari_metastasis.lesions import Lesion
    from napari_metastasis.pipeline import ScanResult

__all__ = ["Interrupted", "result_json", "say_result", "scan", "scan_to_end"]


class Interrupted(typer.Exit):
    """The user stopped a scan; what is finished is on disk."""

    def __init__(self) -> None:
        super().__init__(130)


@with_settings("detection", DetectionSettings, panel="Lesions", leave_out=("floor",))
@with_settings(
    "tissue",
    TissueSettings,
    panel="Tissue",
    flags={"mpp": "--tissue-mpp", "margin_um": "--tissue-margin-um", "min_object_um": "--tissue-min-object-um"},
)
@with_settings("settings", ScanSettings, panel="Scan", flags={"tissue_only": "--tissue-only/--no-tissue"})
def scan(
    slide: Annotated[Path, typer.Argument(help="The slide: a file, or a folder with the DICOM files of one.")],
    settings: ScanSettings,
    tissue: TissueSettings,
    detection: DetectionSettings,
    model: Annotated[str, typer.Option(help="A model's name ('models list'), or a .safetensors file.")] = DEFAULT_MODEL,
    region: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option(metavar="X Y W H", help="Scan only this rectangle, in level-0 pixels."),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(metavar="µm", help="µm per level-0 pixel, where the slide does not state it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Result folder; by default '<slide name>.metastasis' beside the slide.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Scan a slide: write its heatmap, detections and lesions, and print the lesions.

    A scan that was stopped goes on when the same command is run again.
    """
    from napari_metastasis.models import load_model
    from napari_metastasis.slides import open_slide

    try:
        # The command line has no slider that a lower floor would serve.
        detection = replace(detection, floor=min(detection.floor, detection.threshold))
    except SettingsError as error:
        raise WrongUsage(str(error)) from error
    with open_slide(slide, mpp) as opened:
        result = scan_to_end(
            opened,
            load_model(model),
            scan=settings,
            tissue=tissue,
            detection=detection,
            region=None if region is None else Region(*region),
            output=output,
        )
    if as_json:
        say_json(result_json(result))
    else:
        say_result(result)


def scan_to_end(slide: Any, model: Any, **how: Any) -> ScanResult:
    """Scan with progress on standard error, until the end or Ctrl-C.

    Parameters
    ----------
    slide, model, how
        As :func:`napari_metastasis.pipeline.scan_slide` takes them.

    Raises
    ------
    Interrupted
        If Ctrl-C stopped it.
    """
    from napari_metastasis.pipeline import scan_slide

    with stop_on_interrupt() as should_stop, show_progress(f"Scanning {slide.path.name}", unit="cells") as progress:
        result = scan_slide(slide, model, **how, focus=None, progress=progress, should_stop=should_stop)
    if not result.finished:
        raise Interrupted
    return result


def result_json(result: ScanResult) -> dict[str, Any]:
    """Return what ``scan --json`` prints; a slide of which nothing was scanned has no score."""
    return {
        "output": str(result.output),
        "slide_score": _finite(result.slide_score),
        "lesions": [_lesion_json(lesion) for lesion in result.lesions],
        "tissue_fraction": _finite(result.tissue_fraction),
        "seconds": result.seconds,
        "mpx_per_s": _finite(result.mpx_per_s),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None


def _lesion_json(lesion: Lesion) -> dict[str, Any]:
    names = ("id", "x", "y", "probability", "area_mm2", "length_mm", "size_class", "detections")
    return {name: getattr(lesion, name) for name in names}


def say_result(result: ScanResult) -> None:
    """Print the lesions and where the result lies."""
    if result.lesions:
        say_table(
            ("id", "x", "y", "probability", "area mm²", "length mm", "size class", "detections"),
            [
                (
                    str(lesion.id),
                    f"{lesion.x:.0f}",
                    f"{lesion.y:.0f}",
                    f"{lesion.probability:.3f}",
                    f"{lesion.area_mm2:.3f}",
                    f"{lesion.length_mm:.2f}",
                    lesion.size_class,
                    str(lesion.detections),
                )
                for lesion in result.lesions
            ],
        )
    else:
        say("No lesions at this threshold.")
    score = "none, nothing was scanned" if _finite(result.slide_score) is None else f"{result.slide_score:.3f}"
    say(f"Slide score: {score}")
    say(f"Results: {result.output}")
    rate = _finite(result.mpx_per_s)
    note(f"scanned in {result.seconds:.1f} s" + (f", {rate:.1f} Mpx/s" if rate else ""))
