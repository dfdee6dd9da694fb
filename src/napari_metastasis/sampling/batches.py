"""Batches by number: what a training run sees follows from its source and the batch's number alone.

So a resumed run goes on with exactly the batch that it would have seen, workers may make batches in any order and on
several processes, and several devices share one source by taking every n-th number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.patches import PatchSource
from napari_metastasis.errors import TrainingError

__all__ = ["AllPatches", "BalancedPatches", "BatchSource", "MixedBatches", "PatchBatch"]

#: Enough to tell two sets of patches apart, few enough to be read in no time.
_FINGERPRINTED_PATCHES = 32


@dataclass(frozen=True, slots=True)
class PatchBatch:
    """Some patches with their labels.

    Attributes
    ----------
    images
        (n, rows, columns, 3) uint8; of crops that are encoded, (n, rows, columns, features) float16.
    labels
        (n,) int64: 0 normal, 1 tumour; of crops of many patches, (n, rows, columns), with -1 where it is not known.
    targets
        float32, of the same shape: the probability of tumour that a network is to learn: the label, or a soft one.
    attention
        (n,) float32: the weight by which each was drawn; 0 where all of a class were as likely, as by default.
    stains
        (n, 8) float32: the dyes of each image's slide, for networks that do not read colours as they are (see
        :class:`~napari_metastasis.models.inputs.NetworkInput`); (0, 8) for others.
    """

    images: npt.NDArray[np.uint8] | npt.NDArray[np.float16]
    labels: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32]
    attention: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    stains: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 8), np.float32))

    def __post_init__(self) -> None:
        """Give every image its attention."""
        if not len(self.attention):
            object.__setattr__(self, "attention", np.zeros(len(self.images), np.float32))

    @classmethod
    def labelled(
        cls, images: npt.NDArray[np.uint8] | npt.NDArray[np.float16], labels: npt.NDArray[np.int64]
    ) -> PatchBatch:
        """Return a batch that teaches its labels."""
        return cls(images, labels, labels.astype(np.float32))

    def stained_with(self, numbers: Sequence[float]) -> PatchBatch:
        """Return the batch with the same dyes, eight numbers, of every image; without any, as it is."""
        return (
            replace(self, stains=np.tile(np.asarray(numbers, np.float32), (len(self.images), 1)))
            if len(numbers)
            else self
        )


class BatchSource(Protocol):
    """A pure function from a number to a batch. Picklable, so that worker processes can each have their own."""

    @property
    def fingerprint(self) -> str:
        """Return a SHA-256 over what decides the batches."""
        ...

    @property
    def batches_per_epoch(self) -> int:
        """Return after how many batches the model is measured and stored."""
        ...

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``, counted from 0 over all epochs."""
        ...


