"""Slides of another density: seen as they are, or as dense as what the detector was trained on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from dark_model import dark_model, dark_segmenter
from scans import SCAN, scan_with

from napari_metastasis.errors import ModelError, StainError, StainWarning
from napari_metastasis.geometry import Region, Size
from napari_metastasis.models import Detector, NetworkInput, build_network, contract_of_input
from napari_metastasis.settings import PUBLISHED_STAINS, SegmentSettings
from napari_metastasis.slides import open_slide, tissue_mask, write_pyramid
from napari_metastasis.slides.stains import TARGET, mean_density, slide_stain_matrix, stain_picture, tissue_pixels
from napari_metastasis.workflows.scan.earlier import earlier_result
from napari_metastasis.workflows.scan.result_folder import stored_maps, stored_scans

SIDE = 900


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two slides of one tissue, the second stained a third as densely."""
    folder = tmp_path_factory.mktemp("stain")
    rng = np.random.default_rng(5)
    amounts = np.zeros((SIDE, SIDE, 1))
    amounts[100:800, 100:800] = rng.uniform(0.6, 1.2, (700, 700, 1))
    amounts[300:500, 300:500] *= 2
    paths = []
    for name, factor in (("dense", 1.0), ("pale", 1 / 3)):
        pixels = np.rint(250 * np.exp(-factor * amounts * np.array([0.6, 1.0, 0.4]))).astype(np.uint8)
        write_pyramid(folder / f"{name}.tif", pixels, mpp=0.972, size=Size(SIDE, SIDE), compression="deflate")
        paths.append(folder / f"{name}.tif")
    return paths


@pytest.fixture(scope="module")
def model(pictures):
    """One that was trained on the dense slide's stain."""
    with open_slide(pictures[0]) as slide:
        pixels = tissue_pixels(slide, slide.frame(0.972), tissue_mask(slide))
        density = tuple(mean_density(pixels).tolist())
    plain = dark_model()
    return replace(plain, spec=replace(plain.spec, stain_density=density))


def scanned(path, model, output, stain):
    with open_slide(path) as slide:
        result = scan_with(slide, model, output, scan=replace(SCAN, stain=stain))
    return result, json.loads((result.output / "run.json").read_text())


def test_a_pale_slide_is_answered_like_the_dense_one(pictures, model, tmp_path):
    dense, record = scanned(pictures[0], model, tmp_path / "dense", "auto")
    assert record["stain"]["normalised"] is False
    np.testing.assert_allclose(record["stain"]["density"], model.spec.stain_density, rtol=0.02)
    with pytest.warns(StainWarning, match=r"0\.3\d? times as dense.*--stain normalise"):
        pale, told = scanned(pictures[1], model, tmp_path / "pale", "as-is")
    assert any("times as dense" in note for note in told["scans"][-1]["notes"])
    normalised, said = scanned(pictures[1], model, tmp_path / "pale", "normalise")
    assert said["stain"]["normalised"] is True
    # Another map, beside the first: nothing is mixed or lost.
    assert normalised.output != pale.output
    assert len(stored_scans(tmp_path / "pale")) == 2
    inner = Region(200, 200, 400, 400)
    cells = slice(inner.y // 4, inner.bottom // 4)
    wanted, before, after = (one.probabilities[cells, cells] for one in (dense, pale, normalised))
    assert np.abs(after - wanted).mean() < 0.1 * np.abs(before - wanted).mean()
    (values,) = stored_maps(stored_scans(tmp_path / "pale")[0])
    np.testing.assert_array_equal(values.values, normalised.probabilities)
    with open_slide(pictures[1]) as slide:
        earlier = earlier_result(slide, tmp_path / "pale")
    (line,) = earlier.told
    assert line.startswith("Stain 0.3")
    assert line.endswith("× as dense as in training, scanned at that density")


def test_a_model_of_unknown_stain_cannot_be_normalised_to(pictures, tmp_path):
    with pytest.raises(ModelError, match="--stain as-is"):
        scanned(pictures[0], dark_model(), tmp_path, "normalise")
    _, record = scanned(pictures[0], dark_model(), tmp_path, "as-is")
    measured = record["stain"].pop("nuclei")
    assert abs(measured) < 0.04, "of tissue without nuclei"
    assert record["stain"] == {"density": None, "reference": [], "normalised": False}


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory):
    """Two files of one tissue with nuclei, the second written with red and blue in each other's place."""
    folder = tmp_path_factory.mktemp("exchanged")
    rng = np.random.default_rng(8)
    amounts = np.zeros((SIDE, SIDE, 2))
    amounts[100:800, 100:800, 1] = rng.uniform(0.3, 0.7, (700, 700))
    nuclei = np.kron(rng.random((100, 100)) < 0.2, np.ones((7, 7)))
    amounts[100:800, 100:800, 0] = nuclei * rng.uniform(0.9, 1.4, (700, 700))
    pixels = np.rint(250 * np.exp(-amounts @ np.array([(0.65, 0.7, 0.29), (0.12, 0.95, 0.28)]))).astype(np.uint8)
    for name, order in (("right", 1), ("wrong", -1)):
        wrong = np.ascontiguousarray(pixels[..., ::order])
        write_pyramid(folder / f"{name}.tif", wrong, mpp=0.972, size=Size(SIDE, SIDE), compression="deflate")
    return folder / "right.tif", folder / "wrong.tif"


