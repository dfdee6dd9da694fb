"""``scan``: slides in, their heatmaps, detections and lesions out."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_metastasis.cli.cluster import with_cluster
from napari_metastasis.cli.console import note, say, say_json, say_table, show_progress, stop_on_interrupt
from napari_metastasis.cli.options import WrongUsage, with_passes, with_settings
from napari_metastasis.cli.scan_many import scan_many
from napari_metastasis.errors import AnnotationError, ScanCancelledError
from napari_metastasis.geometry import Region
from napari_metastasis.settings import (
    DEFAULT_MODEL,
    ClusterSettings,
    DetectionSettings,
    ScanSettings,
    TissueSettings,
)
from napari_metastasis.slide_address import SlideUrl, slide_path
from napari_metastasis.workflows.scan_job import AtHand, PassRequest, ScanJob

if TYPE_CHECKING:
    from napari_metastasis.annotations import Annotation
    from napari_metastasis.lesions import Mitoses
    from napari_metastasis.slides import Slide
    from napari_metastasis.workflows.scan import ScanResult

__all__ = [
    "AsJson",
    "Picture",
    "PixelSize",
    "Slides",
    "SwapRedBlue",
    "say_result",
    "scan",
    "scan_all",
    "scan_to_end",
    "with_tissue",
]

_ALONE = ClusterSettings()

#: What every command that looks at slides takes.
#: Text, and not paths, which would take a slash out of an address.
Slides = Annotated[
    list[str],
    typer.Argument(
        help="The slide: a file, an OME-Zarr, a folder with the DICOM files of one, or an address (https://…, s3://…) "
        "of a TIFF or an OME-Zarr. Or many: several of them, folders of slides (masks are left out), CSV files that "
        "list slides (columns: slide or path, mpp, swap_red_blue).",
    ),
]
PixelSize = Annotated[
    float | None, typer.Option(metavar="µm", help="µm per level-0 pixel, where the slide does not state it.")
]
SwapRedBlue = Annotated[
    bool, typer.Option("--swap-red-blue", help="The file holds red and blue in each other's place: put them right.")
]
Picture = Annotated[
    bool, typer.Option("--picture", help="Draw the slide with probabilities and outlines: overview.png.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
with_tissue = with_settings(
    "tissue",
    TissueSettings,
    panel="Tissue",
    flags={"mpp": "--tissue-mpp", "margin_um": "--tissue-margin-um", "min_object_um": "--tissue-min-object-um"},
)


@with_settings("detection", DetectionSettings, panel="Lesions", leave_out=("floor",))
@with_tissue
@with_passes("passes")
@with_cluster
@with_settings("settings", ScanSettings, panel="Scan", flags={"tissue_only": "--tissue-only/--no-tissue"})
def scan(
    slides: Slides,
    settings: ScanSettings,
    tissue: TissueSettings,
    detection: DetectionSettings,
    passes: tuple[PassRequest, ...],
    cluster: ClusterSettings,
    model: Annotated[
        str,
        typer.Option(
            help="A model's name ('models list'), or a .safetensors file; a refiner's name scans with its detector "
            "and refines."
        ),
    ] = DEFAULT_MODEL,
    region: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option(metavar="X Y W H", help="Scan only this rectangle, in level-0 pixels."),
    ] = None,
    region_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Scan only the rectangle around the outlines of this file (GeoJSON, ASAP's XML, JSON of the Digital "
            "Slide Archive); mitoses are looked for inside these alone.",
        ),
    ] = None,
    mpp: PixelSize = None,
    swap_red_blue: SwapRedBlue = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Result folder; by default '<slide name>.metastasis' beside the slide, or of a slide at an address in "
            "the current folder. Of many slides the folder that "
            "holds theirs, summary.csv and index.html, which else go to the current folder; an earlier summary is "
            "written anew."
        ),
    ] = None,
    picture: Picture = False,
    csv_header: Annotated[
        bool,
        typer.Option(
            "--csv-header",
            help="Begin detections.csv with the names of its columns, as tables are usually read; CAMELYON16's own "
            "scripts expect none.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Scan slides: write their heatmaps, detections and lesions, and print the lesions.

    A scan that was stopped goes on when the same command is run again. Many slides get a report each, a summary and an
    index; those that cannot be scanned are named at the end, and the exit status is 1.
    """
    job = ScanJob(
        slide=slide_path(slides[0]),
        mpp=mpp,
        swap_red_blue=swap_red_blue,
        model=model,
        passes=passes,
        region=None if region is None else Region(*region),
        scan=settings,
        tissue=tissue,
        detection=detection,
        output=output,
        csv_header=csv_header,
    )
    scan_all(slides, job, picture=picture, as_json=as_json, region_file=region_file, cluster=cluster)


