"""Where tissue is known to be free of tumour: on slides that are outlined completely, and in outlines that say so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_metastasis.annotations.outline_index import OutlineIndex
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import TumourReference
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region

__all__ = ["KnownNormal"]

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class KnownNormal:
    """Where what is not outlined as tumour is known to be normal; what is to be ignored never is.

    Attributes
    ----------
    everywhere
        Whether it is so all over the slide, or in outlines of normal tissue alone.
    outlined, ignored
        Outlines of normal tissue, and of what is to be ignored.
    """

    everywhere: bool
    outlined: OutlineIndex
    ignored: OutlineIndex

    @classmethod
    def of(cls, slide: CohortSlide, reference: TumourReference) -> KnownNormal:
        """Return where it is known on a slide of a cohort."""
        return cls(slide.shows_normal, reference.normal, reference.ignored)

    @property
    def without_limits(self) -> bool:
        """Return whether no place has to be asked for."""
        return self.everywhere and self.ignored.empty

    def over(self, frame: ModelFrame, region: Region) -> BoolArray:
        """Return the model pixels whose centres lie where it is known, (rows, columns); tumour may lie there too."""
        known = np.ones(region.size.shape, np.bool_) if self.everywhere else self.outlined.over(frame, region)
        return known if self.ignored.empty else known & ~self.ignored.over(frame, region)

    def counted(self, tumour: BoolArray, frame: ModelFrame, region: Region) -> BoolArray:
        """Return which of a region's tumour, (rows, columns), is an example of it: what is to be ignored is not."""
        return tumour if self.ignored.empty else tumour & ~self.ignored.over(frame, region)

    def may_hold(self, grid: HeatmapFrame) -> BoolArray:
        """Return the cells, (rows, columns), in which it is known anywhere, and some beside them."""
        known = np.ones(grid.cells.shape, np.bool_) if self.everywhere else self.outlined.over_cells(grid)[0]
        return known if self.ignored.empty else known & ~self.ignored.over_cells(grid)[1]