def test_red_and_blue_that_look_exchanged_are_said_and_put_right(exchanged, tmp_path):
    right, wrong = exchanged
    with open_slide(right) as slide:
        expected = scan_with(slide, dark_model(), tmp_path / "right", scan=SCAN)
    with open_slide(wrong) as slide:
        with pytest.warns(StainWarning, match=r"red and blue look exchanged.*--swap-red-blue"):
            result = scan_with(slide, dark_model(), tmp_path / "wrong", scan=SCAN)
        assert not np.array_equal(result.probabilities, expected.probabilities, equal_nan=True)
    record = json.loads((result.output / "run.json").read_text("utf-8"))
    assert any("look exchanged" in note for note in record["scans"][-1]["notes"])
    assert record["stain"]["nuclei"] < 0
    with open_slide(wrong, swap_red_blue=True) as slide:
        swapped = scan_with(slide, dark_model(), tmp_path / "wrong", scan=SCAN)
        assert earlier_result(slide, tmp_path / "wrong").folder == swapped.output
    assert swapped.output != result.output, "another slide, as far as results go"
    np.testing.assert_array_equal(swapped.probabilities, expected.probabilities)
    assert json.loads((swapped.output / "run.json").read_text("utf-8"))["scans"][-1]["notes"] == []


def brought_to_reference(path, folder):
    """Write a slide as the stain room brings it to the published reference, and return its path."""
    with open_slide(path) as slide:
        stains = slide_stain_matrix(slide, tissue_mask(slide))
        pixels = slide.read(slide.frame(0.972), Region(0, 0, SIDE, SIDE))
    changed = stain_picture(pixels, stains, "normalised", target=TARGET)
    changed_path = folder / "normalised.tif"
    write_pyramid(changed_path, changed, mpp=0.972, size=Size(SIDE, SIDE), compression="deflate")
    return changed_path


def test_a_scan_in_the_dyes_of_a_reference_is_one_of_the_slide_that_was_brought_there(exchanged, tmp_path):
    path, _ = exchanged
    segmenter = dark_segmenter()
    options = {"segment": SegmentSettings(segment=True, segment_above=0.0), "segmenter": segmenter}
    as_it_is = replace(SCAN, tissue_only=False)
    scan = replace(as_it_is, stain="macenko")
    with open_slide(path) as slide:
        plain = scan_with(slide, dark_model(), tmp_path / "made", scan=as_it_is)
        made = scan_with(slide, dark_model(), tmp_path / "made", scan=scan, **options)
        again = scan_with(slide, dark_model(), tmp_path / "made", scan=scan, **options)
        earlier = earlier_result(slide, tmp_path / "made")
    assert made.output != plain.output, "another map, beside the first"
    assert again.output == made.output
    with open_slide(brought_to_reference(path, tmp_path)) as slide:
        scan_with(slide, dark_model(), tmp_path / "expected", scan=as_it_is, **options)
    maps = [stored_maps(stored_scans(folder)[0]) for folder in (tmp_path / "made", tmp_path / "expected")]
    assert np.nanmax(np.abs(maps[0][0].values - plain.probabilities)) > 0.2
    for own, wanted in zip(*maps, strict=True):
        # Floats of two rooms round a few grey levels otherwise.
        np.testing.assert_allclose(own.values, wanted.values, atol=0.03)
    record = json.loads((made.output / "run.json").read_text("utf-8"))
    assert record["stain"]["read_as"] == "normalised"
    assert record["stain"]["target"] == list(PUBLISHED_STAINS)
    with open_slide(path) as slide:
        assert record["stain"]["dyes"] == list(slide_stain_matrix(slide, tissue_mask(slide)).numbers)
    assert "brought to the dyes of a reference" in earlier.told[0]


@pytest.mark.parametrize("kind", ["stains", "both"])
def test_a_detector_that_reads_dyes_is_given_those_of_the_slide(exchanged, tmp_path, kind):
    path, _ = exchanged
    torch.manual_seed(3)
    contract = contract_of_input(kind, None)
    spec = replace(dark_model().spec, name="d", architecture="scannet-small", patch_px=96, field_px=96, stride_px=16)
    network = build_network("scannet-small", len(contract["mean"])).eval().requires_grad_(requires_grad=False)
    model = Detector(spec=replace(spec, **contract), network=network, weights_sha256="f" * 64, card={})
    with open_slide(path) as slide:
        result = scan_with(slide, model, tmp_path, scan=SCAN)
        stains = slide_stain_matrix(slide, tissue_mask(slide)).numbers
        patch = slide.read(result.frame.model, result.frame.read_window(Region(20, 20, 1, 1)))
    seen = torch.from_numpy(NetworkInput(kind).of_pixels(patch, stains)).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(contract[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    expected = network((seen - mean) / std).softmax(dim=1)[0, 1, 0, 0].item()
    assert result.probabilities[20, 20] == pytest.approx(expected, abs=1e-4)
    with open_slide(path) as slide, pytest.raises(ModelError, match=r"whose input is .*--stain auto"):
        scan_with(slide, model, tmp_path, scan=replace(SCAN, stain="macenko"))


def test_a_slide_of_one_dye_is_refused_and_one_without_tissue_is_said(pictures, tmp_path):
    scan = replace(SCAN, stain="macenko")
    with open_slide(pictures[0]) as slide, pytest.raises(StainError, match="one dye do; scan with --stain as-is"):
        scan_with(slide, dark_model(), tmp_path / "refused", scan=scan)
    assert not (tmp_path / "refused").exists(), "nothing is written"
    glass = tmp_path / "glass.tif"
    write_pyramid(glass, np.full((300, 300, 3), 245, np.uint8), mpp=0.972, size=Size(300, 300), compression="deflate")
    with open_slide(glass) as slide, pytest.warns(StainWarning, match="expected tissue to tell"):
        result = scan_with(slide, dark_model(), tmp_path / "glass", scan=scan)
    notes = json.loads((result.output / "run.json").read_text("utf-8"))["scans"][-1]["notes"]
    assert any("expected tissue to tell" in note for note in notes)