def scan_all(
    slides: list[str],
    job: ScanJob,
    *,
    picture: bool,
    as_json: bool,
    region_file: Path | None = None,
    cluster: ClusterSettings = _ALONE,
) -> None:
    """Scan slides as a job says, and print what was found.

    Parameters
    ----------
    slides
        As the command takes them.
    job
        Of the first of them.
    picture, as_json, region_file, cluster
        As the command takes them.

    Raises
    ------
    WrongUsage
        If a region is asked for on many slides, or in two ways, or several workers for one slide.
    AnnotationError
        If the file of outlines cannot be read, or holds none.
    """
    from napari_metastasis.slides import open_slide
    from napari_metastasis.workflows.report import is_one_slide, write_picture
    from napari_metastasis.workflows.scan import EngineCache

    places = [slide_path(text) for text in slides]
    one = len(places) == 1 and is_one_slide(places[0])
    if job.region is not None and region_file is not None:
        raise WrongUsage("expected --region or --region-file, got both; leave one out")
    asked = "--region" if job.region is not None else "--region-file" if region_file is not None else ""
    if asked and not one:
        raise WrongUsage(f"expected one slide for {asked}, got many; scan that slide alone")
    if one and cluster.wanted:
        raise WrongUsage(
            "expected many slides for --workers or --scheduler, got one; leave the option out, or name the slide in a "
            "CSV file: a large one is scanned in parts"
        )
    if job.output is None and any(isinstance(place, SlideUrl) for place in places):
        note(f"results of slides at an address go to the current folder, {Path.cwd()}; choose another with --output")
    # The engine is closed when everything is written and said: nothing is lost with a crash in there.
    with EngineCache() as engines:
        if not one:
            scan_many(places, job, engines, cluster=cluster, picture=picture, as_json=as_json)
            return
        with ExitStack() as opened:
            at_hand = AtHand(engines=engines)
            if region_file is not None:
                slide = opened.enter_context(open_slide(job.slide, job.mpp, swap_red_blue=job.swap_red_blue))
                job, at_hand = job.inside(_outlines_of(region_file, slide)), AtHand(engines=engines, slide=slide)
            result = scan_to_end(job, at_hand)
        # What was found is said first: a picture that cannot be drawn takes nothing of it.
        if as_json:
            say_json(result.summary())
        else:
            say_result(result)
        if picture:
            drawn = write_picture(result.output)
            if not as_json:
                say(f"Picture: {drawn}")


def _outlines_of(path: Path, slide: Slide) -> tuple[Annotation, ...]:
    """Return the outlines of a file, and say what they are; cut-outs are holes of theirs."""
    from napari_metastasis.annotations import AnnotationSet
    from napari_metastasis.annotations.polygons import counted
    from napari_metastasis.cohorts.annotation_files import geojson_corner, read_areas

    areas = read_areas(path, corner=geojson_corner(slide.bounds))
    if not isinstance(areas, AnnotationSet) or not areas.annotations:
        got = "none" if isinstance(areas, AnnotationSet) else "a mask"
        raise AnnotationError(f"expected outlines in {path}, got {got}; draw the area to look at, and export that")
    for one in areas:
        left, top, right, bottom = one.outline_px.bounds
        if right <= 0 or bottom <= 0 or left >= slide.size.width or top >= slide.size.height:
            raise AnnotationError(
                f"expected outlines on {slide.name} in {path}, got {one.name or 'one'}, which lies beside it; name a "
                "file of this slide, in level-0 pixels"
            )
    groups = sorted({one.group or "no class" for one in areas})
    left_out = "; left out " + ", ".join(counted(areas.omitted)) if areas.omitted else ""
    (outlines,) = counted({"outlines": len(areas.annotations)})
    note(f"looking inside {outlines} of {path.name} ({', '.join(groups)}){left_out}")
    return areas.annotations


