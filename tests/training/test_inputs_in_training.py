"""Networks that read dyes: batches say them, augmentation comes before them, and training sees what a scan sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.patches import patch_set_stains
from napari_metastasis.errors import StainError
from napari_metastasis.evaluation.patches import patch_probabilities
from napari_metastasis.geometry import Size
from napari_metastasis.models import load_model
from napari_metastasis.sampling.batches import AllPatches, BalancedPatches, MixedBatches
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.slide_batches import BatchPlan
from napari_metastasis.settings import (
    AugmentSettings,
    BoostingSettings,
    SamplingSettings,
    SegmenterSettings,
    TileAugmentSettings,
    TileTrainSettings,
    TrainSettings,
)
from napari_metastasis.slides import open_slide, tissue_mask, write_pyramid
from napari_metastasis.slides.stains import slide_stain_matrix
from napari_metastasis.training.lightning_setup import _Batches
from napari_metastasis.training.tasks.base import Fitting
from napari_metastasis.training.tasks.detect import DetectorTask, patch_spec
from napari_metastasis.training.tasks.segment import segment_task
from napari_metastasis.training.train import TrainingRun, train

MPP = 0.972
#: Optical densities of red, green and blue of haematoxylin and eosin.
DYES, OTHERS = [(0.6, 0.72, 0.4), (0.2, 0.9, 0.5)], [(0.7, 0.62, 0.36), (0.25, 0.92, 0.3)]
TRAIN = TrainSettings(epochs=1, batch_size=8, device="cpu", precision="float32", workers=0, tie_orientations=False)


def tissue(seed, side, dyes):
    """Return pixels of nuclei in stroma, stained with these dyes."""
    rng = np.random.default_rng(seed)
    nuclei = np.kron(rng.random((side // 8, side // 8)) < 0.3, np.ones((8, 8)))[..., None]
    amounts = np.concatenate([nuclei * rng.uniform(0.8, 1.4, nuclei.shape), rng.uniform(0.8, 1.4, nuclei.shape)], -1)
    return np.rint(240 * np.exp(-amounts @ np.array(dyes))).astype(np.uint8)


class Patches:
    """Patches of two stains that are told apart by nothing."""

    labels = np.arange(24, dtype=np.int64) % 2
    names = tuple(map(str, range(24)))

    def __len__(self):
        return len(self.labels)

    def read(self, index):
        return tissue(index, 96, DYES)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("dyed"), []
    for number, dyes in enumerate((DYES, OTHERS)):
        pixels = np.full((640, 640, 3), 245, np.uint8)
        pixels[40:600, 40:600] = tissue(number, 560, dyes)
        path = folder / f"{number}.tif"
        write_pyramid(path, pixels, mpp=MPP, size=Size(640, 640), compression="deflate")
        made.append(CohortSlide(name=str(number), path=path))
    return made


def test_batches_of_slides_say_the_dyes_of_each(slides):
    settings = SamplingSettings(patches_per_epoch=16, tumour_share=0.01)
    plan = BatchPlan(patch_spec("m", "scannet-small", MPP), settings, 16, seed=3)
    own = []
    for slide in slides:
        with open_slide(slide.path) as opened:
            own.append(slide_stain_matrix(opened, tissue_mask(opened)).numbers)
    plain, told = (_NormalOnly(slides, replace(plan, tells_stains=flag)).batch(0) for flag in (False, True))
    np.testing.assert_array_equal(told.images, plain.images)
    assert len(plain.stains) == 0
    assert {tuple(row) for row in told.stains.tolist()} == {tuple(np.float32(row).tolist()) for row in own}
    patches = BalancedPatches(Patches(), 96, 8, 0, stains=own[0])
    mixed = MixedBatches((patches, _NormalOnly(slides, replace(plan, tells_stains=True))))
    images, *_, stains = _Batches(mixed)[0]
    assert stains.shape == (len(images), 8)


class _NormalOnly(SlideBatches):
    """Without annotations there is no tumour."""

    needed = (0,)


@pytest.mark.parametrize("kind", ["normalised", "stains", "both"])
def test_a_detector_learns_from_what_a_scan_will_show_it(tmp_path, kind):
    source, spec = Patches(), patch_spec("m", "scannet-small", MPP, reads=kind)
    task = DetectorTask(spec)
    stains = patch_set_stains(source).numbers
    training, measured = BalancedPatches(source, 96, 8, 0, stains=stains), AllPatches(source, 96, 8, stains)
    module = task.module(Fitting(TRAIN, AugmentSettings(), 3))
    batch = _Batches(training)[0]
    seen = module.seen(batch[0].float() / 255, batch)
    own = task.network_input.of_pixels(training.batch(0).images[0], stains)
    np.testing.assert_allclose(255 * seen[0].permute(1, 2, 0).numpy(), own, atol=1e-3)
    # Varied first: what is paler has less of both dyes.
    paler = module.seen((batch[0].float() / 255) ** 0.5, batch)
    assert kind == "normalised" or paler[:, -2:].mean() < seen[:, -2:].mean()
    run = TrainingRun(tmp_path, "drawn", "CC0", progress=False)
    weights = train(task, run, training=training, validation=measured, settings=TRAIN, augment=AugmentSettings())
    model = load_model(weights)
    assert model.spec.input == kind
    # What was measured in training is what patches are measured with afterwards.
    image, *_ = (torch.from_numpy(own)[None].permute(0, 3, 1, 2) / 255,)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (model.spec.mean, model.spec.std))
    expected = model.network((image - mean) / std).softmax(1)[0, 1, 0, 0].item()
    answers = patch_probabilities(model, source, batch_size=8, views=1, device="cpu")
    place = next(k for k in range(24) if np.array_equal(source.read(k), training.batch(0).images[0]))
    assert answers[place] == pytest.approx(expected, abs=1e-5)


def test_a_segmenter_that_reads_both_learns_from_tiles():
    network = SegmenterSettings(encoder="efficientnet-lite0", decoder="u-net", mpp=MPP, tile_px=32, input="both")
    task = segment_task("s", network, BoostingSettings())
    module = task.module(Fitting(TileTrainSettings(), TileAugmentSettings(), 3)).train()
    side = task.crop.side_px
    images = torch.from_numpy(np.stack([tissue(k, side // 8 * 8 + 8, DYES) for k in (0, 1)]))
    labels = torch.tensor([0, 1])[:, None, None].expand(2, 32, 32)
    dyes = torch.tensor([[*DYES[0], *DYES[1], 1.2, 0.6]] * 2)
    batch = (images[:, :side, :side].permute(0, 3, 1, 2), labels, labels.float(), torch.zeros(2), dyes)
    module.loss(batch, 1).backward()
    filters = module.network.trunk[0].weight
    assert filters.shape[1] == 5
    assert (filters.grad[:, 3:].abs().amax(dim=(0, 2, 3)) > 0).all(), "both dyes are learnt from"


def test_patches_of_which_no_dyes_can_be_told_are_refused():
    source = Patches()
    source.read = lambda _: np.full((96, 96, 3), 250, np.uint8)
    with pytest.raises(StainError, match="got 0 of 24"):
        patch_set_stains(source)
