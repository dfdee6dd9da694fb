"""Haematoxylin told from eosin, against drawn dyes, a published implementation's pictures, and halves of a slide."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_metastasis.errors import StainError
from napari_metastasis.settings import StainSettings
from napari_metastasis.slides import open_slide, tissue_mask
from napari_metastasis.slides.stains import (
    TARGET,
    VIEWS,
    StainMatrix,
    concentrations,
    slide_stain_matrix,
    stain_matrix,
    stain_picture,
)

DYES = StainMatrix((0.65, 0.70, 0.29), (0.15, 0.90, 0.41), (1.0, 1.0))


def drawn(haematoxylin: np.ndarray, eosin: np.ndarray, *, noise: float = 0.0) -> np.ndarray:
    """Draw pixels from concentrations, one channel at a time, as the paper's equation 1 has it."""
    rng = np.random.default_rng(0)
    channels = [
        240 * np.exp(-(haematoxylin * h + eosin * e)) for h, e in zip(DYES.haematoxylin, DYES.eosin, strict=True)
    ]
    # The published code counts densities from one grey level more.
    light = np.stack(channels, axis=-1) - 1
    return np.clip(np.rint(light + rng.normal(0, noise, light.shape)), 0, 255).astype(np.uint8)


def mixed(*, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei, stroma, and what is both: (pixels, concentrations)."""
    rng = np.random.default_rng(1)
    amounts = rng.gamma(3.0, 0.2, (400, 300, 2))
    amounts[:100, :, 1], amounts[100:200, :, 0] = 0, 0
    return drawn(amounts[..., 0], amounts[..., 1], noise=noise), amounts


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_drawn_dyes_are_found(noise: float) -> None:
    pixels, amounts = mixed(noise=noise)
    found = stain_matrix(pixels)
    assert found.differs_deg(DYES) < 3.0
    np.testing.assert_allclose(np.linalg.norm(found.array, axis=0), 1, atol=1e-9)
    unit = np.linalg.norm(DYES.array, axis=0)
    np.testing.assert_allclose(found.maxima, np.percentile(amounts.reshape(-1, 2), 99, axis=0) * unit, rtol=0.1)


def test_concentrations_are_those_drawn() -> None:
    pixels, amounts = mixed()
    found = concentrations(pixels, DYES)
    assert found.dtype == np.float32
    # Of dark pixels one grey level is a large step of density.
    light = (amounts.sum(axis=-1) < 1.5) & (pixels.min(axis=-1) > 40)
    np.testing.assert_allclose(found[light], amounts[light], atol=0.03)


def test_a_picture_normalised_to_its_own_dyes_stays_as_it_is() -> None:
    pixels, _ = mixed()
    again = stain_picture(pixels, DYES, "normalised", target=DYES).astype(int)
    # The published code adds a grey level on the way in and none on the way out.
    assert np.abs(again - pixels).max() <= 2


@pytest.mark.parametrize("name", ["haematoxylin", "eosin"])
def test_each_dye_is_alone_in_its_own_picture(name: str) -> None:
    pixels, amounts = mixed()
    own = VIEWS.index(name)
    lacking = amounts[..., own] == 0
    seen = stain_picture(pixels, DYES, name, target=DYES)
    assert seen[lacking].min() >= 228
    assert seen[~lacking].mean() < 200


@pytest.mark.parametrize("level", [0, 128, 243, 255])
def test_a_blank_tile_has_no_dyes(level: int) -> None:
    # Black and grey are one colour each, if any: neither is H&E.
    with pytest.raises(StainError, match=r"^expected [^\n]+ got [^\n]+; [^\n]+$"):
        stain_matrix(np.full((64, 64, 3), level, np.uint8))


@pytest.mark.parametrize("jpeg", [False, True])
@pytest.mark.parametrize("eosin", [False, True])
def test_a_tile_of_one_dye_says_that_two_cannot_be_told(eosin: bool, jpeg: bool) -> None:
    amounts = np.random.default_rng(2).gamma(4.0, 0.2, (256, 256))
    nothing = np.zeros_like(amounts)
    pixels = drawn(nothing, amounts, noise=2) if eosin else drawn(amounts, nothing, noise=2)
    if jpeg:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=80)
        pixels = np.asarray(Image.open(stream))
    with pytest.raises(StainError, match=r"^expected haematoxylin and eosin, got [^\n]+ one dye do; [^\n]+$"):
        stain_matrix(pixels)


@pytest.mark.shared
def test_pictures_are_those_of_the_published_implementation(shared_data: Path) -> None:
    def read(name: str) -> np.ndarray:
        with Image.open(shared_data / "macenko" / f"{name}.png") as image:
            return np.asarray(image.convert("RGB"))

    slide = read("example1")
    stains = stain_matrix(slide)
    for view, name in zip(VIEWS, ("norm1_H", "norm1_E", "norm1"), strict=True):
        assert np.abs(stain_picture(slide, stains, view).astype(int) - read(name)).max() <= 1, view


@pytest.mark.shared
def test_dyes_of_a_slide_hold_for_its_halves_and_at_other_scales(shared_data: Path) -> None:
    with open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        tissue = tissue_mask(slide)
        whole = slide_stain_matrix(slide, tissue)
        rows, columns = np.indices(tissue.mask.shape)
        for half in (rows < len(tissue.mask) // 2, columns < tissue.mask.shape[1] // 2):
            one, other = (slide_stain_matrix(slide, replace(tissue, mask=tissue.mask & side)) for side in (half, ~half))
            assert one.differs_deg(other) < 3.0
        for mpp in (2.0, 4.0):
            assert whole.differs_deg(slide_stain_matrix(slide, tissue, StainSettings(mpp=mpp))) < 3.0
        assert slide_stain_matrix(slide, tissue) == whole
        with pytest.raises(StainError, match="expected tissue on CMU-1-Small-Region to tell its stains, got none"):
            slide_stain_matrix(slide, replace(tissue, mask=np.zeros_like(tissue.mask)))


def test_the_target_is_that_of_the_published_implementation() -> None:
    assert TARGET.maxima == (1.9705, 1.0308)
    np.testing.assert_allclose(np.linalg.norm(TARGET.array, axis=0), 1, atol=1e-3)
