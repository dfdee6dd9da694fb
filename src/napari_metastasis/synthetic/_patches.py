"""Labelled patches of synthetic slides: tumour cells, and normal tissues, each as often as the others."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_metastasis.geometry import Region
from napari_metastasis.settings import SyntheticSettings
from napari_metastasis.storage import atomic_write
from napari_metastasis.synthetic._slide import CHUNK_PX, SyntheticSlide
from napari_metastasis.synthetic._tissue import Kind

__all__ = ["make_patches"]

#: Model pixels at 0.972 µm/px, as PatchCamelyon's.
PATCH_PX = 96
#: Level-0 pixels of a slide at 0.486 µm/px that make one patch pixel.
_SCALE = 2
_NORMAL = (Kind.FAT, Kind.FIBRE, Kind.SINUS, Kind.LYMPHOID, Kind.MANTLE, Kind.CENTER, Kind.WALL)
#: Normal patches keep this far from any metastasis, so that their centres hold none even outside the outline.
_CLEARANCE_UM = 80.0
_CANDIDATES = 60_000
#: Fixed, so that the same call gives the same bytes.
_DATE = (2016, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Patch:
    label: int
    region: Region


def make_patches(
    path: str | os.PathLike[str],
    *,
    slides: int,
    per_slide: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a zip of 96 px patches at 0.972 µm/px in folders ``0`` (normal) and ``1`` (tumour), about as many of each.

    Parameters
    ----------
    path
        Archive to write; it is replaced if it exists.
    slides
        Synthetic slides to cut from, each of another stain, grade and patient.
    per_slide
        Patches from each, fewer where a slide has too little of a tissue.
    seed
        Of the first slide; the others follow. The same call gives the same bytes.
    progress
        Called with (patches written, patches in all).

    Raises
    ------
    StorageError
        If the archive cannot be written.
    """
    done = 0
    with atomic_write(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for number in range(seed, seed + slides):
            slide = SyntheticSlide(_settings(number))
            for k, patch in enumerate(_chosen(slide, per_slide, number)):
                image = imagecodecs.jpeg_encode(_halved(slide.read(patch.region)), level=90)
                name = f"synthetic/{patch.label}/{number:06d}-{k:04d}.jpg"
                archive.writestr(zipfile.ZipInfo(name, date_time=_DATE), bytes(image))
                done += 1
                if progress is not None:
                    progress(done, slides * per_slide)


def _settings(seed: int) -> SyntheticSettings:
    """Return a small slide of a stain, a grade and mimics of its own."""
    generator = np.random.default_rng([seed, 1])
    return SyntheticSettings(
        seed=seed,
        width_px=7168,
        height_px=6144,
        node_mm=2.6,
        macro=0,
        micro=3,
        itc=3,
        stain="auto",
        stain_variation=1.5,
        grade=float(generator.uniform(0.2, 0.9)),
        mimics=float(generator.uniform(0.0, 1.0)),
        blurred_areas=1,
        pen_marks=0,
    )


def _chosen(slide: SyntheticSlide, count: int, seed: int) -> Iterator[_Patch]:
    """Yield patches of both classes, near ones together, so that a square of the slide is drawn once."""
    generator = np.random.default_rng([seed, 2])
    side, mpp = PATCH_PX * _SCALE, slide.mpp
    x = generator.uniform(side, slide.size.width - side, _CANDIDATES).astype(np.float32)
    y = generator.uniform(side, slide.size.height - side, _CANDIDATES).astype(np.float32)
    kinds, tumour = slide.kinds_at(x * mpp, y * mpp)
    clear = tumour < -_CLEARANCE_UM
    groups = [(1, kinds == Kind.NEST, count // 2)]
    groups += [(0, (kinds == kind) & clear, max(1, round((count - count // 2) / len(_NORMAL)))) for kind in _NORMAL]
    found, label = [], []
    for group_label, members, wanted in groups:
        taken = generator.permutation(np.flatnonzero(members))[:wanted]
        found.append(taken)
        label.append(np.full(len(taken), group_label))
    locations, labels = np.concatenate(found), np.concatenate(label)
    order = np.lexsort((x[locations], y[locations] // CHUNK_PX))
    for k in order:
        corner = int(x[locations[k]]) - side // 2, int(y[locations[k]]) - side // 2
        yield _Patch(int(labels[k]), Region(*corner, side, side))


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the averages of 2 x 2 pixels, as a scanner's pyramid holds them."""
    rows, columns, _ = pixels.shape
    blocks = pixels.reshape(rows // _SCALE, _SCALE, columns // _SCALE, _SCALE, 3).astype(np.float32)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)
