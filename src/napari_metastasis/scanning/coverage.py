"""How much of a slide's tissue a result answers for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, Region, chunks_over, sparse_zeros
from napari_metastasis.scanning.plan import BoolArray
from napari_metastasis.slides import TissueMask

__all__ = ["Coverage", "answerable_cells", "unanswered_cells"]

_NO_RESULT = "of the tissue scanned: not a result for the slide"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a slide's tissue is answered by the map that lesions are read from.

    Lesions are read from the blend of the scan's own map with those of the passes after it. A cell of the blend has an
    answer wherever the scan's own map has one: where a later map has none, the scan's answer counts alone. So a cell
    counts as answered once the scan answered it, whether or not later passes did.

    Attributes
    ----------
    tissue_cells
        Cells of the heatmap that hold tissue. The same cells count where a scan did not leave glass out; where no
        tissue was found, but something was scanned all the same, every cell counts.
    answered_cells
        Those of them that are answered.
    """

    tissue_cells: int
    answered_cells: int

    @classmethod
    def of(cls, answered: ChunkedCells, tissue: BoolArray) -> Coverage:
        """Count the cells of a map that is blended already.

        Parameters
        ----------
        answered
            What lesions are read from, NaN where nothing was scanned.
        tissue
            bool, (rows, columns): from :func:`answerable_cells`.
        """
        found = sum(int(np.count_nonzero(tissue[cells.slices] & ~np.isnan(values))) for cells, values in answered)
        return cls(int(np.count_nonzero(tissue)), found)

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Return what :meth:`to_json` wrote; the counts decide all of it.

        Raises
        ------
        ValueError, TypeError, KeyError
            If it is anything else.
        """
        tissue, answered = values["tissue_cells"], values["answered_cells"]
        if type(tissue) is not int or type(answered) is not int or not 0 <= answered <= tissue:
            raise ValueError("counts of cells that cannot be so")
        return cls(tissue, answered)

    @property
    def share(self) -> float:
        """Return the share of the tissue that is answered, 0 to 1; NaN where there is none."""
        return self.answered_cells / self.tissue_cells if self.tissue_cells else float("nan")

    @property
    def whole(self) -> bool:
        """Return whether all tissue is answered, and there is some."""
        return 0 < self.tissue_cells == self.answered_cells

    @property
    def percent(self) -> str:
        """Return the share for a person: "36 %", and "100 %" only where nothing is left; empty without tissue."""
        if not self.tissue_cells:
            return ""
        if 0 < self.answered_cells < 0.01 * self.tissue_cells:
            return "less than 1 %"
        rounded = round(100 * self.share)
        return f"{rounded if self.whole else min(rounded, 99)} %"

    @property
    def text(self) -> str:
        """Return what the result is worth, as a line that begins with the share."""
        if not self.tissue_cells:
            return "No tissue found: nothing was scanned"
        if self.whole:
            return "Whole slide scanned"
        percent = self.percent
        return f"{percent[:1].upper()}{percent[1:]} {_NO_RESULT}"

    @property
    def state(self) -> str:
        """Return how much was scanned, in a few words: "36 % of the tissue scanned"."""
        return self.text.partition(":")[0]

    @property
    def sentence(self) -> str:
        """Return :attr:`text` as it is told at the end of a scan: "Only 36 % of the tissue scanned: …"."""
        return f"Only {self.text}" if self.text[:1].isdigit() else self.text

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; the share is ``None`` where there is no tissue."""
        return {
            "tissue_cells": self.tissue_cells,
            "answered_cells": self.answered_cells,
            # Rounded down, so that it is 1 only where all of it is answered.
            "share": None if not self.tissue_cells else self.answered_cells * 10**6 // self.tissue_cells / 10**6,
            "whole": self.whole,
            "text": self.text,
        }


def answerable_cells(tissue: TissueMask, frame: HeatmapFrame, answered: ChunkedCells) -> BoolArray:
    """Return the cells that a result has to answer for: bool, (rows, columns).

    Those are the cells that hold tissue. On a slide without tissue that was scanned all the same, whoever did so does
    not trust the search for tissue, and all cells count.

    Parameters
    ----------
    tissue
        Where the slide holds tissue.
    frame
        Of the heatmap.
    answered
        What lesions are read from, NaN where nothing was scanned.
    """
    cells = tissue.over(frame)
    if not cells.any() and any(not np.isnan(values).all() for _, values in answered):
        cells[:] = True
    return cells


def unanswered_cells(tissue: BoolArray, answered: ChunkedCells) -> BoolArray:
    """Return which of some cells have no answer: bool, (rows, columns), which takes memory only where there are such.

    Parameters
    ----------
    tissue
        bool, (rows, columns): from :func:`answerable_cells`.
    answered
        What lesions are read from, NaN where nothing was scanned.
    """
    left = sparse_zeros(tissue.shape)
    for key, cells in chunks_over(Region.of(answered.size), answered.size):
        asked = tissue[cells.slices]
        if asked.any():
            values = answered.chunks.get(key)
            np.copyto(left[cells.slices], True, where=asked if values is None else asked & np.isnan(values))
    return left
