"""A batch follows from its number alone: in any order, in any process, over any number of devices."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from napari_metastasis.errors import TrainingError
from napari_metastasis.sampling.batches import AllPatches, BalancedPatches, MixedBatches
from napari_metastasis.training.lightning_setup import BatchNumbers


class Numbered:
    """Patch k is filled with the value k; the first ``normal`` are of class 0."""

    def __init__(self, normal: int, tumour: int) -> None:
        self.labels = np.array([0] * normal + [1] * tumour, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        return np.full((4, 4, 3), index, dtype=np.uint8)


def numbers(batch):
    return batch.images[:, 0, 0, 0].tolist()


@pytest.fixture
def stream():
    return BalancedPatches(Numbered(90, 10), patch_px=4, batch_size=20, seed=1)


def test_each_class_comes_equally_often_and_every_patch_of_the_rare_one(stream):
    batches = [stream.batch(k) for k in range(stream.batches_per_epoch)]
    labels = np.concatenate([batch.labels for batch in batches])
    drawn = [k for batch in batches for k in numbers(batch)]
    assert len(labels) == 100
    assert labels.sum() == 50
    assert set(range(90, 100)) <= set(drawn)
    assert len(set(drawn) & set(range(90))) == 50
    assert all((k >= 90) == label for k, label in zip(drawn, labels, strict=True))


def test_a_batch_follows_from_its_number_alone(stream):
    forwards = [numbers(stream.batch(k)) for k in range(12)]
    other = pickle.loads(pickle.dumps(stream))
    assert [numbers(other.batch(k)) for k in reversed(range(12))] == forwards[::-1]
    assert forwards[:5] != forwards[5:10], "another epoch has another order"
    assert numbers(BalancedPatches(Numbered(90, 10), 4, 20, seed=2).batch(0)) != forwards[0]


def test_what_is_measured_comes_once_and_in_order():
    stream = AllPatches(Numbered(5, 2), patch_px=4, batch_size=3)
    batches = [stream.batch(k) for k in range(stream.batches_per_epoch)]
    assert [numbers(batch) for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert batches[1].labels.tolist() == [0, 0, 1]


def test_a_mixed_batch_holds_one_of_every_part(stream):
    rare = BalancedPatches(Numbered(4, 4), patch_px=4, batch_size=4, seed=3)
    mixed = MixedBatches((stream, rare))
    assert mixed.batches_per_epoch == stream.batches_per_epoch
    assert numbers(mixed.batch(7)) == numbers(stream.batch(7)) + numbers(rare.batch(7))
    assert len(mixed.batch(0).labels) == 24


def test_patches_without_surroundings_are_mirrored_beside_those_with_some():
    class Wide(Numbered):
        def read(self, index):
            return np.random.default_rng(index).integers(0, 256, (10, 10, 3), dtype=np.uint8)

    class Ramp(Numbered):
        def read(self, index):
            return np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4, 1) + 16 * index, 3, axis=2)

    wide, narrow = BalancedPatches(Wide(4, 4), 10, 4, seed=1), BalancedPatches(Ramp(2, 2), 4, 2, seed=1)
    mixed, alone = MixedBatches((wide, narrow)).batch(0), narrow.batch(0)
    np.testing.assert_array_equal(mixed.images[:4], wide.batch(0).images)
    np.testing.assert_array_equal(mixed.images[4:, 3:7, 3:7], alone.images)
    # Without the edge's own pixels, as the margins of labelled patches alone.
    np.testing.assert_array_equal(mixed.images[4:, 3:7, 2], alone.images[:, :, 1])
    np.testing.assert_array_equal(mixed.images[4:, 7, 3:7], alone.images[:, 2])
    np.testing.assert_array_equal(mixed.labels[4:], alone.labels)


def test_fingerprints_tell_streams_apart(stream):
    others = [
        BalancedPatches(Numbered(90, 10), 4, 20, seed=2),
        BalancedPatches(Numbered(89, 11), 4, 20, seed=1),
        BalancedPatches(Numbered(90, 10), 4, 10, seed=1),
        MixedBatches((stream,)),
        AllPatches(Numbered(90, 10), 4, 20),
    ]
    prints = [stream.fingerprint, *(other.fingerprint for other in others)]
    assert len(set(prints)) == len(prints)
    assert BalancedPatches(Numbered(90, 10), 4, 20, seed=1).fingerprint == stream.fingerprint


def test_too_few_patches_are_refused():
    with pytest.raises(TrainingError, match="expected at least one batch of 200 patches, got 100"):
        BalancedPatches(Numbered(50, 50), 4, 200, seed=1)


def test_patches_of_another_size_are_refused(stream):
    with pytest.raises(TrainingError, match="expected patches of 96 x 96 px, got 4 x 4"):
        AllPatches(stream.source, patch_px=96, batch_size=1).batch(0)


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_devices_share_an_epoch_without_overlap(devices, monkeypatch):
    shares = []
    for rank in range(devices):
        monkeypatch.setattr(BatchNumbers, "_rank", staticmethod(lambda rank=rank: (rank, devices)))
        sampler = BatchNumbers(10, epoch=2)
        assert len(list(sampler)) == len(sampler) == 10 // devices
        shares.append(list(sampler))
    taken = sorted(k for share in shares for k in share)
    assert taken == list(range(20, 20 + 10 // devices * devices))
