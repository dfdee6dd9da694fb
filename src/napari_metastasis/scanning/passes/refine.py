"""Refinement: encoded patches in, probabilities that know their neighbours out. The slide is not read again.

A map is refined block by block. Grids lie on lattices anchored at cell (0, 0), every phase of the step having one, so
that a cell's answer is the mean over the same grids wherever blocks and ROIs begin.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from napari_metastasis.geometry import HeatmapFrame, Point, Region
from napari_metastasis.models import RefinerSpec, SpatialNetwork
from napari_metastasis.scanning.engines.torch import device_errors
from napari_metastasis.scanning.passes.views import turn, turn_back
from napari_metastasis.scanning.plan import BoolArray

__all__ = ["BlockRefiner", "RefinePlan", "plan_refinement", "refine_features"]

FloatArray = npt.NDArray[np.float32]

#: Side of a block in native cells, rounded to whole grids: about an ROI.
_BLOCK_CELLS = 64
#: Grids that are read together: bounds memory, and keeps their states in a processor's cache.
_TOGETHER = 512


@dataclass(frozen=True, slots=True)
class RefinePlan:
    """What of a map is to be refined, in which order, and what each piece waits for.

    Attributes
    ----------
    frame
        Of native cells.
    blocks
        In the order of their distance from the focus. No cell lies in two of them.
    needed
        bool, (rows, columns): cells that are to be refined.
    expected
        bool, (rows, columns): cells whose features have a say, or may have.
    halo_cells
        How far around a block features are read.
    """

    frame: HeatmapFrame
    blocks: tuple[Region, ...]
    needed: BoolArray = field(repr=False, compare=False)
    expected: BoolArray = field(repr=False, compare=False)
    halo_cells: int

    def around(self, block: Region) -> Region:
        """Return the cells whose features a block needs; they may reach past the map."""
        return block.grown(self.halo_cells)

    def waits_for(self, block: Region) -> tuple[Region, BoolArray]:
        """Return the cells around a block that lie on the map, and which of them have to be encoded first."""
        inside = self.around(block).intersection(Region.of(self.frame.cells))
        return inside, self.expected[inside.slices]


def plan_refinement(
    frame: HeatmapFrame,
    *,
    wanted: Region,
    tissue: BoolArray | None,
    done: BoolArray,
    focus: Point | None,
    spec: RefinerSpec,
) -> RefinePlan:
    """Return which blocks are to be refined.

    Parameters
    ----------
    frame
        Of native cells.
    wanted
        Cells asked for.
    tissue
        bool, (rows, columns): cells that show tissue; ``None`` takes them all.
    done
        bool, (rows, columns): cells that are refined already.
    focus
        Level-0 location to begin at; ``None`` begins at the middle of ``wanted``.
    spec
        The refiner.
    """
    shows = np.ones(frame.cells.shape, np.bool_) if tissue is None else tissue
    needed = np.zeros(frame.cells.shape, np.bool_)
    needed[wanted.slices] = shows[wanted.slices] & ~done[wanted.slices]
    side = max(1, round(_BLOCK_CELLS / spec.span_cells)) * spec.span_cells
    # Whole squares of the lattice, also where the region cuts them: grids must not begin elsewhere for it.
    squares = (
        Region(part.x // side * side, part.y // side * side, side, side)
        for part in wanted.split(side)
        if needed[part.slices].any()
    )
    if focus is None:
        middle = wanted.center
    else:
        cell = frame.cell_at(focus)
        middle = Point(cell.x + 0.5, cell.y + 0.5)
    blocks = sorted(squares, key=lambda block: (block.center.distance(middle), block.y, block.x))
    # Beyond the reach of what is wanted nothing is encoded, and nothing is waited for.
    expected = np.zeros(frame.cells.shape, np.bool_)
    near = wanted.grown(spec.reach_cells).intersection(Region.of(frame.cells))
    expected[near.slices] = shows[near.slices]
    return RefinePlan(frame, tuple(blocks), needed, expected, spec.halo_cells)


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


class BlockRefiner:
    """Refines blocks on one device.

    Parameters
    ----------
    network
        The refiner. It is left as it is.
    device
        As torch takes it.

    Raises
    ------
    DeviceError
        If the device does not take it.
    """

    def __init__(self, network: SpatialNetwork, device: str) -> None:
        self.device = device
        with device_errors(device, "float32"):
            self._network = network if device == "cpu" else _moved(network, device)

    def refine(self, features: FloatArray) -> FloatArray:
        """Return the probabilities of a block, float32 (rows, columns), averaged over its views.

        Parameters
        ----------
        features
            float32, (views, rows + 2 halo, columns + 2 halo, F), as they lie on the slide.

        Raises
        ------
        DeviceMemoryError, DeviceError
            If the device fails.
        """
        total: npt.NDArray[np.float64] | None = None
        for view, seen in enumerate(features):
            # Each view's grids are turned like its patches, as if the whole slide had been.
            with device_errors(self.device, "float32"):
                placed = torch.from_numpy(turn(seen, view)).to(self.device)
                answers = refine_features(self._network, placed).cpu().numpy()
            back = turn_back(answers, view)
            total = back.astype(np.float64) if total is None else total + back
        assert total is not None  # there is at least one view
        return np.asarray(total / len(features), np.float32)


def _moved(network: SpatialNetwork, device: str) -> SpatialNetwork:
    moved = SpatialNetwork(network.spec)
    moved.load_state_dict(network.state_dict())
    return moved.to(device).eval().requires_grad_(requires_grad=False)
