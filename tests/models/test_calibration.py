"""Calibrated answers against the formula, in every kind of network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_metastasis.errors import ModelError
from napari_metastasis.models import Detector, ModelSpec, build_network


def detector(architecture, **calibration):
    torch.manual_seed(0)
    network = build_network(architecture).eval().requires_grad_(requires_grad=False)
    built = network.architecture
    spec = ModelSpec(
        name="seeded", architecture=architecture, mpp=0.972, patch_px=built.patch_px, stride_px=built.stride_px,
        field_px=built.field_px, **calibration,
    )  # fmt: skip
    return Detector(spec=spec, network=network, weights_sha256="", card={})


def image_for(model):
    side = model.spec.field_px + model.spec.stride_px
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)) * 255


@pytest.mark.parametrize("tumour_class", [0, 1])
@pytest.mark.parametrize("architecture", ["scannet-small", "efficientnet-lite0", "resnet18"])
def test_answers_are_those_of_the_formula(architecture, tumour_class):
    plain = detector(architecture, tumour_class=tumour_class)
    fitted = replace(plain.spec, temperature=1.7, shift=-0.4, prior=0.03)
    calibrated = replace(plain, spec=fitted)
    image = image_for(plain)
    own = plain.dense(1)(image).double()
    ratio = torch.logit(own) / 1.7 - 0.4
    expected = torch.sigmoid(ratio + torch.logit(torch.tensor(0.03, dtype=torch.float64)))
    assert (calibrated.dense(1)(image) - expected).abs().max() < 1e-6
    assert (plain.dense(1)(image) == own).all(), "the network itself stays as it was"


def test_at_a_prior_of_one_in_two_an_answer_is_the_likelihood_alone():
    plain = detector("scannet-small")
    calibrated = replace(plain, spec=replace(plain.spec, prior=0.5))
    image = image_for(plain)
    torch.testing.assert_close(calibrated.dense(2)(image), plain.dense(2)(image))


def test_another_prior_marks_the_same_cells():
    calibrated = detector("scannet-small", temperature=2.0, shift=0.1, prior=0.01, threshold=0.3)
    other = calibrated.with_prior(0.2)
    image = image_for(calibrated)
    before, after = calibrated.dense(4)(image), other.dense(4)(image)
    assert (after > before).all()
    middle = float(before.median())
    moved = replace(calibrated.spec, threshold=middle).with_prior(0.2).threshold
    assert ((before >= middle) == (after >= moved - 1e-6)).all()
    back = other.with_prior(0.01)
    assert back.spec.threshold == pytest.approx(0.3)


def test_a_model_that_was_not_calibrated_has_no_prior():
    with pytest.raises(ModelError, match=r"calibrated model for a prior of 0\.1"):
        detector("scannet-small").with_prior(0.1)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"prior": 1.0}, {"threshold": 0.0}, {"shift": float("nan")}])
def test_impossible_calibrations_are_refused(wrong):
    with pytest.raises(ModelError, match="correct its card"):
        detector("scannet-small", **wrong)


def test_a_card_says_nothing_of_a_calibration_that_is_not_there():
    assert not {"temperature", "shift", "prior", "threshold"} & detector("scannet-small").spec.to_json().keys()
    spec = detector("scannet-small", temperature=2.0, shift=0.1, prior=0.01, threshold=0.3).spec
    assert ModelSpec.from_json(spec.to_json()) == spec
