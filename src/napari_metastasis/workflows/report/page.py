"""The report of a slide as one HTML page that needs nothing beside it, for a pathologist."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

from napari_metastasis import __version__
from napari_metastasis.errors import ModelError
from napari_metastasis.lesions import SIZE_CLASSES, count_text, size_class_rule
from napari_metastasis.lesions.texts import (
    area_text,
    bounded,
    length_text,
    probability_text,
    said_of,
    threshold_text,
)
from napari_metastasis.models import list_models
from napari_metastasis.models.weights_file import read_weights
from napari_metastasis.pages import page
from napari_metastasis.scanning import PROBABILITY
from napari_metastasis.workflows.dates import moment_text
from napari_metastasis.workflows.report.drawing import as_jpeg
from napari_metastasis.workflows.report.pictures import NOT_COUNTED_COLOR
from napari_metastasis.workflows.report.reported_lesions import ReportedLesion
from napari_metastasis.workflows.report.result import ReportedModel, ReportedResult

__all__ = ["MOST_FINDINGS", "ReportPictures", "picture_data", "report_html"]

#: Findings that are shown in pictures, and bytes of these and of the slide's: the page can be sent by mail.
MOST_FINDINGS, _FINDING_BYTES, _OVERVIEW_BYTES = 24, 100_000, 1_600_000
#: Rows of the table: more are read in a spreadsheet.
_MOST_ROWS = 500
#: What of a model's card a reader of the page has to know, and what it is called here.
_CARD = {
    "intended_use": "Intended use",
    "warning": "Warning",
    "data": "Trained on",
    "licence": "Licence",
}
#: Characters of a card's text: all of any that ships.
_LONGEST = 1200

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class ReportPictures:
    """What a report shows of the slide.

    Attributes
    ----------
    overview
        The whole slide with outlines: uint8, (rows, columns, 3).
    findings
        A picture of each of the longest findings and its µm per pixel, in the order of their length.
    """

    overview: Picture = field(repr=False)
    findings: tuple[tuple[Picture, float], ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A finding as the table has it."""

    id: str
    counts: bool
    color: str
    class_text: str
    length: str
    area: str
    probability: str
    place_mm: str
    place_px: str
    scanned: str
    said: str
    by: str
    comment: str


def report_html(
    result: ReportedResult, pictures: ReportPictures | None, *, without_pictures: str = "", now: datetime
) -> str:
    """Return the page.

    Parameters
    ----------
    result
        What was found.
    pictures
        What the slide looks like; ``None`` where it is not at hand.
    without_pictures
        Why it is not, in one line.
    now
        The date that the report bears.
    """
    longest, shown = result.largest_first, _side_by_side(result.lesions)
    if len(shown) > _MOST_ROWS:
        shown = longest[:_MOST_ROWS]
    drawn = () if pictures is None else pictures.findings
    return page(
        "napari_metastasis.workflows.report",
        "report.html.j2",
        title=result.slide_name,
        coverage=result.coverage,
        verdict=result.verdict,
        counts=count_text(lesion.size_class for lesion in result.counted if not lesion.is_point),
        reviewed=result.review_text,
        told=result.told,
        cut=_cut_text(result),
        largest=result.largest_text,
        score=probability_text(result.slide_score),
        threshold=threshold_text(result.threshold),
        overview="" if pictures is None else picture_data(pictures.overview, most_bytes=_OVERVIEW_BYTES),
        without_pictures=without_pictures,
        rule=size_class_rule(),
        classes=[(style.label, style.color) for style in SIZE_CLASSES.values()],
        rows=[_row(lesion, result.mpp, now) for lesion in shown],
        rows_left_out=len(result.lesions) - len(shown),
        gallery=[
            (
                picture_data(picture, most_bytes=_FINDING_BYTES),
                _row(lesion, result.mpp, now),
                _fits(lesion, picture, um),
            )
            for lesion, (picture, um) in zip(longest, drawn, strict=False)
        ],
        magnification=_magnification(drawn),
        not_shown=len(result.lesions) - len(drawn),
        facts=_facts(result, now),
        models=[(model.name, _card(model)) for model in result.models if model.share is None or model.share > 0],
        mitoses=result.mitoses,
        mitosis_threshold="" if result.mitoses is None else threshold_text(result.mitoses.threshold),
        notes=result.notes,
        scanned=_when(result.scanned, now),
        reported=_when(now, now),
        version=__version__,
    )


def _side_by_side(lesions: Sequence[ReportedLesion]) -> list[ReportedLesion]:
    """Return lesions in their order, an outline of a person beside what a model found there."""
    drawn = {one.id: one for one in lesions if one.id < 0}
    ordered: dict[int, ReportedLesion] = {}
    for one in lesions:
        ordered.setdefault(one.id, one)
        for person in () if one.review is None else one.review.counted_as:
            if person in drawn:
                ordered.setdefault(person, drawn[person])
    return list(ordered.values())