def scan_to_end(job: ScanJob, at_hand: AtHand | None = None) -> ScanResult:
    """Scan, with progress on standard error, until the end or Ctrl-C.

    Parameters
    ----------
    job, at_hand
        As :func:`napari_metastasis.workflows.scan.scan_slide` takes them.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C stopped it; what was answered until then is stored.
    """
    from napari_metastasis.workflows.scan import scan_slide

    title = f"Scanning {job.slide.name}"
    with stop_on_interrupt() as should_stop, show_progress(title, unit="Mpx", scale=1e-6) as progress:
        try:
            result = scan_slide(job, at_hand, progress=progress, should_stop=should_stop)
        except ScanCancelledError:
            # Only Ctrl-C stops it here, and did so before it began.
            raise KeyboardInterrupt from None
    if not result.finished:
        raise KeyboardInterrupt
    return result


def say_result(result: ScanResult) -> None:
    """Print the lesions, the mitoses and where the result lies."""
    from napari_metastasis.lesions.texts import probability_text

    if result.coverage.answered_cells or result.mitoses is None:
        _say_lesions(result)
    if result.mitoses is not None:
        _say_mitoses(result.mitoses)
    for line in result.partly:
        say(line)
    if result.coverage.answered_cells or result.mitoses is None:
        score = "none, nothing was scanned" if result.slide_score is None else probability_text(result.slide_score)
        say(f"Slide score: {score}; tissue: {result.tissue_fraction:.0%} of the slide")
    else:
        say("Metastases were not looked for.")
    say(f"Results: {result.output}")
    if result.mpx_per_s:
        note(f"scanned in {result.seconds:.1f} s, {result.mpx_per_s:.1f} Mpx/s")
    elif result.work_px:
        note(f"the maps beside the scan's own were made in {result.seconds:.1f} s")
    else:
        note("nothing was left to scan: this is what earlier scans found")


def _say_mitoses(mitoses: Mitoses) -> None:
    """Print how many mitoses there are, and where they are densest."""
    say(f"Mitoses: {mitoses.text}, at {mitoses.threshold:.2g} and more")
    spot = mitoses.spot
    if spot is not None:
        shape = f"a {spot.shape} around {spot.center.x:.0f}, {spot.center.y:.0f}"
        say(f"{mitoses.spot_text[:1].upper()}{mitoses.spot_text[1:]}, {shape}")
    if reviewed := mitoses.review_text:
        say(f"Mitoses reviewed: {reviewed}")
    say(f"{mitoses.searched_text}.")


def _say_lesions(result: ScanResult) -> None:
    """Print the lesions, the verdict and how much of the tissue it answers for."""
    from napari_metastasis.lesions import review_text
    from napari_metastasis.lesions.texts import area_text, bounded, length_text, probability_text, said_of

    reviewed = review_text(result.lesions)
    if result.lesions:
        say_table(
            ("id", "x", "y", "prob.", "mm²", "mm", "class", "points", *(["review"] if reviewed else [])),
            [
                (
                    lesion.number,
                    f"{lesion.x:.0f}",
                    f"{lesion.y:.0f}",
                    probability_text(lesion.probability),
                    bounded(area_text(lesion.area_mm2), cut=lesion.cut_by_edge),
                    bounded(length_text(lesion.length_mm), cut=lesion.cut_by_edge),
                    lesion.class_short.lower(),
                    str(lesion.detections),
                    *([said_of(lesion)] if reviewed else []),
                )
                for lesion in result.lesions
            ],
        )
    else:
        say("No lesions at this threshold.")
    verdict = result.verdict
    say(f"Verdict on the slide: {verdict.short}{f' ({verdict.review})' if verdict.review else ''}")
    if reviewed:
        say(f"Reviewed: {reviewed}")
    for line in result.told:
        note(line)
    say(result.coverage.sentence)
