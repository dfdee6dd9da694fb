"""Which cells a scan is about: those asked for, and those around them that its passes must see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_metastasis.errors import RegionError
from napari_metastasis.geometry import HeatmapFrame, Region
from napari_metastasis.scanning import FEATURES, BoolArray, FeatureStore, Pass
from napari_metastasis.slides import Slide

__all__ = ["Extent", "on_slide"]


def on_slide(region: Region, slide: Slide) -> Region:
    """Return the part of a region that lies on the slide.

    Raises
    ------
    RegionError
        If there is none.
    """
    inside = region.intersection(Region.of(slide.size))
    if inside.is_empty:
        raise RegionError(
            f"expected a region on the slide ({slide.size.width} x {slide.size.height} px at level 0), got {region}; "
            "choose one inside, or scan the whole slide"
        )
    return inside


@dataclass(frozen=True, slots=True)
class Extent:
    """The cells of a scan.

    Attributes
    ----------
    frame
        Where they lie.
    block
        Cells along a side of a native one.
    kept
        Cells whose answers are stored: those asked for, and around them those that a pass reads from the map.
    scanned
        Cells that are looked at: also those whose features alone are needed.
    """

    frame: HeatmapFrame
    block: int
    kept: Region
    scanned: Region

    @classmethod
    def of(cls, frame: HeatmapFrame, block: int, region: Region | None, passes: tuple[Pass, ...]) -> Extent:
        """Return the cells of a scan.

        Parameters
        ----------
        frame, block
            Of the scan.
        region
            Level-0 pixels on the slide; ``None`` for all of it.
        passes
            That are made after the scan.
        """
        whole = Region.of(frame.cells)
        if region is None:
            return cls(frame, block, whole, whole)
        kept = frame.cells_over(region)
        of_maps = sum(each.reach_cells for each in passes if each.reads != FEATURES)
        kept = kept.grown(of_maps).intersection(whole)
        scanned = kept
        of_features = [each.reach_cells for each in passes if each.reads == FEATURES]
        if of_features:
            # Or a cell at the region's edge would have fewer neighbours than in a scan of the whole slide.
            native = frame.coarser(block)
            near = native.cells_over(region).grown(max(of_features)).intersection(Region.of(native.cells))
            scanned = near.fine(block).intersection(whole)
        return cls(frame, block, kept, scanned)

    def left_to_scan(self, done: BoolArray, features: FeatureStore) -> tuple[Region, BoolArray]:
        """Return which cells a pass wants features of, and which of these there is nothing left to do for.

        Parameters
        ----------
        done
            bool, (rows, columns): cells that are answered.
        features
            What is encoded already.
        """
        beside = np.ones(self.frame.cells.shape, np.bool_)
        beside[self.kept.slices] = False
        repeated = features.present.repeat(self.block, axis=0).repeat(self.block, axis=1)
        rows, columns = self.frame.cells.shape
        # Around the region cells are encoded, and their answers are nobody's.
        return self.scanned, (done | beside) & repeated[:rows, :columns]
