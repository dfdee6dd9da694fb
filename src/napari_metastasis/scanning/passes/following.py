"""Passes that read what another pass wrote, block by block: the slide is not read again.

Blocks lie on a lattice anchored at cell (0, 0), so that a cell's answer is the same wherever blocks and ROIs begin.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import HeatmapFrame, Region, any_of_blocks
from napari_metastasis.scanning.maps.kinds import PROBABILITY
from napari_metastasis.scanning.maps.store import MapStore
from napari_metastasis.scanning.passes.base import FEATURES, Pass, PassContext
from napari_metastasis.scanning.plan import BoolArray, Wanted, nearest_first
from napari_metastasis.scanning.scanner import FinishedPiece

__all__ = ["BlockPlan", "BlockShape", "FollowingPass", "Source", "plan_blocks"]

FloatArray = npt.NDArray[np.float32]

#: Side of a block in cells, rounded to whole spans: about an ROI.
_BLOCK_CELLS = 64


class Source(Protocol):
    """What a pass reads: a store of features, or of a map."""

    def covers(self, cells: Region, expected: BoolArray) -> bool:
        """Return whether every cell that is expected is there: bool, (rows, columns) of ``cells``."""
        ...

    def read(self, cells: Region) -> FloatArray:
        """Return values, (…, rows, columns) or (…, rows, columns, features), NaN where there are none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockShape:
    """How a pass splits its map into blocks.

    Attributes
    ----------
    span_cells
        Cells along a side of the squares that no block splits.
    halo_cells
        How far around a block it reads.
    reach_cells
        How far around a cell lies what its answer depends on.
    """

    span_cells: int = 1
    halo_cells: int = 0
    reach_cells: int = 0


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """Which blocks of a map are answered, in which order, and what each waits for.

    Attributes
    ----------
    frame
        Where the cells lie.
    blocks
        In the order of their distance from the focus. No cell lies in two of them.
    needed
        bool, (rows, columns): cells that are to be answered.
    expected
        bool, (rows, columns): cells of what is read that answers depend on.
    halo_cells
        How far around a block is read.
    """

    frame: HeatmapFrame
    blocks: tuple[Region, ...]
    needed: BoolArray = field(repr=False, compare=False)
    expected: BoolArray = field(repr=False, compare=False)
    halo_cells: int

    def around(self, block: Region) -> Region:
        """Return the cells that a block reads; they may reach past the map."""
        return block.grown(self.halo_cells)

    def waits_for(self, block: Region) -> tuple[Region, BoolArray]:
        """Return the cells around a block that lie on the map, and which of them have to be there first."""
        inside = self.around(block).intersection(Region.of(self.frame.cells))
        return inside, self.expected[inside.slices]


def plan_blocks(frame: HeatmapFrame, wanted: Wanted, shape: BlockShape) -> BlockPlan:
    """Return which blocks of a map are to be answered.

    Parameters
    ----------
    frame
        Where the cells lie.
    wanted
        What is asked for, in these cells.
    shape
        How the pass splits its map.
    """
    cells = wanted.cells
    needed = wanted.left(wanted.showing(frame, cells))
    side = max(1, round(_BLOCK_CELLS / shape.span_cells)) * shape.span_cells
    # Whole squares of the lattice, also where the region cuts them: grids must not begin elsewhere for it.
    squares = (part.coarse(side).fine(side) for part in cells.split(side) if needed[part.slices].any())
    blocks = sorted(squares, key=nearest_first(wanted.center(frame)))
    # Beyond the reach of what is wanted nothing is waited for: the scan may never answer there.
    expected = wanted.showing(frame, cells.grown(shape.reach_cells).intersection(Region.of(frame.cells)))
    return BlockPlan(frame, tuple(blocks), needed, expected, shape.halo_cells)