@lru_cache(maxsize=4)
def _dealt(labels: bytes, count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return an epoch's order of patches: both classes equally often, dealt out in whole shuffles."""
    of_patch = np.frombuffer(labels, dtype=np.int64)
    generator = np.random.default_rng([seed, epoch])
    half = -(-count // 2)
    hands = []
    for label in (0, 1):
        of_class = np.flatnonzero(of_patch == label)
        # No patch comes again before every other one of its class has come.
        shuffles = [generator.permutation(of_class) for _ in range(-(-half // len(of_class)))]
        hands.append(np.concatenate(shuffles)[:half])
    return generator.permutation(np.stack(hands, axis=1).reshape(-1)[:count])


def _read(source: PatchSource, indices: Sequence[int], patch_px: int) -> PatchBatch:
    images = np.empty((len(indices), patch_px, patch_px, 3), dtype=np.uint8)
    for row, index in enumerate(indices):
        image = source.read(index)
        if image.shape[:2] != (patch_px, patch_px):
            raise TrainingError(
                f"expected patches of {patch_px} x {patch_px} px, got {image.shape[1]} x {image.shape[0]} "
                f"(number {index}); cut them to size"
            )
        images[row] = image
    return PatchBatch.labelled(images, source.labels[list(indices)])


def _fingerprint_of(source: PatchSource) -> str:
    digest = hashlib.sha256(source.labels.tobytes())
    for index in np.linspace(0, len(source) - 1, _FINGERPRINTED_PATCHES).astype(int).tolist():
        digest.update(source.read(index).tobytes())
    return digest.hexdigest()


# Told apart by identity: arrays have no single answer to whether they are equal, and no hash.
@dataclass(frozen=True, eq=False)
class BalancedPatches:
    """Labelled patches, class first: both classes equally often, in an order that the seed decides.

    Attributes
    ----------
    source
        The patches.
    patch_px
        Side that each must have.
    batch_size
        Patches in one batch.
    seed
        Of the order.
    targets
        (n,) float32, the soft label of every patch; ``None`` teaches the labels. Classes are dealt by the labels.
    stains
        The dyes that all are taken to be stained with, eight numbers; empty where they are not needed.

    Raises
    ------
    TrainingError
        If the patches do not fill one batch; from :meth:`batch`, if one is not of this size.
    """

    source: PatchSource
    patch_px: int
    batch_size: int
    seed: int
    targets: npt.NDArray[np.float32] | None = None
    stains: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a source that does not fill one batch."""
        if len(self.source) < self.batch_size:
            raise TrainingError(
                f"expected at least one batch of {self.batch_size} patches, got {len(self.source)}; "
                "lower the batch size"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Return a SHA-256 over every label, some patches, and how they are dealt."""
        digest = hashlib.sha256(
            f"{_fingerprint_of(self.source)} {self.patch_px} {self.batch_size} {self.seed}".encode()
        )
        if self.targets is not None:
            digest.update(self.targets.tobytes())
        return digest.hexdigest()

    @property
    def batches_per_epoch(self) -> int:
        """Return how many whole batches the patches fill."""
        return len(self.source) // self.batch_size

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``."""
        epoch, position = divmod(number, self.batches_per_epoch)
        order = _dealt(self._labels, len(self.source), self.seed, epoch)
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        read = _read(self.source, chosen.tolist(), self.patch_px).stained_with(self.stains)
        return read if self.targets is None else replace(read, targets=self.targets[chosen])

    @cached_property
    def _labels(self) -> bytes:
        return self.source.labels.tobytes()


@dataclass(frozen=True)
class AllPatches:
    """Every patch once, in order: what a model is measured on.

    Attributes
    ----------
    source
        The patches.
    patch_px
        Side that each must have.
    batch_size
        Patches in one batch; the last holds what is left.
    stains
        The dyes that all are taken to be stained with, eight numbers; empty where they are not needed.
    """

    source: PatchSource
    patch_px: int
    batch_size: int
    stains: tuple[float, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Return a SHA-256 over every label and some patches."""
        return _fingerprint_of(self.source)

    @property
    def batches_per_epoch(self) -> int:
        """Return how many batches all patches take."""
        return -(-len(self.source) // self.batch_size)

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number`` of the one pass there is."""
        first = number * self.batch_size
        numbers = range(first, min(first + self.batch_size, len(self.source)))
        return _read(self.source, numbers, self.patch_px).stained_with(self.stains)


def _mirrored_to(images: npt.NDArray[Any], side_px: int) -> npt.NDArray[Any]:
    """Return images, (n, s, s, 3), in margins that mirror them, (n, side, side, 3)."""
    more = side_px - images.shape[1]
    if more == 0:
        return images
    margin = (more // 2, more - more // 2)
    return np.pad(images, ((0, 0), margin, margin, (0, 0)), mode="reflect")


@dataclass(frozen=True)
class MixedBatches:
    """Several sources side by side: each batch holds one batch of every part.

    Where one's images are larger, because they show what lies around a patch, those of the others are mirrored at their
    edges.

    The share of a part is its own batch size: hard negatives at a quarter are a part of 32 beside one of 96.

    Attributes
    ----------
    parts
        The sources; the first decides how long an epoch is.
    """

    parts: tuple[BatchSource, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Return a SHA-256 over those of the parts."""
        return hashlib.sha256(" ".join(part.fingerprint for part in self.parts).encode()).hexdigest()

    @property
    def batches_per_epoch(self) -> int:
        """Return the first part's."""
        return self.parts[0].batches_per_epoch

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number`` of every part, one after the other."""
        batches = [part.batch(number) for part in self.parts]
        side = max(batch.images.shape[1] for batch in batches)
        return PatchBatch(
            np.concatenate([_mirrored_to(batch.images, side) for batch in batches]),
            np.concatenate([batch.labels for batch in batches]),
            np.concatenate([batch.targets for batch in batches]),
            np.concatenate([batch.attention for batch in batches]),
            np.concatenate([batch.stains for batch in batches]),
        )
