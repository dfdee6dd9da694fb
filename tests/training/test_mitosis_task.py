"""What a network that finds points learns from, how it is measured, and that a stopped run ends as one that was not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dotted_crops import POINTS, write_dotted_crops

from napari_metastasis.cohorts.point_crops import open_point_crops, split_slides
from napari_metastasis.errors import PatchDatasetError
from napari_metastasis.models import MitosisModel, MitosisSpec, load_model
from napari_metastasis.models.inputs import input_of
from napari_metastasis.sampling.point_batches import PointBatches
from napari_metastasis.sampling.point_mosaics import PointMosaics
from napari_metastasis.settings import (
    PUBLISHED_STAINS,
    MitosisMapSettings,
    MitosisNetworkSettings,
    MitosisTrainSettings,
    PieceSettings,
    TileAugmentSettings,
)
from napari_metastasis.training.losses import hinge_loss, rare_hinge_loss
from napari_metastasis.training.point_metric import THRESHOLDS, PointMetric
from napari_metastasis.training.tasks.base import Fitting
from napari_metastasis.training.tasks.mitosis import MitosisModule, MitosisTask, mitosis_task, point_loss
from napari_metastasis.training.train import TrainingRun, train

PIECES = PieceSettings(crops_a_side=2, mosaics_per_epoch=2)
PLAIN = TileAugmentSettings(
    stain=0.0, hue=0.0, background=0.0, exposure=0.0, gray_share=0.0, blur_share=0.0, noise_share=0.0
)
HOW = MitosisTrainSettings(epochs=2, device="cpu", precision="float32", workers=0, learning_rate=1e-3)


@pytest.fixture
def batches(tmp_path: Path) -> PointBatches:
    crops = open_point_crops(*write_dotted_crops(tmp_path), mpp=0.25)
    mosaics = PointMosaics(crops, np.arange(len(crops)), 1, 2, 0, 8, MitosisMapSettings(), 3, 0.3, 1.0)
    return PointBatches(mosaics, 1, 2)


def task(**network) -> MitosisTask:
    torch.manual_seed(0)
    return mitosis_task("dots", MitosisNetworkSettings(mpp=0.25, initial="", **network), PIECES)


def test_a_step_lowers_the_loss_of_each_kind_and_every_crop_is_varied_by_itself(batches: PointBatches) -> None:
    made = batches.batch(0)
    tensors = [torch.from_numpy(each) for each in (made.images, made.labels, made.targets, made.attention)]
    tensors[0] = tensors[0].permute(0, 3, 1, 2)
    for loss in ("cross-entropy", "hinge", "rare-hinge"):
        module = MitosisModule(task(loss=loss), Fitting(HOW, PLAIN, total_steps=4)).train()
        before = module.loss(tuple(tensors), 0)
        assert module.loss(tuple(tensors), 0) == before
        before.backward()
        with torch.no_grad():
            for parameter in module.network.parameters():
                parameter -= 1e-3 * parameter.grad / (parameter.grad.norm() + 1e-9)
        assert module.loss(tuple(tensors), 0) < before
    # Crops come back to where they lay, and stains differ from crop to crop.
    image = tensors[0].float() / 255
    assert torch.equal(module._together(module._apart(image), 1), image)
    ramp = torch.full_like(image, 0.5)
    varied = module._together(MitosisModule(task(), Fitting(HOW, replace(PLAIN, exposure=0.3), 4)).augment(
        module._apart(ramp), 0), 1)  # fmt: skip
    corners = varied[0, 0, ::32, ::32]
    assert len(corners.unique()) == corners.numel() == 4


@pytest.mark.parametrize(("kind", "channels"), [("normalised", 3), ("stains", 2), ("both", 5)])
def test_a_network_may_read_dyes(batches: PointBatches, kind: str, channels: int) -> None:
    """What it learns from is what a scan shows it: whole grey levels, of the dyes of all crops."""
    stains = PUBLISHED_STAINS
    made = replace(batches, stains=stains).batch(0)
    given = (made.images, made.labels, made.targets, made.attention, made.stains)
    tensors = [torch.from_numpy(each) for each in given]
    tensors[0] = tensors[0].permute(0, 3, 1, 2)
    one = task(input=kind)
    module = MitosisModule(one, Fitting(HOW, PLAIN, total_steps=4)).eval()
    seen = module.seen(tensors[0].float() / 255, tuple(tensors))
    assert seen.shape[1] == channels == len(one.spec.mean)
    scanned = input_of(one.spec).of_pixels(made.images[0], stains)
    np.testing.assert_allclose(seen[0].permute(1, 2, 0).numpy() * 255, scanned, atol=1e-3)
    loss = module.loss(tuple(tensors), 0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(module.measure(tuple(tensors))[2])
    assert MitosisSpec.from_json(one.spec.to_json()) == one.spec
    # Filters of another input have seen nothing: they learn.
    assert all(parameter.requires_grad for parameter in module.network.parameters())


def test_hinge_losses_learn_from_where_pi_is_high() -> None:
    odds, pi = torch.tensor([2.0, -1.0, 0.5, 9.0]), torch.tensor([0.9, 0.1, 0.31, 0.9])
    known, labels = torch.tensor([True, True, True, False]), torch.tensor([1, 0, 1, -1])
    how = MitosisNetworkSettings(loss="hinge")
    assert point_loss(how)(odds, pi, known) == hinge_loss(odds, labels, margin=1.0)
    how = replace(how, loss="rare-hinge", rarity=4.0)
    assert point_loss(how)(odds, pi, known) == rare_hinge_loss(odds, labels, margin=1.0, rarity=4.0)


def test_points_are_counted_as_by_hand_and_the_threshold_is_for_tissue_in_which_they_are_rare() -> None:
    labels = torch.zeros(1, 40, 40, dtype=torch.int64)
    labels[0, 10, 10] = labels[0, 30, 30] = 1
    labels[0, :, 36:] = -1
    answers = torch.zeros(1, 40, 40)
    # Both are found, one of them twice and unsurely; a false one; one where nothing is known.
    for row, column, sure in ((10, 10, 0.9), (30, 32, 0.4), (20, 20, 0.6), (4, 38, 0.95)):
        answers[0, row : row + 2, column : column + 2] = sure
    metric = PointMetric(cell_px=2, mpp=0.5, radius_um=3.0, expected_per_mm2=10.0)
    metric.update(answers, labels)
    found = {name: float(value) for name, value in metric.compute().items()}
    # Rare: a false point counts as 2 / (1440 · 0.25 µm² in mm²) / 10 of them, so that only the surest is worth it.
    assert 0.6 < found["threshold"] <= 0.9
    assert found["f1"] == found["rare_f1"] == pytest.approx(2 / 3)
    dense = PointMetric(cell_px=2, mpp=0.5, radius_um=3.0, expected_per_mm2=2 / (1440 * 0.25e-6))
    dense.update(answers, labels)
    found = {name: float(value) for name, value in dense.compute().items()}
    assert found["threshold"] == pytest.approx(THRESHOLDS[0])
    assert found["f1"] == found["rare_f1"] == pytest.approx(4 / 5)


def test_no_slide_is_both_learnt_from_and_measured() -> None:
    slides = [f"s{k}" for k in range(23)]
    parts = split_slides(slides * 3, validation_share=0.2, test_share=0.2, seed=3)
    assert sorted(slide for part in parts for slide in part) == sorted(slides)
    assert [len(part) for part in parts] == [13, 5, 5]
    assert split_slides(slides, validation_share=0.4, test_share=0.2, seed=3)[2] == parts[2]
    with pytest.raises(PatchDatasetError, match="0 and 4 of 5"):
        split_slides(slides[:5], validation_share=0.9, test_share=0.2, seed=3)


def test_other_points_are_another_run(batches: PointBatches) -> None:
    crops = batches.mosaics.source
    points = {name: crops.points_of(name) for name in set(crops.slides)}

    def known_by(points, **more) -> str:
        return replace(
            batches, mosaics=replace(batches.mosaics, source=replace(crops, points=points, **more))
        ).fingerprint

    assert known_by(points) == known_by(dict(reversed(points.items()))) == batches.fingerprint
    # One more beside those that crops are cut around, one fewer, and one that nobody reviewed.
    others = {**points, "b/one": np.concatenate([points["b/one"], [(60.0, 60.0)]])}
    told = [known_by(others), known_by({**points, "b/one": points["b/one"][:1]})]
    told.append(known_by(points, unreviewed={"b/one": np.array([(60.0, 60.0)])}))
    assert len({batches.fingerprint, *told}) == 4
    # Those of a slide of which no crop is learnt are not its business.
    assert known_by({**points, "c": np.zeros((1, 2))}) == batches.fingerprint


class KilledError(Exception):
    pass


@dataclass(frozen=True, eq=False)
class Killing(PointBatches):
    """Ends a run in the middle of its second epoch."""

    def batch(self, number: int):
        if number == 3:
            raise KilledError
        return super().batch(number)


def test_a_stopped_run_goes_on_to_the_same_weights_and_takes_the_threshold_along(
    batches: PointBatches, tmp_path: Path
) -> None:
    validation = PointBatches(replace(batches.mosaics, seed=9), 1, 2)

    def run(output: str, training: PointBatches) -> Path:
        begun = TrainingRun(tmp_path / output, "dots", "", progress=False)
        return train(task(), begun, training=training, validation=validation, settings=HOW, augment=PLAIN)

    whole = run("whole", batches)
    with pytest.raises(KilledError):
        run("killed", Killing(batches.mosaics, 1, 2))
    assert (tmp_path / "killed" / "last.ckpt").exists()
    again = run("killed", batches)
    assert again.read_bytes() == whole.read_bytes()
    model = load_model(whole, "mitosis")
    assert isinstance(model, MitosisModel)
    assert model.spec.threshold == pytest.approx(model.card["validation_threshold"])
    assert {slide.split("/")[0] for slide in batches.mosaics.source.slides} == {name.split("/")[0] for name in POINTS}
