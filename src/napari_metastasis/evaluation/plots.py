"""Curves as SVG pictures, drawn without a window."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from napari_metastasis.errors import MissingDependencyError
from napari_metastasis.evaluation.cells import CellReport
from napari_metastasis.evaluation.classification import precision_recall_points, roc_points
from napari_metastasis.evaluation.scoring import DetectionReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_curves", "require_report_extra"]

_COLOUR, _GUIDE = "#7b1e5b", "#9a9a9a"
_SIZE_INCHES = (5.0, 4.2)


def require_report_extra() -> None:
    """Check that there is something to draw a report with.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"expected {error.name} for the report, got none installed; "
            "pip install 'napari-metastasis[evaluate]', or, with --detections, leave --output out"
        ) from error


def draw_curves(report: DetectionReport) -> dict[str, bytes]:
    """Return SVG pictures by title: the curves that the cohort allows. The same report gives the same bytes.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    require_report_extra()
    pictures = {}
    if report.curve is not None:
        pictures["Free-response curve"] = _picture(lambda axes: _draw_froc(axes, report))
    if report.slides is not None:
        pictures["Receiver operating characteristic of slides"] = _picture(lambda axes: _draw_roc(axes, report))
        pictures["Precision and recall of slides"] = _picture(lambda axes: _draw_precision(axes, report))
    if (cells := report.cells) is not None:
        pictures["Reliability of cells"] = _picture(lambda axes: _draw_reliability(axes, cells))
    return pictures


def _picture(draw: Callable[[Axes], None]) -> bytes:
    # The figure's own canvas: pyplot would look for a window, and keep the figure.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "napari-metastasis", "font.size": 9}):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        axes.grid(color="#e6e6e6")
        axes.set_axisbelow(True)
        draw(axes)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _draw_froc(axes: Axes, report: DetectionReport) -> None:
    curve, linear = report.curve, report.linear
    if curve is None or linear is None:
        return
    rates = report.settings.fp_rates
    end = max(*rates, float(curve.false_positives_per_slide[-1]))
    # Past its last point the curve stays level.
    axes.plot(
        [*curve.false_positives_per_slide, end], [*curve.sensitivity, curve.sensitivity[-1]], color=_COLOUR, zorder=2
    )
    values = np.array([one.value for one in linear.sensitivity])
    reach = [values - [one.low for one in linear.sensitivity], [one.high for one in linear.sensitivity] - values]
    axes.errorbar(rates, values, yerr=np.clip(reach, 0, None), fmt="o", color=_COLOUR, capsize=3, markersize=4)
    # The challenge's rates double from one to the next; nothing lies at 0 on a logarithmic axis but a straight start.
    axes.set_xscale("symlog", base=2, linthresh=min(rates))
    axes.set_xticks([0, *rates], [f"{rate:g}" for rate in (0, *rates)])
    axes.set_xlim(0, end * 1.1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false positives per slide")
    axes.set_ylabel("sensitivity")
    axes.set_title(f"FROC score {linear.score.value:.4f} ({linear.score.low:.4f} to {linear.score.high:.4f})")


def _draw_roc(axes: Axes, report: DetectionReport) -> None:
    false, true = roc_points(*report.labels_and_scores())
    axes.plot([0, 1], [0, 1], color=_GUIDE, linestyle=":", zorder=1)
    axes.plot(false, true, color=_COLOUR, zorder=2)
    if report.slides is not None:
        auc = report.slides.auc
        axes.set_title(f"AUC {auc.value:.4f} ({auc.low:.4f} to {auc.high:.4f})")
    _square(axes, "false positive rate", "true positive rate")


def _draw_precision(axes: Axes, report: DetectionReport) -> None:
    labels, scores = report.labels_and_scores()
    recall, precision = precision_recall_points(labels, scores)
    axes.axhline(float(labels.mean()), color=_GUIDE, linestyle=":", zorder=1)
    axes.plot(recall, precision, color=_COLOUR, drawstyle="steps-pre", zorder=2)
    axes.set_title(f"{int(labels.sum())} of {len(labels)} slides hold tumour")
    _square(axes, "recall", "precision")


def _draw_reliability(axes: Axes, cells: CellReport) -> None:
    said, held, weight = cells.reliability.T
    known = weight > 0
    axes.plot([0, 1], [0, 1], color=_GUIDE, linestyle=":", zorder=1)
    axes.plot(said[known], held[known], color=_COLOUR, zorder=2)
    # Areas, so that a bin that nearly all cells lie in does not hide the others; the smallest can still be seen.
    axes.scatter(said[known], held[known], s=8 + 200 * weight[known], color=_COLOUR, zorder=3)
    error = cells.calibration_error
    axes.set_title(f"calibration error {error.value:.4f} ({error.low:.4f} to {error.high:.4f})")
    of = f"{cells.prior:.1%} of the tissue is tumour" if cells.prior else "tumour as much as on the slides"
    _square(axes, "probability that was answered", f"share of tumour among these cells, where {of}")


def _square(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
