"""All figures of a cohort of slides, from what became of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation.cells import CellCounts, CellReport, cell_report
from napari_metastasis.evaluation.classification import BinaryReport, binary_report
from napari_metastasis.evaluation.froc import FrocCurve, FrocFigures, froc_curve, froc_figures
from napari_metastasis.evaluation.matching import SlideOutcome
from napari_metastasis.evaluation.published import TABLE_III, TABLE_III_SOURCE, is_camelyon16_test
from napari_metastasis.evaluation.resampling import Estimate, Resamples, estimate
from napari_metastasis.evaluation.sizes import SizeFigures, sensitivity_by_size
from napari_metastasis.settings import EvaluationSettings

__all__ = ["DetectionReport", "LeftOut", "ScoredCells", "score_slides"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A slide that has no part in the figures.

    Attributes
    ----------
    slide
        Its name.
    why
        In one line.
    is_failure
        Whether something is wrong with its files; otherwise it was meant to be left out.
    """

    slide: str
    why: str
    is_failure: bool


@dataclass(frozen=True, slots=True, eq=False)
class DetectionReport:
    """How good detections are.

    Attributes
    ----------
    outcomes
        What became of each slide, by name.
    settings
        How they were scored.
    curve, linear, step
        The free-response curve and its figures in both readings; ``None`` where there was no lesion to find.
    slides
        How well slide scores tell tumour from normal slides; ``None`` where there was only one kind.
    sizes
        Sensitivity by size class, the smallest first.
    left_out
        Slides that have no part in it.
    measured
        What made the detections, where that is known: the model, the cohort, how it was scanned.
    notes
        What has to be said of the reference: what its files hold that was not understood.
    cells
        How the cells of the heatmaps stand to the reference; ``None`` where only detections are known.
    false_per_mm2
        False detections in every mm² of normal tissue; ``None`` likewise.
    """

    outcomes: tuple[SlideOutcome, ...]
    settings: EvaluationSettings
    curve: FrocCurve | None
    linear: FrocFigures | None
    step: FrocFigures | None
    slides: BinaryReport | None
    sizes: tuple[SizeFigures, ...]
    left_out: tuple[LeftOut, ...]
    measured: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cells: CellReport | None = None
    false_per_mm2: Estimate | None = None

    @property
    def name(self) -> str:
        """Return what the figures are called beside others."""
        return str(self.measured.get("model", "These detections"))

    @property
    def scales(self) -> tuple[tuple[float, int], ...]:
        """Return the pixel sizes and downsamples that slides were scored at; several where each slide has its own."""
        own = self.settings
        return tuple(sorted({(one.mpp or own.mpp, one.downsample or own.downsample) for one in self.outcomes}))

    @property
    def is_camelyon16_test(self) -> bool:
        """Return whether the figures can stand beside those published for CAMELYON16's test set."""
        return is_camelyon16_test(outcome.slide for outcome in self.outcomes)

    def figures(self) -> dict[str, Estimate]:
        """Return the single figures, as they are called in tables; those that are not defined are left out."""
        named: dict[str, Estimate] = {}
        if self.linear is not None and self.step is not None:
            named |= {"FROC score (linear)": self.linear.score, "FROC score (step)": self.step.score}
        if self.slides is not None:
            named |= {
                "slide AUC": self.slides.auc,
                "slide precision": self.slides.precision,
                "slide recall": self.slides.recall,
                "slide F1": self.slides.f1,
                "slide balanced accuracy": self.slides.balanced_accuracy,
            }
        if self.cells is not None:
            named |= {
                "cell AUC": self.cells.auc,
                "cell sensitivity at 1 % false positives": self.cells.sensitivity[0],
                "cell sensitivity at 0.1 % false positives": self.cells.sensitivity[1],
                "cell precision": self.cells.precision,
                "cell recall": self.cells.found_area,
                "cell F1": self.cells.f1,
                "cell mIoU": self.cells.miou,
                "false-positive area, mm² in a mm² of normal tissue": self.cells.false_positive_area,
                "calibration error of cells": self.cells.calibration_error,
            }
        if self.false_per_mm2 is not None:
            named["false detections in a mm² of normal tissue"] = self.false_per_mm2
        return {name: one for name, one in named.items() if not math.isnan(one.value)}

    def labels_and_scores(self) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return which slides hold tumour, and how likely each does, both (slides,)."""
        return np.array([one.is_tumour for one in self.outcomes]), np.array([one.score for one in self.outcomes])

    def to_json(self) -> dict[str, Any]:
        """Return plain values: each figure under its name, its interval under ``<name>_ci95``.

        The curve runs from everything kept to nothing kept, as the organisers' scripts list it.
        """
        values: dict[str, Any] = {
            "n": len(self.outcomes),
            **self._scale_json(),
            "slides": {outcome.slide: _slide_json(outcome) for outcome in self.outcomes},
            "fp_rates": list(self.settings.fp_rates),
        }
        for name, figures in (("linear", self.linear), ("step", self.step)):
            if figures is not None:
                values |= figures.score.to_json(f"froc_score_{name}")
                values[f"sensitivity_at_rates_{name}"] = [one.value for one in figures.sensitivity]
                values[f"sensitivity_at_rates_{name}_ci95"] = [
                    None if math.isnan(one.low) else list(one.ci95) for one in figures.sensitivity
                ]
        if self.curve is not None:
            values["mean_fp_per_slide"] = self.curve.false_positives_per_slide[::-1].tolist()
            values["sensitivity"] = self.curve.sensitivity[::-1].tolist()
            # Nothing is kept at the last point, whose threshold is infinite and no JSON number.
            values["thresholds"] = [*self.curve.thresholds[:0:-1].tolist(), None]
        if self.slides is not None:
            values |= self.slides.to_json()
        if self.cells is not None:
            # Of one kind of slide there is nothing to tell apart but their cells.
            values |= self.cells.to_json() | self.cells.overlap_json(alone=self.slides is None)
        if self.false_per_mm2 is not None:
            values |= self.false_per_mm2.to_json("false_detections_per_mm2")
        values["sizes"] = {
            one.size_class: {"lesions": one.lesions, "found": one.found} | one.sensitivity.to_json("sensitivity")
            for one in self.sizes
        }
        if self.is_camelyon16_test:
            values["table_iii"] = {"source": TABLE_III_SOURCE, "rows": [asdict(row) for row in TABLE_III]}
        values["left_out"] = [asdict(one) for one in self.left_out]
        values["notes"] = list(self.notes)
        values["settings"] = asdict(self.settings)
        if len(self.scales) > 1:
            # Each slide states its own; those of the settings were not used.
            del values["settings"]["mpp"], values["settings"]["downsample"]
        else:
            values["settings"]["mpp"], values["settings"]["downsample"] = self.scales[0]
        if self.measured:
            values["measured"] = dict(self.measured)
        return values

    def _scale_json(self) -> dict[str, Any]:
        if len(self.scales) > 1:
            return {}
        mpp, downsample = self.scales[0]
        return {"level": round(math.log2(downsample), 6), "mpp_level0": mpp}


def _slide_json(outcome: SlideOutcome) -> dict[str, Any]:
    return {
        "tumour": outcome.is_tumour,
        "score": outcome.score,
        "lesions": len(outcome.lesions),
        "itc": len(outcome.lesions) - outcome.targets,
        "targets": outcome.targets,
        "hits": len(outcome.hits),
        "misses": outcome.targets - len(outcome.hits),
        "false_positives": len(outcome.false_positives),
        "on_itc": outcome.on_itc,
        "repeated": outcome.repeated,
        **({} if outcome.mpp is None else {"mpp_level0": outcome.mpp, "downsample": outcome.downsample}),
    }


@dataclass(frozen=True, slots=True, eq=False)
class ScoredCells:
    """The cells of every slide.

    Attributes
    ----------
    of_slides
        By name.
    threshold, prior
        See :func:`~napari_metastasis.evaluation.cells.cell_report`.
    """

    of_slides: Mapping[str, CellCounts]
    threshold: float
    prior: float

    def report(self, settings: EvaluationSettings) -> CellReport:
        """Return their figures."""
        counts = [self.of_slides[name] for name in sorted(self.of_slides)]
        return cell_report(
            counts, threshold=self.threshold, prior=self.prior, number=settings.resamples, seed=settings.seed
        )


def score_slides(
    outcomes: Sequence[SlideOutcome],
    settings: EvaluationSettings,
    *,
    left_out: Sequence[LeftOut] = (),
    measured: Mapping[str, Any] | None = None,
    cells: ScoredCells | None = None,
    notes: Sequence[str] = (),
) -> DetectionReport:
    """Return every figure that the slides allow, with intervals over slides.

    Slides with and without tumour are resampled apart, so that every resample has as many of each.

    Raises
    ------
    EvaluationError
        If there is no slide, or a name occurs twice.
    """
    names = [outcome.slide for outcome in outcomes]
    if not names or len(set(names)) < len(names):
        got = "none" if not names else ", ".join(sorted({name for name in names if names.count(name) > 1})) + " twice"
        raise EvaluationError(f"expected slides to score, each once, got {got}; check the folders")
    outcomes = sorted(outcomes, key=lambda outcome: outcome.slide)
    is_tumour = np.array([outcome.is_tumour for outcome in outcomes])
    resamples = Resamples(is_tumour.astype(np.int64), number=settings.resamples, seed=settings.seed)
    has_targets = any(outcome.targets for outcome in outcomes)
    scores = np.array([outcome.score for outcome in outcomes])
    return DetectionReport(
        outcomes=tuple(outcomes),
        settings=settings,
        curve=froc_curve(outcomes) if has_targets else None,
        linear=froc_figures(outcomes, settings.fp_rates, "linear", resamples) if has_targets else None,
        step=froc_figures(outcomes, settings.fp_rates, "step", resamples) if has_targets else None,
        slides=binary_report(is_tumour, scores, threshold=settings.threshold, resamples=resamples)
        if is_tumour.any() and not is_tumour.all()
        else None,
        sizes=sensitivity_by_size(outcomes, resamples),
        left_out=tuple(left_out),
        measured=measured or {},
        notes=tuple(notes),
        cells=None if cells is None else cells.report(settings),
        false_per_mm2=None if cells is None else _false_per_mm2(outcomes, cells, resamples),
    )


def _false_per_mm2(outcomes: Sequence[SlideOutcome], cells: ScoredCells, resamples: Resamples) -> Estimate:
    false = np.array([len(outcome.false_positives) for outcome in outcomes], dtype=np.float64)
    area = np.array([cells.of_slides[outcome.slide].normal_mm2 for outcome in outcomes])

    def measure(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            rates: NDArray[np.float64] = ((counts @ false) / (counts @ area))[:, None]
        return np.where(np.isfinite(rates), rates, np.nan)

    return estimate(measure, resamples, width=1)[0]
