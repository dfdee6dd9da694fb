"""How measures of lesions are put in reports and tables: one way for each."""

from __future__ import annotations

from collections.abc import Sequence

from napari_metastasis.lesions.lesion import LesionRow, number_text
from napari_metastasis.lesions.listed import changed_text
from napari_metastasis.lesions.size_classes import count_text

__all__ = ["area_text", "bounded", "counted_text", "length_text", "probability_text", "said_of", "threshold_text"]


def bounded(text: str, *, cut: bool) -> str:
    """Return a measure; of what the edge of the scan cuts, as what it is at least."""
    return f"≥ {text}" if cut else text


def length_text(mm: float) -> str:
    """Return a length in mm: to 10 µm, and to 1 µm below 1 mm, where the classes' limit is near."""
    return f"{mm:.2f}" if mm >= 1 else f"{mm:.3f}"


def area_text(mm2: float) -> str:
    """Return an area in mm²; that of no lesion reads 0.00."""
    return f"{mm2:.2f}" if mm2 >= 1 else f"{mm2:.4f}"


def probability_text(value: float | None) -> str:
    """Return a probability, or a dash where there is none; nothing is certain."""
    if value is None:
        return "–"
    return "> 0.999" if value > 0.999 else f"{value:.3f}"


def threshold_text(value: float) -> str:
    """Return a threshold with all of its digits: 1 and 0.999 show other findings."""
    return f"{value:.10g}"


def counted_text(lesions: Sequence[LesionRow]) -> str:
    """Return how many lesions count of each class, and what people changed: "1 micro-metastasis; 1 rejected, …".

    Parameters
    ----------
    lesions
        All that are listed, at one probability.
    """
    counted = [one for one in lesions if one.counts]
    sized, points = [one for one in counted if not one.is_point], sum(one.is_point for one in counted)
    told = [count_text(one.size_class for one in sized)]
    told += [f"{points} {'point' if points == 1 else 'points'} of unknown size"] if points else []
    cut = sum(one.cut_by_edge for one in counted)
    some = ", ".join(filter(None, told)) or ("Nothing that counts" if lesions else "Nothing at this probability")
    edge = f"{cut} cut by the scanned area, may be larger" if cut else ""
    return "; ".join(filter(None, (some, edge, changed_text(lesions))))


def said_of(lesion: LesionRow) -> str:
    """Return what people made of a lesion in a few words: "confirmed", "pending, look again", "counted as P3"."""
    review = lesion.review
    if review is None:
        return ""
    state = review.told if review.state == "pending" else ""
    others = ", ".join(map(number_text, review.counted_as))
    instead = f"{'part of' if lesion.id < 0 else 'counted as'} {others}" if others else ""
    return ", ".join(filter(None, (state, review.text, instead)))
