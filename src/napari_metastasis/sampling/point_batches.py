"""Batches of mosaics of crops around points, as training takes them."""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np

from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.sampling.crops import UNKNOWN
from napari_metastasis.sampling.point_mosaics import PointMosaic, PointMosaics

__all__ = ["PointBatches"]

#: Enough to tell two sets of crops apart, few enough to be read in no time.
_FINGERPRINTED_CROPS = 32


# Told apart by identity, as other sources that hold arrays.
@dataclass(frozen=True, eq=False)
class PointBatches:
    """Mosaics by number. Labels are 1 at the pixel that holds a point, 0 elsewhere, -1 where nothing is known.

    Attributes
    ----------
    mosaics
        They have no margin; whoever needs one mirrors them.
    batch_size
        Mosaics in a batch.
    batches_per_epoch
        After how many batches the model is measured and stored.
    stains
        The dyes of all crops, eight numbers as a network's input takes them; empty where it reads none.
    """

    mosaics: PointMosaics
    batch_size: int
    batches_per_epoch: int
    stains: tuple[float, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Return a SHA-256 over the crops, the points of their slides, some pixels, and how they are shown."""
        of = self.mosaics
        told: tuple[object, ...] = (of.shrink, of.cells, of.shift_px, astuple(of.maps), of.seed, of.empty_share)
        told += (of.clear_um,)
        # Runs that nobody asked to draw are told by what they were before.
        if of.painter is not None:
            told += (of.painter.identity,)
        slides = [of.source.slides[index] for index in of.indices]
        digest = hashlib.sha256(
            f"{told} {of.mpp} {self.batch_size} {self.batches_per_epoch} {slides}".encode(errors="backslashreplace")
        )
        digest.update(of.source.xy[of.indices].tobytes())
        for slide in sorted(set(slides)):
            for xy in (of.source.points_of(slide), of.source.unreviewed_of(slide)):
                digest.update(f"{len(xy)} points".encode() + np.ascontiguousarray(xy).tobytes())
        for index in of.indices[np.linspace(0, len(of.indices) - 1, _FINGERPRINTED_CROPS).astype(int)].tolist():
            digest.update(of.source.read(index).image.tobytes())
        return digest.hexdigest()

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``."""
        drawn = [self.mosaics.mosaic(number * self.batch_size + place) for place in range(self.batch_size)]
        images, targets = (
            np.stack(each) for each in zip(*((one.image, one.probability) for one in drawn), strict=True)
        )
        return PatchBatch(images, np.stack([_labels(one) for one in drawn]), targets).stained_with(self.stains)


def _labels(mosaic: PointMosaic) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    labels = np.where(mosaic.known, 0, UNKNOWN).astype(np.int64)
    columns, rows = np.minimum(mosaic.xy.astype(np.int64), len(labels) - 1).T
    labels[rows, columns] = 1
    return labels
