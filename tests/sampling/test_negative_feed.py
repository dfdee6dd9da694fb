"""The negative feed, by hand: which crops are fed, and how each is distorted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from napari_metastasis.geometry import SYMMETRIES
from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.sampling.negative_feed import NegativeFeed


@dataclass(frozen=True)
class Numbered:
    """Crops of one gray each, which is ten times their number, with a bright corner, and labels of four cells."""

    fingerprint: str = "f"
    batches_per_epoch: int = 10

    def batch(self, number: int) -> PatchBatch:
        image = np.full((1, 4, 4, 3), 10 * number, np.uint8)
        image[0, :2, :2] += 100
        return PatchBatch.labelled(image, np.array([[[1, 0], [0, -1]]], np.int64))


#: Of ten crops 1, 4 and 7 were answered wrongly; of the other seven, 0.4 are 3 (2.8, rounded).
FEED = NegativeFeed(
    crops=Numbered(), wrong=np.isin(np.arange(10), (1, 4, 7)), rest_share=0.4, noise=0.0, batch_size=3,
    batches_per_epoch=2, seed=5,
)  # fmt: skip


def numbers(feed: NegativeFeed, batches: range) -> list[int]:
    return [int(image.min()) // 10 for batch in batches for image in feed.batch(batch).images]


def test_all_that_was_wrong_is_fed_beside_a_share_of_the_rest() -> None:
    assert len(FEED.fed) == 6
    assert {1, 4, 7} <= set(FEED.fed.tolist())
    # Each once in a round of two batches, and in another order in the next one.
    rounds = [numbers(FEED, range(2 * k, 2 * k + 2)) for k in range(3)]
    assert all(sorted(one) == FEED.fed.tolist() for one in rounds)
    assert rounds[0] != rounds[1]
    assert replace(FEED, rest_share=0.0).fed.tolist() == [1, 4, 7]
    assert replace(FEED, rest_share=1.0).fed.tolist() == list(range(10))
    assert len({tuple(replace(FEED, seed=seed).fed.tolist()) for seed in range(8)}) > 1
    # Where nothing was wrong and nothing else is asked for, all are.
    assert replace(FEED, rest_share=0.0, wrong=np.zeros(10, bool)).fed.tolist() == list(range(10))


def test_labels_turn_with_their_crop() -> None:
    seen = set()
    for number in range(24):
        batch = FEED.batch(number)
        for image, labels, targets in zip(batch.images, batch.labels, batch.targets, strict=True):
            # The bright quarter is the cell of tumour.
            bright = image[::2, ::2, 0] > image.min()
            assert (labels == 1).tolist() == bright.tolist()
            assert targets.tolist() == labels.tolist()
            seen.add((*labels.ravel().tolist(),))
    # Of the eight symmetries, pairs look alike: tumour lies opposite to what is not known.
    assert len(seen) == len({tuple(one.apply(np.array([[1, 0], [0, -1]])).ravel().tolist()) for one in SYMMETRIES}) == 4


def test_noise_is_as_strong_as_said_and_the_same_again() -> None:
    noised, plain = replace(FEED, noise=0.02), FEED
    parts = [np.stack([feed.batch(k).images for k in range(60)]).astype(float) for feed in (noised, plain)]
    inside = (parts[1] >= 30) & (parts[1] <= 225)
    assert (parts[0] - parts[1])[inside].std() == pytest.approx(0.02 * 255, rel=0.05)
    again = replace(noised)
    assert (again.batch(7).images == noised.batch(7).images).all()
    assert again.fingerprint == noised.fingerprint != plain.fingerprint
    assert noised.fingerprint != replace(noised, wrong=~noised.wrong).fingerprint
