"""How well maps tell where points lie: F1 at the threshold that is best for tissue in which they are rare."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from napari_metastasis.annotations.point_matching import match_points
from napari_metastasis.geometry import ChunkedCells
from napari_metastasis.lesions.peaks import find_points

__all__ = ["THRESHOLDS", "PointMetric", "map_points"]

#: Thresholds that are tried.
THRESHOLDS = np.arange(0.02, 0.99, 0.01).round(2)
_HITS, _FALSE, _MISSES, _KNOWN = range(4)


def map_points(
    probability: NDArray[np.float32], radius_cells: float
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the highest cells of a map, none within a radius of a higher one: (n, 2) as (x, y) in cells, and n.

    A cell's middle lies at half a cell. The surest come first; what is less sure than all :data:`THRESHOLDS` is none.
    """
    rows, columns, sure = find_points(ChunkedCells.of(probability), floor=float(THRESHOLDS[0]), radius=radius_cells)
    return np.stack([columns + 0.5, rows + 0.5], axis=1), sure


class PointMetric(Metric):
    """F1 of points, in what is shown and where they are as rare as in tissue, and the threshold of the latter.

    Pieces hold hundreds of points in a mm², tissue a few. What is found besides is therefore counted as often as it
    would be in as much tissue as holds these points.

    Parameters
    ----------
    cell_px
        Pixels along a cell, over which probabilities are averaged as in a scan.
    mpp
        µm per pixel.
    radius_um
        How far a point that is found may lie from the one that it finds.
    expected_per_mm2
        Points in a mm² of tissue.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, *, cell_px: int, mpp: float, radius_um: float, expected_per_mm2: float) -> None:
        super().__init__()
        self._cell_px, self._mpp, self._radius_um = cell_px, mpp, radius_um
        self._expected_per_mm2 = expected_per_mm2
        self.add_state("counts", torch.zeros(4, len(THRESHOLDS), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probability: Tensor, labels: Tensor) -> None:
        """Count the points of maps.

        Parameters
        ----------
        probability
            N x S x S.
        labels
            N x S x S: 1 at the pixel that holds a point, 0 elsewhere, anything below 0 not known.
        """
        cells = functional.avg_pool2d(probability.float()[:, None], self._cell_px)[:, 0].cpu().numpy()
        for map_, known_points in zip(cells, labels.cpu().numpy(), strict=True):
            xy, sure = map_points(map_, self._radius_um / (self._mpp * self._cell_px))
            xy = xy * self._cell_px
            columns, rows = xy.astype(np.int64).T
            on_tissue = known_points[rows, columns] >= 0
            set_ones = np.argwhere(known_points == 1)[:, ::-1].astype(np.float64) + 0.5
            outcome = match_points(
                "", found=xy[on_tissue], probability=sure[on_tissue], reference=set_ones, mpp=self._mpp,
                radius_um=self._radius_um,
            )  # fmt: skip
            counts = np.array([outcome.counts_at(float(threshold)) for threshold in THRESHOLDS]).T
            known = np.full((1, len(THRESHOLDS)), np.count_nonzero(known_points >= 0))
            self.counts += torch.from_numpy(np.concatenate([counts, known])).to(self.counts)

    def compute(self) -> dict[str, Tensor]:
        """Return F1 where points are rare, F1 in what was shown, and the threshold at which the former is highest."""
        hits, false, misses = self.counts[:_KNOWN]
        mm2 = self.counts[_KNOWN] * self._mpp**2 / 1e6
        more = (hits + misses) / mm2.clamp_min(1e-9) / self._expected_per_mm2
        rare, shown = (2 * hits / (2 * hits + f + misses).clamp_min(1e-9) for f in (false * more, false))
        best = int(rare.argmax())
        threshold = torch.tensor(float(THRESHOLDS[best]))
        return {"rare_f1": rare[best].float(), "f1": shown[best].float(), "threshold": threshold}
