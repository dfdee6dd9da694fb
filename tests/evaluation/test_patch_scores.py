"""Patch scores against plain loops and hand-made cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.errors import PatchDatasetError
from napari_metastasis.evaluation import evaluate_patches
from napari_metastasis.evaluation.patches import patch_probabilities
from napari_metastasis.models import Detector, ModelSpec, build_network, load_model
from napari_metastasis.settings import PatchScoringSettings


class Noise:
    """Random patches whose mean tells their class."""

    labels = np.arange(70, dtype=np.int64) % 2

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        generator = np.random.default_rng(index)
        return generator.integers(40 * self.labels[index], 200, (96, 96, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    spec = ModelSpec(name="seeded", architecture="scannet-small", mpp=0.972, patch_px=96, stride_px=16)
    network = build_network("scannet-small").eval().requires_grad_(requires_grad=False)
    return Detector(spec=spec, network=network, weights_sha256="", card={})


def test_batches_answer_what_single_patches_answer(model):
    source = Noise()
    fast = patch_probabilities(model, source, batch_size=64, views=1, device="cpu")
    for k in (0, 33, 64, 69):
        image = torch.from_numpy(source.read(k)).permute(2, 0, 1)[None] / 255
        alone = model.network((image - 0.5) / 0.25).softmax(1)[0, 1, 0, 0]
        assert abs(float(alone) - fast[k]) < 1e-5


def test_eight_views_are_the_mean_over_the_symmetries(model):
    source = Noise()
    fast = patch_probabilities(model, source, batch_size=64, views=8, device="cpu")
    image = source.read(5)
    views = [np.rot90(image, k) for k in range(4)]
    views += [np.fliplr(view) for view in views]
    dense = model.dense(1)
    answers = [float(dense(torch.from_numpy(np.ascontiguousarray(v)).permute(2, 0, 1)[None].float())) for v in views]
    assert abs(np.mean(answers) - fast[5]) < 1e-5


def test_patches_of_another_size_are_refused(model, monkeypatch):
    monkeypatch.setattr(Noise, "read", lambda *_: np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(PatchDatasetError, match="cut them to size"):
        evaluate_patches(model, Noise(), PatchScoringSettings(), views=1, device="cpu")


def test_figures_are_those_of_the_scores(model):
    source = Noise()
    report = evaluate_patches(model, source, PatchScoringSettings(), views=1, device="cpu")
    scores = patch_probabilities(model, source, batch_size=64, views=1, device="cpu")
    apart = scores[source.labels == 1][:, None] - scores[source.labels == 0][None, :]
    assert report.auc.value == pytest.approx(((apart > 0) + (apart == 0) / 2).mean())
    assert report.accuracy.value == pytest.approx(((scores >= 0.5) == source.labels).mean())
    for one in (report.auc, report.accuracy, report.calibration_error, *report.sensitivity):
        assert one.low <= one.value <= one.high
    assert report == evaluate_patches(model, source, PatchScoringSettings(), views=1, device="cpu")


def test_a_calibrated_model_answers_for_the_patches_own_share_of_tumour(model):
    fitted = replace(model.spec, temperature=1.5, shift=0.2, prior=0.01, threshold=0.2)
    calibrated = replace(model, spec=fitted)
    source = Noise()
    share = (source.labels == 1).mean()
    report = evaluate_patches(calibrated, source, PatchScoringSettings(), views=1, device="cpu")
    own = patch_probabilities(model, source, batch_size=64, views=1, device="cpu").astype(float)
    ratio = (np.log(own) - np.log1p(-own)) / 1.5 + 0.2 + np.log(share / (1 - share))
    assert report.accuracy.value == pytest.approx(((ratio >= 0) == source.labels).mean())
    assert report.auc == evaluate_patches(model, source, PatchScoringSettings(), views=1, device="cpu").auc


@pytest.mark.shared
def test_the_shipped_model_on_real_patches(shared_data):
    report = evaluate_patches(
        load_model("scannet-pcam"),
        open_patches(shared_data / "pcam_valid.zip"),
        PatchScoringSettings(),
        views=1,
        device="cpu",
    )
    assert report.n == 3000
    assert report.auc.value >= 0.93


@pytest.fixture(scope="module")
def far_seeing():
    """A network whose answers depend on 419 px, for patches of 96 px."""
    torch.manual_seed(0)
    network = build_network("efficientnet-lite0").eval().requires_grad_(requires_grad=False)
    torch.nn.init.normal_(network.gather.weight)
    spec = ModelSpec(
        name="seeded", architecture="efficientnet-lite0", mpp=0.972, patch_px=96, stride_px=16, field_px=419
    )
    model = Detector(spec=spec, network=network, weights_sha256="", card={})
    spread = torch.from_numpy(np.log(1 / patch_probabilities(model, Noise(), batch_size=8, views=1, device="cpu") - 1))
    network.classify.weight /= spread.std()
    return model


def test_a_patch_smaller_than_its_window_lies_in_gray_and_sees_no_other(far_seeing):
    fast = patch_probabilities(far_seeing, Noise(), batch_size=7, views=1, device="cpu")
    assert fast.std() > 1e-3
    for k in (0, 3, 6, 69):
        image = torch.full((1, 3, 419, 419), 0.5)
        image[:, :, 161:257, 161:257] = torch.from_numpy(Noise().read(k)).permute(2, 0, 1)[None] / 255
        alone = far_seeing.network((image - 0.5) / 0.25).softmax(1)[0, 1, 0, 0]
        assert abs(float(alone) - fast[k]) < 1e-5
