"""A synthetic slide that is drawn where it is read: every pixel is the same, whichever region is asked for."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations import Annotation, AnnotationSet
from napari_metastasis.errors import RegionError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.settings import SyntheticSettings
from napari_metastasis.synthetic._cells import Grids
from napari_metastasis.synthetic._layout import plan_layout
from napari_metastasis.synthetic._matrix import Grain, paint_matrix
from napari_metastasis.synthetic._noise import Floats, Noise
from napari_metastasis.synthetic._nuclei import Nuclei
from napari_metastasis.synthetic._optics import Stain, develop
from napari_metastasis.synthetic._tissue import Tissue
from napari_metastasis.synthetic._window import Window

__all__ = ["CHUNK_PX", "DRAWING", "SyntheticSlide"]

#: Raised whenever the same settings draw other pixels: slides of before and after do not belong in one cohort.
DRAWING = 2

#: Side of the squares that the slide is drawn in, and the rim around them that their pixels are blurred with.
CHUNK_PX = 512
_RIM_PX = 16
#: Pixels between the points at which the tissue is worked out; between them it is interpolated.
_STEP_PX = 8
#: Squares kept in memory, for readers that come back: 64 MB.
_KEPT = 80


class SyntheticSlide:
    """A lymph-node slide with metastases whose outlines are known.

    Parameters
    ----------
    settings
        What it shows.

    Raises
    ------
    SettingsError
        If the slide has no room for what was asked.
    """

    def __init__(self, settings: SyntheticSettings) -> None:
        self.settings = settings
        self.layout = plan_layout(settings)
        self._tissue = Tissue(
            self.layout, Noise.from_seed(settings.seed), settings.fat_mm * 1000, settings.mimics, settings.variety
        )
        self._grain = Grain.from_seed(settings.seed, settings.mpp)
        self._nuclei = Nuclei.from_seed(
            settings.seed, settings.mpp, settings.mimics, settings.subtlety, settings.variety
        )
        self._stain = Stain.from_settings(settings)
        self._cache: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()

    @property
    def size(self) -> Size:
        """Return the size of level 0, in pixels."""
        return Size(self.settings.width_px, self.settings.height_px)

    @property
    def mpp(self) -> float:
        """Return the µm per level-0 pixel."""
        return self.settings.mpp

    @property
    def annotations(self) -> AnnotationSet:
        """Return the exact outlines of the metastases, in group ``metastases``, level-0 pixels."""
        return AnnotationSet(
            tuple(
                Annotation.of_rings(metastasis.name, "metastases", metastasis.outline.polygon(512) / self.mpp)
                for metastasis in self.layout.metastases
            )
        )

    def read(self, region: Region) -> NDArray[np.uint8]:
        """Return (h, w, 3) uint8 of ``region`` in level-0 pixels.

        Raises
        ------
        RegionError
            If the region does not lie on the slide.
        """
        if region.is_empty or not Region.of(self.size).contains(region):
            raise RegionError(
                f"expected a region on the slide ({Region.of(self.size)}), got {region}; choose one inside"
            )
        out = np.empty((*region.size.shape, 3), np.uint8)
        for part in region.split(CHUNK_PX):
            column, row = part.x // CHUNK_PX, part.y // CHUNK_PX
            chunk = self._chunk(column, row)
            inner = part.shifted(-column * CHUNK_PX, -row * CHUNK_PX)
            out[part.shifted(-region.x, -region.y).slices] = chunk[inner.slices]
        return out

    def kinds_at(self, x_um: NDArray[np.float32], y_um: NDArray[np.float32]) -> tuple[NDArray[np.int8], Floats]:
        """Return the kinds of tissue at locations in µm from the slide's corner, and their depths in a metastasis."""
        tissue = self._tissue.at(x_um, y_um)
        return tissue.kinds(), tissue.tumour

    def _chunk(self, column: int, row: int) -> NDArray[np.uint8]:
        with self._lock:
            kept = self._cache.get((column, row))
            if kept is not None:
                self._cache.move_to_end((column, row))
                return kept
        drawn = self._draw(Region(column * CHUNK_PX, row * CHUNK_PX, CHUNK_PX, CHUNK_PX))
        with self._lock:
            self._cache[column, row] = drawn
            while len(self._cache) > _KEPT:
                self._cache.popitem(last=False)
        return drawn

    def _draw(self, region: Region) -> NDArray[np.uint8]:
        """Draw a square whose corner lies on the coarse grid."""
        window = Window.of(
            region.x - _RIM_PX, region.y - _RIM_PX, side=region.width + 2 * _RIM_PX, mpp=self.mpp, step=_STEP_PX
        )
        tissue = self._tissue.near(window.box.grown(30))
        rough = tissue.at(window.coarse_x, window.coarse_y)
        hematoxylin, eosin = np.zeros((2, window.side, window.side), np.float32)
        if max(rough.depth.max(), rough.fat.max()) > -20:
            grids = Grids(self.settings.seed, window)
            hematoxylin, eosin = paint_matrix(
                rough.upsampled(_STEP_PX),
                self._tissue.noise,
                self._grain,
                grids,
                window,
                histiocytes=self._nuclei.histiocytes_share,
                variety=self.settings.variety,
            )
            self._nuclei.stamp(hematoxylin, eosin, tissue, grids, window)
        light = develop(hematoxylin, eosin, self._stain, self.layout, self._grain, window)
        return light[_RIM_PX:-_RIM_PX, _RIM_PX:-_RIM_PX]
