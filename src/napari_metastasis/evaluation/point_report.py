"""How good points are that a model found: figures at its threshold, at others, and how many there are in each mm²."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation.point_matching import PointFigures, PointOutcome, point_figures
from napari_metastasis.evaluation.resampling import Estimate, Resamples, estimate
from napari_metastasis.evaluation.scoring import LeftOut
from napari_metastasis.settings import PointScoringSettings

__all__ = ["PointReport", "SlidePoints", "score_points", "thresholds_of"]


@dataclass(frozen=True, slots=True, eq=False)
class SlidePoints:
    """What became of the points of one slide.

    Attributes
    ----------
    slide
        The slide's name.
    at
        Of the points that were found at each threshold.
    tissue_mm2
        Of the slide; ``None`` where that is not known.
    """

    slide: str
    at: Mapping[float, PointOutcome]
    tissue_mm2: float | None = None

    def counts(self, threshold: float) -> tuple[int, int, int]:
        """Return hits, false positives and misses at a threshold."""
        return self.at[threshold].counts_at(threshold)


@dataclass(frozen=True, slots=True, eq=False)
class PointReport:
    """How good points are.

    Attributes
    ----------
    slides
        What became of each slide, by name.
    settings
        How they were scored.
    threshold
        The probability that figures are of.
    table
        Figures at every threshold that was asked for and at that one, the lowest first.
    found_per_mm2, set_per_mm2
        Points in a mm² of tissue at the threshold, of all slides together; ``None`` where a slide's tissue is not
        known.
    left_out, measured, notes
        As of a :class:`~napari_metastasis.evaluation.DetectionReport`.
    without_points
        Slides that were taken for such without mitoses, because nobody set any.
    """

    slides: tuple[SlidePoints, ...]
    settings: PointScoringSettings
    threshold: float
    table: tuple[PointFigures, ...]
    found_per_mm2: Estimate | None
    set_per_mm2: Estimate | None
    left_out: tuple[LeftOut, ...]
    measured: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    without_points: tuple[str, ...] = ()

    @property
    def at_threshold(self) -> PointFigures:
        """Return the figures at the threshold."""
        return next(one for one in self.table if one.threshold == self.threshold)

    def figures(self) -> dict[str, Estimate]:
        """Return the single figures, as they are called in tables."""
        own = self.at_threshold
        named = {"precision": own.precision, "recall": own.recall, "F1": own.f1}
        if self.found_per_mm2 is not None and self.set_per_mm2 is not None:
            named |= {"found per mm²": self.found_per_mm2, "set per mm²": self.set_per_mm2}
        return named

    def to_json(self) -> dict[str, Any]:
        """Return plain values: each figure under its name, its interval under ``<name>_ci95``."""
        values = {"n": len(self.slides), **_figures_json(self.at_threshold)}
        for name, one in (("found_per_mm2", self.found_per_mm2), ("set_per_mm2", self.set_per_mm2)):
            values |= {} if one is None else one.to_json(name)
        return {
            **values,
            "radius_um": self.settings.radius_um,
            "slides": {one.slide: self._slide_json(one) for one in self.slides},
            "thresholds": [_figures_json(one) for one in self.table],
            "left_out": [asdict(one) for one in self.left_out],
            "without_points": list(self.without_points),
            "notes": list(self.notes),
            "settings": asdict(self.settings),
            **({"measured": dict(self.measured)} if self.measured else {}),
        }

    def _slide_json(self, one: SlidePoints) -> dict[str, Any]:
        hits, false_positives, misses = one.counts(self.threshold)
        values = {
            "hits": hits,
            "false_positives": false_positives,
            "misses": misses,
            "found": hits + false_positives,
            "set": hits + misses,
        }
        if not one.tissue_mm2:
            return values
        per_mm2 = {f"{name}_per_mm2": round(values[name] / one.tissue_mm2, 6) for name in ("found", "set")}
        return {**values, "tissue_mm2": round(one.tissue_mm2, 6), **per_mm2}


def _figures_json(one: PointFigures) -> dict[str, Any]:
    return {
        "threshold": one.threshold,
        "hits": one.hits,
        "false_positives": one.false_positives,
        "misses": one.misses,
        **one.precision.to_json("precision"),
        **one.recall.to_json("recall"),
        **one.f1.to_json("f1"),
    }


def thresholds_of(settings: PointScoringSettings, *, threshold: float, floor: float) -> tuple[float, ...]:
    """Return the thresholds of a report, the lowest first.

    Parameters
    ----------
    settings
        Those that are asked for.
    threshold
        The one that figures are of.
    floor
        The lowest at which it is known what was found.
    """
    return tuple(sorted({one for one in settings.thresholds if one >= floor} | {threshold}))


def score_points(
    slides: Sequence[SlidePoints],
    settings: PointScoringSettings,
    *,
    threshold: float,
    left_out: Sequence[LeftOut] = (),
    measured: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    without_points: Sequence[str] = (),
) -> PointReport:
    """Return the figures of slides' points, with intervals over slides.

    Parameters
    ----------
    slides
        What became of each; all have the same thresholds.
    settings
        How to score.
    threshold
        Is among these, and the one that the figures are of.
    left_out, measured, notes, without_points
        For the report.

    Raises
    ------
    EvaluationError
        If there is no slide, or a name occurs twice.
    """
    names = [one.slide for one in slides]
    if not names or len(set(names)) < len(names):
        got = "none" if not names else ", ".join(sorted({name for name in names if names.count(name) > 1})) + " twice"
        raise EvaluationError(f"expected slides to score, each once, got {got}; check the folders")
    slides = sorted(slides, key=lambda one: one.slide)
    at_each = {at: [one.at[at] for one in slides] for at in slides[0].at}
    table = [figures for at, found in at_each.items() for figures in point_figures(found, (at,), settings)]
    areas = [one.tissue_mm2 for one in slides]
    found_per_mm2 = set_per_mm2 = None
    if None not in areas and any(areas):
        counts = np.array([one.counts(threshold) for one in slides], np.float64)
        known = np.array(areas, np.float64)
        found_per_mm2, set_per_mm2 = _per_mm2(counts[:, 0] + counts[:, [1, 2]].T, known, settings)
    return PointReport(
        slides=tuple(slides),
        settings=settings,
        threshold=threshold,
        table=tuple(sorted(table, key=lambda one: one.threshold)),
        found_per_mm2=found_per_mm2,
        set_per_mm2=set_per_mm2,
        left_out=tuple(left_out),
        measured=measured or {},
        notes=tuple(notes),
        without_points=tuple(without_points),
    )


def _per_mm2(
    points: NDArray[np.float64], area: NDArray[np.float64], settings: PointScoringSettings
) -> Sequence[Estimate]:
    """Return points in a mm² of tissue, of all slides together.

    Parameters
    ----------
    points
        (kinds, slides).
    area
        (slides,), in mm².
    """

    def measure(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        # Slides without tissue alone may be drawn.
        with np.errstate(invalid="ignore"):
            return np.asarray((drawn @ points.T) / (drawn @ area)[:, None])

    resamples = Resamples(np.zeros(len(area), np.int64), settings.resamples, settings.seed)
    return estimate(measure, resamples, width=len(points))
