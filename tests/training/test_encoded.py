"""Crops that are encoded once: which they are, in which order they come, and when they are encoded again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from napari_metastasis.errors import ScanCancelledError, TrainingError
from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.settings import AugmentSettings
from napari_metastasis.training.augment import Augmenter
from napari_metastasis.training.encoded import AlreadyEncoded, Encoding, WithLogOdds, encode_batches

SIZE, CELLS = 3, 2


@dataclass
class Crops:
    """Batches of noise, told apart by their number; a cell is 4 px wide."""

    fingerprint: str = "noise"
    batches_per_epoch: int = 5

    def batch(self, number: int) -> PatchBatch:
        rng = np.random.default_rng(number)
        images = rng.integers(0, 256, (SIZE, 4 * CELLS, 4 * CELLS, 3), dtype=np.uint8)
        return PatchBatch.labelled(images, rng.integers(-1, 2, (SIZE, CELLS, CELLS)))


class Means(nn.Module):
    """Encodes a cell as its mean colour, and its red as its log-odds."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, image):
        self.asked += 1
        means = nn.functional.avg_pool2d(image, 4) / 255
        return means[:, 0], means.permute(0, 2, 3, 1)


def how(folder, **changes) -> Encoding:
    plain = Encoding(
        folder=folder, crops=4 * SIZE, augment=None, identity={"encoder": "means"}, seed=None, device="cpu",
        progress=lambda *_: None, should_stop=lambda: False,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def encoded_here(number):
    images = torch.from_numpy(Crops().batch(number).images).permute(0, 3, 1, 2).float()
    log_odds, hidden = Means()(images)
    return torch.cat([log_odds[..., None], hidden], dim=-1).numpy()


def test_they_are_what_the_encoder_says_of_the_crops(tmp_path):
    found = encode_batches(WithLogOdds(Means()), Crops(), SIZE, how(tmp_path / "encoded"))
    for number in range(4):
        batch = found.batch(number)
        assert batch.images.dtype == np.float16
        np.testing.assert_allclose(batch.images, encoded_here(number), atol=5e-4)
        np.testing.assert_array_equal(batch.labels, Crops().batch(number).labels)
    assert found.batches_per_epoch == 5
    # Then they come again.
    np.testing.assert_array_equal(found.batch(4).images, found.batch(0).images)


def test_every_crop_comes_once_before_any_comes_again(tmp_path):
    found = encode_batches(WithLogOdds(Means()), Crops(), SIZE, how(tmp_path, seed=7))
    lying = encode_batches(WithLogOdds(Means()), Crops(), SIZE, how(tmp_path))
    wanted = np.sort(np.concatenate([lying.batch(k).images for k in range(4)]).reshape(12, -1), axis=0)
    rounds = [np.concatenate([found.batch(4 * r + k).images for k in range(4)]).reshape(12, -1) for r in range(2)]
    for one in rounds:
        np.testing.assert_array_equal(np.sort(one, axis=0), wanted)
    assert not np.array_equal(*rounds)
    again = encode_batches(WithLogOdds(Means()), Crops(), SIZE, how(tmp_path, seed=7))
    np.testing.assert_array_equal(again.batch(5).images, found.batch(5).images)
    np.testing.assert_array_equal(again.batch(5).labels, found.batch(5).labels)


def test_they_are_varied_before(tmp_path):
    varied = encode_batches(
        WithLogOdds(Means()), Crops(), SIZE, how(tmp_path, augment=Augmenter(AugmentSettings(), 0, turn=False))
    )
    assert np.abs(varied.batch(0).images - encoded_here(0)).max() > 0.01


def test_nothing_is_encoded_twice(tmp_path):
    encoder = Means()
    for _ in range(2):
        encode_batches(WithLogOdds(encoder), Crops(), SIZE, how(tmp_path))
    assert encoder.asked == 4
    other = encode_batches(WithLogOdds(encoder), Crops(fingerprint="other"), SIZE, how(tmp_path))
    assert encoder.asked == 8
    assert other.fingerprint != encode_batches(WithLogOdds(encoder), Crops(), SIZE, how(tmp_path)).fingerprint
    # Another encoder, or other variations.
    encode_batches(WithLogOdds(encoder), Crops(), SIZE, how(tmp_path, identity={"encoder": "another"}))
    assert encoder.asked == 16


def test_what_was_stopped_is_encoded_anew(tmp_path):
    asked = []
    with pytest.raises(ScanCancelledError):
        encode_batches(
            WithLogOdds(Means()),
            Crops(),
            SIZE,
            how(tmp_path, should_stop=lambda: bool(asked.append(1) or len(asked) > 2)),
        )
    assert not list(tmp_path.glob("*.npy"))
    encoder = Means()
    encode_batches(WithLogOdds(encoder), Crops(), SIZE, how(tmp_path))
    assert encoder.asked == 4


def test_too_few_crops_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="at least one batch of 3"):
        encode_batches(WithLogOdds(Means()), Crops(), SIZE, how(tmp_path, crops=2))


def test_what_is_encoded_passes_for_an_encoder(tmp_path):
    batch = encode_batches(WithLogOdds(Means()), Crops(), SIZE, how(tmp_path)).batch(0)
    log_odds, features = AlreadyEncoded()(torch.from_numpy(batch.images).permute(0, 3, 1, 2))
    np.testing.assert_array_equal(log_odds, batch.images[..., 0])
    np.testing.assert_array_equal(features, batch.images[..., 1:])
