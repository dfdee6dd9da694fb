"""A refiner's network: LSTMs read a grid of encoded patches and answer for every patch (Zheng et al. 2022).

The paper reads a grid line by line, so that a patch's answer depends on those before it. The other orders read rows and
columns both ways, so that it depends on the whole grid. Where the LSTM's answer is added to the encoder's log-odds,
these may first be averaged over a patch's neighbours: tumour comes in areas, not in points.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_metastasis.errors import ModelError, brief
from napari_metastasis.models.calibration import Calibrated
from napari_metastasis.models.card import read_contract

__all__ = ["ORDERS", "RefinerSpec", "SpatialNetwork"]

#: How a grid is read. ``raster``: all rows as one sequence, as in the paper. ``raster-four``: rows and columns so,
#: in both directions. ``rows-columns``: every row in both directions, then every column of the states.
ORDERS = ("raster", "raster-four", "rows-columns")

#: Standard deviations of the initial Gaussian weights from the middle of the square to its side.
_SIGMAS = 2.0

#: Features of a patch and units of an LSTM, and patches along a grid and cells between them: no network has more.
_MOST_FEATURES, _MOST_PATCHES = 1 << 14, 256
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinerSpec(Calibrated):
    """What a refiner reads and how.

    Attributes
    ----------
    name
        Name in the zoo.
    encoder
        Name of the model whose features it reads.
    encoder_sha256
        Hash of that model's weights: no other will do.
    encoder_features
        Features of a patch, before they are projected.
    projected
        Features that are kept of these, beside the encoder's own log-odds; 0 keeps all.
    hidden
        Units of each LSTM.
    grid
        Patches along a side of a grid.
    grid_step
        Native cells from one patch of a grid to the next.
    window_step
        Patches from one grid to the next; it divides ``grid``, and overlapping answers are averaged.
    order
        One of :data:`ORDERS`.
    residual
        Whether the LSTM's answer is added to the encoder's log-odds, rather than taking its place as in the paper.
    smoothing
        Side, in patches, of the square around each patch over which these log-odds are first averaged, with learnt
        weights; odd, and 1 does not average.
    dense_coefficient
        Of the scans that it was trained on.
    temperature, shift, prior, threshold
        See :class:`~napari_metastasis.models.calibration.Calibrated`.
    """

    #: The task of its models.
    task: ClassVar[str] = "refine"

    encoder: str
    encoder_sha256: str
    encoder_features: int
    projected: int
    hidden: int
    grid: int
    grid_step: int
    window_step: int
    order: str
    residual: bool
    smoothing: int
    dense_coefficient: int

    def __post_init__(self) -> None:
        """Refuse values that no grid can have."""
        self.check_calibration()
        if self.order not in ORDERS:
            raise ModelError(
                f"expected a scanning order among {', '.join(ORDERS)}, got {brief(self.order)}; choose one"
            )
        features, patches = (self.encoder_features, self.hidden), (self.grid, self.grid_step, self.window_step)
        if min(*features, *patches) < 1 or self.projected < 0:
            raise ModelError(
                f"expected sizes of at least 1, got {(*features, *patches)} and {self.projected}; correct the card"
            )
        if max(*features, self.projected) > _MOST_FEATURES or max(*patches, self.dense_coefficient) > _MOST_PATCHES:
            raise ModelError(
                f"expected at most {_MOST_FEATURES} features and units, and {_MOST_PATCHES} patches and steps, got "
                f"{(*features, self.projected)} and {(*patches, self.dense_coefficient)}; correct the card"
            )
        if self.dense_coefficient < 1 or self.dense_coefficient & (self.dense_coefficient - 1):
            raise ModelError(
                f"expected a power of 2 as dense coefficient, got {self.dense_coefficient}; correct the card"
            )
        if self.grid % self.window_step:
            raise ModelError(
                f"expected a window step that divides the grid of {self.grid}, got {self.window_step}; choose another"
            )
        if self.smoothing % 2 == 0 or not 1 <= self.smoothing <= 2 * self.grid - 1:
            raise ModelError(
                f"expected to average over an odd number of patches, at most {2 * self.grid - 1} in a grid of "
                f"{self.grid}, got {self.smoothing}; choose another"
            )
        if self.smoothing > 1 and not self.residual:
            raise ModelError("expected no smoothing where the encoder's log-odds are not added; use --residual with it")

    @property
    def features(self) -> int:
        """Return how many numbers are kept of each patch: the log-odds and the features."""
        return 1 + (self.projected or self.encoder_features)

    @property
    def span_cells(self) -> int:
        """Return the side, in native cells, of the square that interleaved grids cover together."""
        return self.grid * self.grid_step

    @property
    def halo_cells(self) -> int:
        """Return how far, in native cells, an overlapping grid reaches past such a square."""
        return (self.grid - self.window_step) * self.grid_step

    @property
    def reach_cells(self) -> int:
        """Return how far, in native cells, a patch may lie from a cell whose answer depends on it."""
        return (self.grid - 1) * self.grid_step

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return self.without_idle_calibration(asdict(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RefinerSpec:
        """Return what :meth:`to_json` wrote.

        Raises
        ------
        ModelError
            If a field is missing, unknown or of the wrong kind.
        """
        spec = read_contract(cls, values, "refiner")
        # The detector is looked for by its name, as a file beside the refiner too.
        if not _SHA256.fullmatch(spec.encoder_sha256) or set(spec.encoder) & set("/\\"):
            raise ModelError(
                f"expected the name and the SHA-256 of a detector, got {brief(spec.encoder)} and "
                f"{brief(spec.encoder_sha256)}; correct the card"
            )
        return spec


class SpatialNetwork(nn.Module):
    """Grids of encoded patches to refined log-odds.

    Parameters
    ----------
    spec
        What it reads and how.
    """

    def __init__(self, spec: RefinerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.projection = nn.Linear(spec.encoder_features, spec.projected) if spec.projected else None
        inputs = spec.features if spec.residual else spec.features - 1
        #: Stands for the features of a missing patch: glass, or past the slide's edge.
        self.absent = nn.Parameter(torch.zeros(inputs))
        lstm, both = nn.LSTM, {"batch_first": True, "bidirectional": True}
        outputs = 2 * spec.hidden
        if spec.order == "raster":
            self.rows = lstm(inputs, spec.hidden, batch_first=True)
            self.columns: nn.LSTM | None = None
            outputs = spec.hidden
        elif spec.order == "raster-four":
            self.rows, self.columns = lstm(inputs, spec.hidden, **both), lstm(inputs, spec.hidden, **both)
            outputs = 4 * spec.hidden
        else:
            self.rows, self.columns = lstm(inputs, spec.hidden, **both), lstm(2 * spec.hidden, spec.hidden, **both)
        self.answer = nn.Linear(outputs, 1)
        self.kernel: nn.Parameter | None = None
        if spec.residual:
            # Training begins at the encoder's own answers.
            nn.init.zeros_(self.answer.weight)
            nn.init.zeros_(self.answer.bias)
        if spec.smoothing > 1:
            # Averaging begins with the weights of a Gaussian.
            offsets = torch.arange(spec.smoothing) - spec.smoothing // 2
            distance = (offsets[:, None] ** 2 + offsets[None, :] ** 2) * _SIGMAS**2 / (spec.smoothing // 2) ** 2
            self.kernel = nn.Parameter(-distance.float()[None, None] / 2)

    def project(self, log_odds: Tensor, hidden: Tensor) -> Tensor:
        """Return what :meth:`forward` reads, … x F, of log-odds, …, and the encoder's features, … x C."""
        features = hidden if self.projection is None else self.projection(hidden)
        return torch.cat([log_odds[..., None], features], dim=-1)

    def forward(self, grids: Tensor) -> Tensor:
        """Return refined log-odds, N x k x k, of grids, N x k x k x F; NaN stands for missing patches."""
        present = ~torch.isnan(grids[..., 0])
        inputs = grids if self.spec.residual else grids[..., 1:]
        states = self._read(torch.where(present[..., None], inputs, self.absent))
        answers: Tensor = self.answer(states)[..., 0]
        return answers + self._smooth(grids[..., 0], present) if self.spec.residual else answers

    def _smooth(self, log_odds: Tensor, present: Tensor) -> Tensor:
        """Return log-odds, N x k x k, averaged over each patch's neighbours that are not missing."""
        there = torch.nan_to_num(log_odds)
        if self.kernel is None:
            return there
        weights, padding = self.kernel.flatten().softmax(0).view_as(self.kernel), self.spec.smoothing // 2
        total = functional.conv2d(there[:, None], weights, padding=padding)
        share = functional.conv2d(present[:, None].to(total.dtype), weights, padding=padding)
        # Where a patch and its neighbours are missing, the sum is 0, and the answer is not used.
        return (total / share.clamp_min(torch.finfo(total.dtype).tiny))[:, 0]

    def _read(self, grids: Tensor) -> Tensor:
        """Return the states of the LSTMs at every patch, N x k x k x S."""
        if self.spec.order == "rows-columns":
            assert self.columns is not None
            along_rows = _lines(self.rows, grids)
            return _lines(self.columns, along_rows.transpose(1, 2)).transpose(1, 2)
        by_rows = _raster(self.rows, grids)
        if self.columns is None:
            return by_rows
        by_columns = _raster(self.columns, grids.transpose(1, 2)).transpose(1, 2)
        return torch.cat([by_rows, by_columns], dim=-1)


def _raster(lstm: nn.LSTM, grids: Tensor) -> Tensor:
    """Read every grid as one sequence."""
    states: Tensor = lstm(grids.flatten(1, 2))[0]
    return states.reshape(*grids.shape[:3], -1)


def _lines(lstm: nn.LSTM, grids: Tensor) -> Tensor:
    """Read every line of every grid as a sequence of its own."""
    states: Tensor = lstm(grids.flatten(0, 1))[0]
    return states.reshape(*grids.shape[:3], -1)
