"""How measures of lesions are put in reports and tables: one way for each."""

from __future__ import annotations

from napari_metastasis.lesions.lesion import LesionRow, number_text

__all__ = ["area_text", "bounded", "length_text", "probability_text", "said_of", "threshold_text"]


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


def said_of(lesion: LesionRow) -> str:
    """Return what people made of a lesion in a few words: "confirmed", "pending, look again", "counted as P3"."""
    review = lesion.review
    if review is None:
        return ""
    state = review.told if review.state == "pending" else ""
    others = ", ".join(map(number_text, review.counted_as))
    instead = f"{'part of' if lesion.id < 0 else 'counted as'} {others}" if others else ""
    return ", ".join(filter(None, (state, review.text, instead)))
