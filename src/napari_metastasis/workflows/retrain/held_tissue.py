"""What keeps a model of mitoses from forgetting: tissue of the corrected slides, with synthetic mitoses drawn into it.

No image that it has learnt from is at hand. So its own answers are, to tissue of the slides that were corrected, most
of which holds no mitosis, and to synthetic ones in it, with the dyes of these slides varied as in training. A model
that learns from corrections is to answer them as it did before (Li and Hoiem 2017, Learning without Forgetting).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.point_slides import SlideCrops, numbered_crops, places_in_tissue
from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.sampling.point_batches import PointBatches
from napari_metastasis.sampling.point_mosaics import PointMosaics
from napari_metastasis.settings import MitosisMapSettings, PieceSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.synthetic import FigurePainter

__all__ = ["HeldBatches", "held_tissue"]

#: Crops of all slides together, at least one of each.
_CROPS = 128
#: How far from a corrected place one lies at most, along x and along y, where no tissue is found.
_AROUND_CROPS = 2.0


# Told apart by identity, as other sources that hold arrays.
@dataclass(frozen=True, eq=False)
class HeldBatches:
    """Mosaics to learn from, and behind them as many that are to be answered as before.

    Attributes
    ----------
    corrected, held
        Mosaics of the same size, as many in a batch of either.
    """

    corrected: PointBatches
    held: PointBatches

    @property
    def fingerprint(self) -> str:
        """Return what tells both apart from others."""
        return f"{self.corrected.fingerprint} {self.held.fingerprint}"

    @property
    def batches_per_epoch(self) -> int:
        """Return after how many batches the model is measured and stored."""
        return self.corrected.batches_per_epoch

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``."""
        both = [each.batch(number) for each in (self.corrected, self.held)]
        images, labels, targets = (
            np.concatenate([getattr(one, name) for one in both]) for name in ("images", "labels", "targets")
        )
        return PatchBatch(images, labels, targets)


@contextmanager
def held_tissue(
    slides: Sequence[CohortSlide],
    spoken_of: Sequence[npt.NDArray[np.float64]],
    *,
    mpp: float,
    side_px: int,
    pieces: PieceSettings,
    seed: int,
) -> Iterator[PointMosaics]:
    """Yield mosaics of tissue of slides, with one to three synthetic mitoses in each crop.

    Parameters
    ----------
    slides
        Which were corrected.
    spoken_of
        For each of them, (n, 2) of (x, y) in pixels of ``mpp``: around what was said to be a mitosis or none, or waits
        to be, nothing is held.
    mpp
        µm per pixel.
    side_px
        Of a crop.
    pieces
        How crops lie side by side.
    seed
        Of where they lie, and of what is drawn.

    Raises
    ------
    SlideError
        If a slide cannot be opened.
    """
    places: list[tuple[int, int, int]] = []
    for number, one in enumerate(slides):
        with open_slide(one.path, one.mpp, swap_red_blue=one.swap_red_blue) as slide:
            count = math.ceil(_CROPS / len(slides))
            generator = np.random.default_rng([seed, number])
            xy = places_in_tissue(slide, slide.frame(mpp), count, generator)
            if not len(xy):
                # Pale, and looked at all the same: what lies around corrected places is no glass.
                around = generator.choice(spoken_of[number], count)
                xy = around + generator.uniform(-_AROUND_CROPS, _AROUND_CROPS, around.shape) * side_px
        places += [(number, x, y) for x, y in np.rint(xy - side_px / 2).astype(np.int64).tolist()]
    with closing(SlideCrops(tuple(slides), tuple(places), mpp, side_px)) as pictures:
        yield PointMosaics(
            source=numbered_crops(pictures, [np.empty((0, 2))] * len(slides), spoken_of),
            indices=np.arange(len(places)),
            shrink=1,
            cells=pieces.crops_a_side,
            margin_px=0,
            shift_px=0,
            maps=MitosisMapSettings(),
            seed=seed,
            # Each crop is one without a point, into which some are drawn.
            empty_share=1.0,
            clear_um=pieces.clear_um,
            painter=FigurePainter(1.0, 0.0, pieces.clear_um),
        )
