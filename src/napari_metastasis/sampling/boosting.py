"""Boosting: crops of a pool are drawn by their weights, beside crops that are drawn afresh (Khalil et al. 2022, 3.2.2).

A pool is a source of single crops, so that a crop's number is all that has to be kept of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.sampling.batches import BatchSource, MixedBatches, PatchBatch
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.slide_batches import BatchPlan

__all__ = ["Pool", "WeightedCrops", "crop_pool", "with_boosted"]

#: A pool is the same in every round, whatever the seed of the training.
_POOL_SEED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Crops at locations that stay the same, with the weights that they are drawn by.

    Attributes
    ----------
    crops
        A source of batches of one; batch ``k`` is crop ``k``.
    first, weights
        (n,) float32: the weights before anything was boosted, and now.
    """

    crops: SlideBatches
    first: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]

    @property
    def boosted(self) -> npt.NDArray[np.float32]:
        """Return by how much the weight of each crop was raised."""
        return self.weights - self.first


def crop_pool(slides: Sequence[CohortSlide], plan: BatchPlan) -> SlideBatches:
    """Return a source of single crops of slides, classes in the same shares as in other batches."""
    return SlideBatches(slides, replace(plan, batch_size=1, seed=_POOL_SEED))


# Told apart by identity, as other sources that hold arrays.
@dataclass(frozen=True, eq=False)
class WeightedCrops:
    """Batches of the crops of a pool whose weights were raised, each as likely as its weight was raised.

    Attributes
    ----------
    pool
        The crops.
    batch_size
        Crops in one batch.
    batches_per_epoch
        After how many batches the model is measured and stored.
    seed
        Of the draws.
    """

    pool: Pool
    batch_size: int
    batches_per_epoch: int
    seed: int

    @cached_property
    def fingerprint(self) -> str:
        """Return a SHA-256 over the crops, their weights, and how they are drawn."""
        told = f"{self.pool.crops.fingerprint} {self.batch_size} {self.batches_per_epoch} {self.seed}"
        digest = hashlib.sha256(told.encode())
        for weights in (self.pool.first, self.pool.weights):
            digest.update(weights.tobytes())
        return digest.hexdigest()

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``.

        Raises
        ------
        TrainingError
            If no slide of a class can be read any more.
        """
        generator = np.random.default_rng([self.seed, number])
        raised = self.pool.boosted.astype(np.float64)
        chosen = generator.choice(len(raised), self.batch_size, p=raised / raised.sum())
        drawn = [self.pool.crops.batch(int(crop)) for crop in chosen]
        return PatchBatch(
            np.concatenate([one.images for one in drawn]),
            np.concatenate([one.labels for one in drawn]),
            np.concatenate([one.targets for one in drawn]),
            self.pool.weights[chosen],
            np.concatenate([one.stains for one in drawn]),
        )


def with_boosted(slides: Sequence[CohortSlide], pool: Pool | None, plan: BatchPlan) -> BatchSource:
    """Return crops of slides, drawn as if every crop of the pool came in proportion to its weight.

    What crops weighed before anything was boosted is drawn afresh, all over the slides, so that no pool is learnt by
    heart; by how much their weights were raised is drawn from the pool. How much of a batch that is follows from the
    sums of both, one crop at least of either.

    Parameters
    ----------
    slides
        To take crops from.
    pool
        Its weights; ``None`` before the first round, and where no weight was raised.
    plan
        Of whole batches.
    """
    if pool is None or plan.batch_size < 2 or not pool.boosted.any():
        return SlideBatches(slides, plan)
    share = float(pool.boosted.sum() / pool.weights.sum())
    part = min(max(1, round(share * plan.batch_size)), plan.batch_size - 1)
    others = plan.batch_size - part
    # An epoch has as many batches as it has without boosting.
    batches = max(1, plan.settings.patches_per_epoch // plan.batch_size)
    general = replace(plan.settings, patches_per_epoch=max(2, batches * others))
    return MixedBatches(
        (
            SlideBatches(slides, replace(plan, settings=general, batch_size=others)),
            WeightedCrops(pool, part, batches, plan.seed),
        )
    )
