"""Windows of many patches: each cell's label and features are those of its own patch, wherever the window lies."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cohort_files import write_outline, write_slide

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.geometry import HeatmapFrame, Region
from napari_metastasis.models import ModelSpec, RefinerSpec, build_network, load_model
from napari_metastasis.sampling.crops import ABSENT, UNKNOWN, GridCrop, PatchCrop
from napari_metastasis.sampling.known_normal import KnownNormal
from napari_metastasis.sampling.locations import find_locations
from napari_metastasis.sampling.slide_index import index_slide, open_indexed
from napari_metastasis.settings import SamplingSettings
from napari_metastasis.training.augment import absent_strips, turn_alike
from napari_metastasis.training.tasks.encoders import FixedEncoder, LearningEncoder, grids_of

SPEC = ModelSpec(name="s", architecture="scannet-small", mpp=0.972, patch_px=96, stride_px=16)
DISC, RADIUS = (420.0, 300.0), 60.0


def grid_spec(grid: int, step: int) -> RefinerSpec:
    return RefinerSpec(
        name="r", encoder="s", encoder_sha256="", encoder_features=192, projected=4, hidden=4, grid=grid,
        grid_step=step, window_step=1, order="raster-four", residual=True, smoothing=3, dense_coefficient=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    write_slide(folder / "a.tif", disc_um=DISC, radius_um=RADIUS)
    write_outline(folder / "a.xml", DISC, RADIUS, 0.486)
    slide = CohortSlide(name="a", path=folder / "a.tif", annotation=folder / "a.xml", split="train", tumour=True)
    return index_slide(
        slide,
        1,
        lambda opened, reference: find_locations(
            opened, reference, SPEC, SamplingSettings(), KnownNormal.of(slide, reference)
        ),
    )


def slow_label(indexed, crop: GridCrop, window: Region, row: int, column: int) -> int:
    """Return the label of one cell from the reference around its own patch."""
    shape, frame = indexed.locations.shape, indexed.locations.frame
    inset = (SPEC.stride_px - SPEC.stride_px // crop.dense_coefficient) // 2
    x, y = window.x + inset + column * SPEC.stride_px, window.y + inset + row * SPEC.stride_px
    patch = Region(x, y, SPEC.patch_px, SPEC.patch_px)
    middle_x, middle_y = x + SPEC.patch_px // 2, y + SPEC.patch_px // 2
    if not (0 <= middle_x < frame.size.width and 0 <= middle_y < frame.size.height):
        return ABSENT
    if indexed.reference.over(frame, shape.label_square(patch)).any():
        return 1
    if indexed.reference.over(frame, shape.label_square(patch, margin_px=shape.margin_px)).any():
        return UNKNOWN
    return 0


@pytest.mark.parametrize(("cells", "alpha"), [(1, 1), (6, 1), (6, 2), (9, 4)])
def test_every_cell_has_the_label_of_its_patch(indexed, cells, alpha):
    crop = GridCrop(SPEC, cells, alpha)
    seen = set()
    with open_indexed(indexed.slide) as slide:
        for seed in range(12):
            generator = np.random.default_rng(seed)
            label = seed % 2
            location = indexed.locations.draw(label, indexed.reference, generator)
            reads: list[Region] = []

            def spy(frame, region, reads=reads):
                reads.append(region)
                return slide.read(frame, region)

            image, labels = crop.take(SimpleNamespace(read=spy), indexed, location, label, generator)
            (window,) = reads
            assert image.shape == (crop.side_px, crop.side_px, 3)
            expected = [
                [slow_label(indexed, crop, window, row, column) for column in range(cells)] for row in range(cells)
            ]
            np.testing.assert_array_equal(labels, expected)
            # The patch that was drawn is one of them, to the pixel at the native stride.
            inset = (SPEC.stride_px - SPEC.stride_px // alpha) // 2
            column, row = (
                (location.x - window.x - inset) / SPEC.stride_px,
                (location.y - window.y - inset) / SPEC.stride_px,
            )
            assert labels[int(row), int(column)] == label
            seen |= set(labels.ravel().tolist())
    assert {0, 1} <= seen


def test_one_patch_is_cut_as_ever(indexed):
    with open_indexed(indexed.slide) as slide:
        generator = np.random.default_rng(0)
        location = indexed.locations.draw(1, indexed.reference, generator)
        image, label = PatchCrop(96).take(slide, indexed, location, 1, generator)
        np.testing.assert_array_equal(image, slide.read(indexed.locations.frame, location))
        assert label == 1
        wider, label = PatchCrop(96, 24).take(slide, indexed, location, 1, generator)
        assert wider.shape == (144, 144, 3)
        np.testing.assert_array_equal(wider[24:-24, 24:-24], image)
        around = Region(location.x - 24, location.y - 24, 144, 144)
        np.testing.assert_array_equal(wider, slide.read(indexed.locations.frame, around))
        assert label == 1


@pytest.mark.parametrize("alpha", [1, 2])
def test_windows_are_encoded_as_scans_are(indexed, alpha):
    model = load_model("scannet-pcam")
    crop = GridCrop(SPEC, 5, alpha)
    frame = indexed.locations.frame
    native = HeatmapFrame(model=frame, patch_px=96, stride_px=16)
    dense = HeatmapFrame(model=frame, patch_px=96, stride_px=16 // alpha)
    first = Region(7 * alpha, 6 * alpha, 5 * alpha, 5 * alpha)
    window = dense.read_window(first)
    assert window.width == crop.side_px
    with open_indexed(indexed.slide) as slide:
        image = torch.from_numpy(slide.read(frame, window)).permute(2, 0, 1)[None].float()
        log_odds, features = FixedEncoder(model, alpha)(image)
        assert features.shape == (1, 5, 5, 192)
        # The mean over the dense patches of a native cell, whose middle is that of the native cell's own patch.
        for row, column in [(0, 0), (4, 4), (2, 3)]:
            odds = []
            for dy in range(alpha):
                for dx in range(alpha):
                    cell = Region((7 + column) * alpha + dx, (6 + row) * alpha + dy, 1, 1)
                    patch = slide.read(frame, dense.read_window(cell))
                    normal = torch.from_numpy(((patch / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None].astype(np.float32))
                    logits = model.network(normal)[0, :, 0, 0]
                    odds.append(float(logits[1] - logits[0]))
            assert float(log_odds[0, row, column]) == pytest.approx(np.mean(odds), abs=1e-3)
    assert (
        native.cell_center(7, 6).distance(dense.cell_center(7 * alpha + (alpha - 1) / 2, 6 * alpha + (alpha - 1) / 2))
        < 1e-9
    )


@pytest.mark.parametrize("architecture", ["scannet-small", "resnet34"])
def test_encoders_that_learn_answer_for_every_patch_of_a_window(architecture):
    torch.manual_seed(0)
    network = build_network(architecture).eval()
    shape = network.architecture
    spec = ModelSpec(
        name="l", architecture=architecture, mpp=0.5, patch_px=shape.patch_px, stride_px=shape.stride_px,
        mean=(0.4, 0.5, 0.6),
    )  # fmt: skip
    image = torch.from_numpy(
        np.random.default_rng(0)
        .integers(0, 256, (2, 3, *[shape.patch_px + 2 * shape.stride_px] * 2))
        .astype(np.float32)
    )
    with torch.no_grad():
        log_odds, features = LearningEncoder(network, spec)(image)
        assert features.shape == (2, 3, 3, network.architecture.feature_channels)
        for n, row, column in [(0, 0, 0), (1, 2, 1)]:
            y, x = row * shape.stride_px, column * shape.stride_px
            patch = image[n : n + 1, :, y : y + shape.patch_px, x : x + shape.patch_px] / 255
            mean = torch.tensor(spec.mean).view(1, 3, 1, 1)
            logits = network((patch - mean) / 0.25)[0, :, 0, 0]
            assert float(log_odds[n, row, column]) == pytest.approx(float(logits[1] - logits[0]), abs=1e-3)


def test_grids_are_the_phases_of_a_window():
    cells = torch.arange(2 * 6 * 6).view(2, 6, 6)
    grids = grids_of(cells, grid_spec(3, 2))
    assert grids.shape == (8, 3, 3)
    # Window 1, phase (1, 0): rows 1, 3, 5 and columns 0, 2, 4.
    np.testing.assert_array_equal(grids[4 + 2], cells[1, 1::2, 0::2])
    assert grids_of(torch.zeros(2, 6, 6, 5), grid_spec(3, 2)).shape == (8, 3, 3, 5)


def test_windows_and_labels_turn_together():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(16 * 9).view(16, 3, 3)
    image = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].repeat(1, 3, 1, 1)
    turned, of_turned = turn_alike(image, labels, generator)
    np.testing.assert_array_equal(turned[:, 0, 1::4, 1::4], of_turned)
    assert len({tuple((row - row.min()).flatten().tolist()) for row in of_turned}) > 4, "several views came"


def test_strips_leave_something():
    generator = torch.Generator().manual_seed(0)
    absent = absent_strips(torch.zeros(200, 5, 5), 0.5, generator)
    share = absent.flatten(1).any(dim=1).float().mean()
    assert 0.35 < float(share) < 0.65
    assert not absent.flatten(1).all(dim=1).any()
    assert not absent_strips(torch.zeros(20, 1, 1), 1.0, generator).any(), "a single patch is never taken away"
