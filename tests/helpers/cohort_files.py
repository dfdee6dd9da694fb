"""Slides of discs on tissue, with their outlines and masks, for tests of cohorts and sampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from napari_metastasis.annotations import Annotation, AnnotationSet, write_asap_xml
from napari_metastasis.geometry import Size
from napari_metastasis.slides import write_pyramid

TISSUE, GLASS, TUMOUR = (225, 150, 195), (244, 243, 245), (60, 20, 80)


def write_slide(path, *, mpp=0.486, size_um=(700.0, 560.0), disc_um=None, radius_um=40.0, glass_um=0.0, seed=0):
    """Write pink tissue, a dark disc if wanted, and a strip of glass at the left."""
    width, height = (round(side / mpp) for side in size_um)
    x = ((np.arange(width) + 0.5) * mpp)[None, :, None]
    y = ((np.arange(height) + 0.5) * mpp)[:, None, None]
    pixels = np.where(x < glass_um, np.array(GLASS), np.array(TISSUE)) + np.zeros((height, 1, 1))
    pixels = pixels + np.random.default_rng(seed).integers(-3, 4, (height, width, 1))
    if disc_um is not None:
        inside = np.hypot(x - disc_um[0], y - disc_um[1]) < radius_um
        pixels = np.where(inside, np.array(TUMOUR), pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pyramid(path, pixels.clip(0, 255).astype(np.uint8), mpp=mpp, size=Size(width, height), compression="deflate")
    return Size(width, height)


def disc_ring(disc_um, radius_um, mpp, corners=720):
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.c_[disc_um[0] + radius_um * np.cos(angle), disc_um[1] + radius_um * np.sin(angle)] / mpp


def write_outline(path, disc_um, radius_um, mpp, *, group="_0"):
    path.parent.mkdir(parents=True, exist_ok=True)
    ring = disc_ring(disc_um, radius_um, mpp)
    write_asap_xml(path, AnnotationSet((Annotation.of_rings(name="disc", group=group, exterior=ring),)))


def write_mask(path, size, disc_um, radius_um, mpp, *, downsample=1, values=(0, 255), pyramid=False):
    """Write a tiled grey mask of the disc, each pixel by its centre."""
    width, height = -(-size.width // downsample), -(-size.height // downsample)
    x = (np.arange(width) + 0.5) * downsample * mpp
    y = (np.arange(height) + 0.5) * downsample * mpp
    inside = np.hypot(x[None] - disc_um[0], y[:, None] - disc_um[1]) < radius_um
    mask = np.where(inside, values[1], values[0]).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        import imagecodecs

        path.write_bytes(imagecodecs.png_encode(mask))
        return mask
    levels = [mask]
    while pyramid and min(levels[-1].shape) > 64:
        levels.append(levels[-1][::2, ::2])
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            options = {"subifds": len(levels) - 1} if number == 0 else {"subfiletype": 1}
            tiff.write(level, tile=(128, 128), compression="zlib", photometric="minisblack", **options)
    return mask


def touch(root: Path, *names: str) -> None:
    """Create empty files: layouts are recognised by names alone."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