class FollowingPass(Pass):
    """A pass that answers from what another pass wrote; subclasses say what they read and what they answer."""

    #: Cost of answering a model pixel, where scanning it costs 1; for progress alone.
    cost: ClassVar[float] = 0.1

    @property
    def shape(self) -> BlockShape:
        """Return how the pass splits its map."""
        return BlockShape(halo_cells=self.reach_cells, reach_cells=self.reach_cells)

    def begin(self, device: str) -> None:
        """Move to a device, as torch names it.

        Raises
        ------
        DeviceError
            If the device does not take its network.
        """

    @abstractmethod
    def answer(self, values: FloatArray) -> FloatArray:
        """Return the answers of a block, float32 (rows, columns).

        Parameters
        ----------
        values
            What it reads, with the halo around the block: (rows, columns) of a map, or
            (views, rows, columns, features). NaN where there is nothing, or where it does not count.
        """

    def prepare(self, context: PassContext) -> PreparedFollowingPass:
        """Return the pass ready to run; see :meth:`Pass.prepare`."""
        self.begin(context.device)
        source: Source | None
        if self.reads == FEATURES:
            # None on a read-only disk, where only a finished scan is read again.
            source, frame = context.features, context.native
        else:
            read = context.maps[self.reads]
            source, frame = read, read.frame
        store = context.open_map(self.writes, frame, self.decides)
        block = context.frame.block_in(frame)
        wanted = Wanted(
            cells=context.cells_of(self.writes.name, frame),
            tissue=None if context.tissue is None else any_of_blocks(context.tissue, block),
            done=store.done,
            focus=context.focus,
        )
        return PreparedFollowingPass(self, plan_blocks(frame, wanted, self.shape), source, store, block)


@dataclass(frozen=True, slots=True)
class PreparedFollowingPass:
    """A pass that follows another, ready to run.

    Attributes
    ----------
    made_by
        What answers.
    plan
        What is left to answer.
    source
        What is read; ``None`` where nothing is left to answer, and what would be read is not there.
    store
        The map, opened for writing.
    block
        The scan's cells along a side of one of its cells.
    """

    made_by: FollowingPass
    plan: BlockPlan
    source: Source | None
    store: MapStore
    block: int

    @property
    def model_px(self) -> int:
        """Return the work that is left."""
        return sum(self._work(block) for block in self.plan.blocks)

    def _work(self, block: Region) -> int:
        inside = block.intersection(Region.of(self.plan.frame.cells))
        return int(inside.size.area * self.plan.frame.stride_px**2 * self.made_by.cost)

    @property
    def finished(self) -> bool:
        """Return whether all that was asked for is answered."""
        return bool(self.store.done[self.plan.needed].all())

    def run(self, pieces: Generator[FinishedPiece], should_stop: Callable[[], bool]) -> Generator[FinishedPiece]:
        """Yield the pieces of the passes before, and each block as soon as everything that it waits for is there.

        Raises
        ------
        DeviceError
            If the device fails.
        StorageError
            If what is read cannot be read, or an answer cannot be stored.
        """
        waiting = dict.fromkeys(self.plan.blocks)
        reads = self.made_by.reads
        # Features come with the scan's own map.
        awaited = PROBABILITY.name if reads == FEATURES else reads
        with closing(pieces):
            for piece in pieces:
                yield piece
                if piece.map != awaited:
                    continue
                fresh = piece.cells.coarse(self.block) if reads == FEATURES else piece.cells
                near = [block for block in waiting if not self.plan.around(block).intersection(fresh).is_empty]
                for block in near:
                    if should_stop():
                        return
                    if (answered := self._answered(block)) is not None:
                        del waiting[block]
                        yield answered
        # Blocks that an earlier scan left ready: no piece of this one announced them.
        for block in waiting:
            if should_stop():
                return
            if (answered := self._answered(block)) is not None:
                yield answered

    def close(self) -> None:
        """Close the map; a second call does nothing."""
        self.store.close()

    def _answered(self, block: Region) -> FinishedPiece | None:
        """Answer and store a block; ``None`` while it waits."""
        assert self.source is not None
        around, expected = self.plan.waits_for(block)
        if not self.source.covers(around, expected):
            return None
        window = self.plan.around(block)
        values = self.source.read(window)
        # What a scan with other tissue settings left there does not count in this map.
        counts = np.zeros(window.size.shape, np.bool_)
        counts[around.shifted(-window.x, -window.y).slices] = expected
        # Of features the rows and columns are the second and third axes, of a map the only ones.
        values[(slice(None), ~counts) if values.ndim > counts.ndim else ~counts] = np.nan
        answers = self.made_by.answer(values)
        inside = block.intersection(Region.of(self.plan.frame.cells))
        answers = answers[: inside.height, : inside.width]
        answers[~self.plan.needed[inside.slices]] = np.nan
        self.store.write(inside, answers)
        return FinishedPiece(map=self.made_by.writes.name, cells=inside, values=answers, model_px=self._work(block))