def _row(lesion: ReportedLesion, mpp: float, now: datetime) -> _Row:
    scanned = "cut, may go on" if lesion.cut_by_edge else "all of it"
    review = lesion.review
    by = "" if review is None or review.at is None else f"{review.reviewer or 'nobody named'}, {_when(review.at, now)}"
    return _Row(
        id=lesion.number,
        counts=lesion.counts,
        said=_said(lesion),
        by=by,
        comment="" if review is None else review.comment,
        color=SIZE_CLASSES[lesion.size_class].color if lesion.counts else NOT_COUNTED_COLOR,
        class_text=lesion.class_text,
        length="–" if lesion.is_point else bounded(length_text(lesion.length_mm), cut=lesion.cut_by_edge),
        area="–" if lesion.is_point else bounded(area_text(lesion.area_mm2), cut=lesion.cut_by_edge),
        probability=probability_text(lesion.probability),
        place_mm=f"{lesion.x * mpp / 1000:.2f}, {lesion.y * mpp / 1000:.2f}",
        place_px=f"{lesion.x:.0f}, {lesion.y:.0f}",
        scanned="" if lesion.id < 0 else scanned if lesion.cut_recorded else "not recorded",
    )


def _said(lesion: ReportedLesion) -> str:
    """Return what people made of a lesion; of an outline of theirs, also what a model had found there."""
    told = said_of(lesion)
    if lesion.review is None or lesion.review.found is None:
        return told
    found = lesion.review.found
    of = "" if found.probability is None else f" with probability {probability_text(found.probability)}"
    return f"{told}; found by {found.model}{of} from {found.threshold:.3g} on"


def _cut_text(result: ReportedResult) -> str:
    """Return how many lesions are counted in a class that may be too small for them; empty where none is."""
    cut = sum(lesion.cut_by_edge for lesion in result.counted)
    if not cut:
        return ""
    return f"{cut} of them {'is' if cut == 1 else 'are'} cut by the scanned area, and may be larger"


def _fits(lesion: ReportedLesion, picture: Picture, um_per_px: float) -> bool:
    return lesion.length_mm * 1000 <= min(picture.shape[:2]) * um_per_px


def _magnification(findings: Sequence[tuple[Picture, float]]) -> str:
    """Return what an objective would show the findings like: 0.5 µm a pixel is 20x."""
    if not findings:
        return ""
    um = findings[0][1]
    return f"{10 / um:.2g}x ({um:.2g} µm per pixel)"


def picture_data(picture: Picture, *, most_bytes: int) -> str:
    """Return a picture as an address that holds it, as :func:`~.drawing.as_jpeg` compresses it."""
    return f"data:image/jpeg;base64,{base64.b64encode(as_jpeg(picture, most_bytes=most_bytes)).decode('ascii')}"


def _when(at: datetime | None, now: datetime) -> str:
    """Return a time by the clock of the report; records have the time of Greenwich."""
    if at is None:
        return "not recorded"
    return moment_text(at.astimezone(now.tzinfo))


def _facts(result: ReportedResult, now: datetime) -> list[tuple[str, str]]:
    """Return how the result was made, a line each."""
    width, height = result.size
    supplied = ", as given by the user" if result.mpp_supplied else ""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result.shares.items())
    shown = PROBABILITY.title if result.shown_map == PROBABILITY.name else f"{result.shown_map} map".capitalize()
    return [
        ("Slide", result.slide_path),
        ("Format", result.format),
        (
            "Size",
            f"{width:,} × {height:,} pixels, {width * result.mpp / 1000:.1f} × {height * result.mpp / 1000:.1f} mm",
        ),
        ("Pixel size", f"{result.mpp:g} µm{supplied}"),
        *([("Colours", "red and blue of the file exchanged, as the user said")] if result.swapped else []),
        ("Findings from probability", threshold_text(result.threshold)),
        ("Read from", f"{shown}{f'; share of later maps: {shares}' if shares else ''}"),
        ("Scanned", f"{_when(result.scanned, now)}, with napari-metastasis {result.version or 'of unknown version'}"),
        ("Results", str(result.folder.absolute())),
    ]


def _card(model: ReportedModel) -> list[tuple[str, str]]:
    """Return what the card of a model says, a line each; one line where it is not at hand."""
    path = next((entry.path for entry in list_models() if entry.name == model.name), None)
    if path is None:
        return [("Card", "not at hand: the model is not installed here")]
    try:
        known = read_weights(path)
    except ModelError as error:
        return [("Card", f"not at hand: {error}")]
    if known.sha256 != model.weights_sha256:
        return [("Card", "not at hand: the model of this name that is installed here has other weights")]
    told = [(name, str(known.card[key])[:_LONGEST]) for key, name in _CARD.items() if known.card.get(key)]
    return [*told, ("Weights (SHA-256)", model.weights_sha256)]
