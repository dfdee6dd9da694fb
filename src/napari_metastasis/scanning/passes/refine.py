"""Refinement: encoded patches in, probabilities that know their neighbours out (Zheng et al. 2022).

Grids lie on lattices anchored at cell (0, 0), every phase of the step having one, so that a cell's answer is the mean
over the same grids wherever blocks and ROIs begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from napari_metastasis.geometry import SYMMETRIES
from napari_metastasis.models import Model, Refiner, SpatialNetwork
from napari_metastasis.scanning.engines.torch import device_errors
from napari_metastasis.scanning.maps.kinds import MapKind
from napari_metastasis.scanning.passes.base import FEATURES
from napari_metastasis.scanning.passes.following import BlockShape, FollowingPass
from napari_metastasis.settings import PassSettings, ScanSettings

__all__ = ["REFINED", "RefinePass", "refine_features"]

FloatArray = npt.NDArray[np.float32]

#: Version of refined answers: to be raised when a change of this program changes one by more than rounding.
_REFINED_VERSION = 1
#: Grids that are read together: bounds memory, and keeps their states in a processor's cache.
_TOGETHER = 512

#: The map that a refiner writes.
REFINED = MapKind(name="refined", title="Refined probability", stem="refined")


class RefinePass(FollowingPass):
    """A refiner's pass over the detector's features.

    Parameters
    ----------
    refiner
        The refiner; it stays where it is, and the pass moves a copy to the device.
    """

    writes, reads = REFINED, FEATURES

    def __init__(self, refiner: Refiner) -> None:
        self.refiner = refiner
        self._network, self._device = refiner.network, "cpu"

    @classmethod
    def of(cls, model: Model, settings: PassSettings) -> Self:
        """Return the pass of a refiner."""
        del settings
        assert isinstance(model, Refiner)
        return cls(model)

    @property
    def reach_cells(self) -> int:
        """Return how far around a cell the refiner's grids reach."""
        return self.refiner.spec.reach_cells

    @property
    def shape(self) -> BlockShape:
        """Return whole grids, and as much around them as grids reach."""
        spec = self.refiner.spec
        return BlockShape(span_cells=spec.span_cells, halo_cells=spec.halo_cells, reach_cells=spec.reach_cells)

    @property
    def decides(self) -> Mapping[str, Any]:
        """Return the refiner's name, weights and calibration."""
        calibration = self.refiner.spec.calibration
        return {
            "refined_version": _REFINED_VERSION,
            "refiner": self.refiner.name,
            "refiner_sha256": self.refiner.weights_sha256,
            # Earlier versions, whose maps go on, knew none.
            **({} if calibration is None else {"refiner_calibration": calibration}),
        }

    def notes(self, settings: ScanSettings) -> tuple[str, ...]:
        """Say so where the refiner was trained at another dense coefficient."""
        trained = self.refiner.spec.dense_coefficient
        if trained == settings.dense_coefficient:
            return ()
        return (
            f"expected dense coefficient {trained}, which {self.refiner.name} was trained at, got "
            f"{settings.dense_coefficient}: it refines less well; scan with --dense-coefficient {trained}",
        )

    def begin(self, device: str) -> None:
        """Place the network on a device."""
        self._device = device
        with device_errors(device, "float32"):
            self._network = self.refiner.network if device == "cpu" else _moved(self.refiner.network, device)

    def answer(self, values: FloatArray) -> FloatArray:
        """Return the refined probabilities of a block, averaged over its views.

        Parameters
        ----------
        values
            float32, (views, rows + 2 halo, columns + 2 halo, F), as they lie on the slide.

        Raises
        ------
        DeviceMemoryError, DeviceError
            If the device fails.
        """
        total: npt.NDArray[np.float64] | None = None
        for view, seen in zip(SYMMETRIES, values, strict=False):
            # Each view's grids are turned like its patches, as if the whole slide had been.
            with device_errors(self._device, "float32"):
                placed = torch.from_numpy(view.apply(seen)).to(self._device)
                answers = refine_features(self._network, placed).cpu().numpy()
            back = view.undo(answers)
            total = back.astype(np.float64) if total is None else total + back
        assert total is not None  # there is at least one view
        return self.refiner.spec.probabilities(np.asarray(total / len(values), np.float32))


@torch.inference_mode()
def refine_features(network: SpatialNetwork, features: Tensor) -> Tensor:
    """Return the probabilities of a square of native cells, averaged over every grid that a cell belongs to.

    Parameters
    ----------
    network
        The refiner.
    features
        float32, (side + 2 halo) x (side + 2 halo) x F, NaN where there is no patch. The side is a multiple of
        ``spec.span_cells`` and the square begins at one.

    Returns
    -------
    float32, side x side
    """
    spec = network.spec
    step, grid, move = spec.grid_step, spec.grid, spec.window_step
    side = features.shape[0] // step
    lattices = features.view(side, step, side, step, -1).permute(1, 3, 0, 2, 4).flatten(0, 1)
    # Phases x windows down x windows across x k x k x F.
    grids = lattices.unfold(1, grid, move).unfold(2, grid, move).permute(0, 1, 2, 4, 5, 3)
    phases, down, across = grids.shape[:3]
    flat = grids.reshape(-1, grid, grid, grids.shape[-1])
    present = torch.nonzero(~torch.isnan(flat[..., 0]).flatten(1).all(dim=1))[:, 0]
    answers = flat.new_zeros(len(flat), grid * grid)
    for part in torch.split(present, _TOGETHER):
        answers[part] = network(flat[part]).sigmoid().flatten(1)
    columns = answers.view(phases, down * across, grid * grid).transpose(1, 2)
    total = functional.fold(columns, (side, side), grid, stride=move)[:, 0]
    mean = total / (grid // move) ** 2
    whole = mean.view(step, step, side, side).permute(2, 0, 3, 1).reshape(side * step, side * step)
    halo = spec.halo_cells
    return whole[halo : len(whole) - halo, halo : len(whole) - halo]


def _moved(network: SpatialNetwork, device: str) -> SpatialNetwork:
    moved = SpatialNetwork(network.spec)
    moved.load_state_dict(network.state_dict())
    return moved.to(device).eval().requires_grad_(requires_grad=False)
