"""The negative feed: crops that a model answers wrongly, beside a random share of the others, turned and with noise.

Of the three ways in which the house learns from what is hard, this one changes which crops are learnt from, as hard
negatives do for normal tissue alone; boosting changes how likely each is. After Paeng et al. 2016, as changed by the
mitosis paper among the sources of this program (4, "negative feed"): all observations that were misclassified after a
first round of training, augmented with a random sample of those that were not, distorted by random rotations and
Gaussian noise. Rotations are by right angles here, with reflections, so that a crop's cells keep their labels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import SYMMETRIES
from napari_metastasis.sampling.batches import BatchSource, PatchBatch

__all__ = ["NegativeFeed"]

_WHITE = 255
#: Of what is drawn once, of the order of each round, and of how each crop is distorted.
_CHOICE, _ORDER, _DISTORTION = 0, 1, 2


# Told apart by identity, as other sources that hold arrays.
@dataclass(frozen=True, eq=False)
class NegativeFeed:
    """Batches of crops that a model answered wrongly, and of some of the others: each once before any comes again.

    Attributes
    ----------
    crops
        A source of batches of one; batch ``k`` is crop ``k``.
    wrong
        (n,): whether the model answered each wrongly.
    rest_share
        Share of the others that is fed as well. Where neither gives any crop, all are fed.
    noise
        Standard deviation of the noise that each crop is given; 1 is white.
    batch_size
        Crops in one batch.
    batches_per_epoch
        After how many batches the model is measured and stored.
    seed
        Of what is chosen, of its order, and of how it is distorted.
    """

    crops: BatchSource
    wrong: npt.NDArray[np.bool_]
    rest_share: float
    noise: float
    batch_size: int
    batches_per_epoch: int
    seed: int

    @cached_property
    def fingerprint(self) -> str:
        """Return a SHA-256 over the crops, which were answered wrongly, and how they are fed."""
        told = f"{self.crops.fingerprint} {self.rest_share} {self.noise} {self.batch_size} {self.batches_per_epoch}"
        return hashlib.sha256(f"{told} {self.seed} ".encode() + np.packbits(self.wrong).tobytes()).hexdigest()

    @cached_property
    def fed(self) -> npt.NDArray[np.int64]:
        """Return the numbers of the crops that are fed, in their order."""
        others = np.flatnonzero(~self.wrong)
        count = round(self.rest_share * len(others))
        drawn = np.random.default_rng([self.seed, _CHOICE]).choice(others, count, replace=False)
        fed = np.sort(np.concatenate([np.flatnonzero(self.wrong), drawn]))
        return fed if len(fed) else np.arange(len(self.wrong))

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``."""
        places = range(number * self.batch_size, (number + 1) * self.batch_size)
        drawn = [self._distorted(place) for place in places]
        return PatchBatch(
            np.concatenate([one.images for one in drawn]),
            np.concatenate([one.labels for one in drawn]),
            np.concatenate([one.targets for one in drawn]),
            np.concatenate([one.attention for one in drawn]),
            np.concatenate([one.stains for one in drawn]),
        )

    def _distorted(self, place: int) -> PatchBatch:
        """Return the crop that is fed at a place of all that are, turned and with noise."""
        passed, row = divmod(place, len(self.fed))
        order = np.random.default_rng([self.seed, _ORDER, passed]).permutation(self.fed)
        one = self.crops.batch(int(order[row]))
        generator = np.random.default_rng([self.seed, _DISTORTION, place])
        turn = SYMMETRIES[generator.integers(len(SYMMETRIES))].apply
        noise = generator.normal(0, self.noise * _WHITE, one.images.shape[1:])
        image = np.rint(turn(one.images[0]) + noise).clip(0, _WHITE).astype(np.uint8)
        turned = replace(one, images=image[None])
        if one.labels.ndim == 1:
            return turned
        # Labels of cells turn with the image.
        return replace(turned, labels=turn(one.labels[0])[None], targets=turn(one.targets[0])[None])
