"""Which cells a scan answers: those of its region, and those around it that its passes read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from napari_metastasis.errors import RegionError
from napari_metastasis.geometry import CHUNK_CELLS, HeatmapFrame, Region, repeat_blocks, sparse_zeros
from napari_metastasis.scanning import FEATURES, PROBABILITY, BoolArray, FeatureStore
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
        Cells whose answers are stored: the region, and what passes read of the scan's map around it.
    scanned
        Cells that the network looks at: also those of which passes read the features alone.
    """

    frame: HeatmapFrame
    block: int
    kept: Region
    scanned: Region

    @classmethod
    def of(cls, frame: HeatmapFrame, block: int, region: Region | None, around: Mapping[str, int]) -> Extent:
        """Return the cells of a scan.

        Parameters
        ----------
        frame, block
            Of the scan.
        region
            Level-0 pixels on the slide; ``None`` for all of it.
        around
            From :func:`~napari_metastasis.scanning.cells_around`.
        """
        whole = Region.of(frame.cells)
        if region is None:
            return cls(frame, block, whole, whole)
        of_map = around.get(PROBABILITY.name, 0)
        kept = frame.cells_over(region).grown(of_map).intersection(whole)
        if FEATURES not in around:
            return cls(frame, block, kept, kept)
        native = frame.coarser(block)
        near = native.cells_over(region).grown(max(around[FEATURES], -(-of_map // block)))
        return cls(frame, block, kept, near.intersection(Region.of(native.cells)).fine(block).intersection(whole))

    def encoded(self, done: BoolArray, features: FeatureStore) -> BoolArray:
        """Return the cells of ``scanned`` that nothing is left to do for: answered where that is kept, and encoded.

        Parameters
        ----------
        done
            bool, (rows, columns): cells that are answered.
        features
            What is encoded already.
        """
        present, encoded = features.present, sparse_zeros(self.frame.cells.shape)
        for part in self.scanned.split(CHUNK_CELLS):
            if present[part.coarse(self.block).slices].any():
                encoded[part.slices] = repeat_blocks(present, self.block, part)
                inside = part.intersection(self.kept).slices
                encoded[inside] &= done[inside]
        return encoded
