"""How surely exchanged red and blue are noticed, and how often they are where nothing is exchanged.

Run with ``python benchmarks/swapped_colours.py DATA``, the folder of real data. A group of 20 patches of PatchCamelyon
that are alike in tint stands for a slide: its patches do not say which slide they come from.
"""

from __future__ import annotations

import argparse
import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.slides import open_slide, tissue_mask
from napari_metastasis.slides.stains import nuclear_tint, optical_density, swap_note, tissue_pixels

Pixels = NDArray[np.uint8]
#: Patches of a group, groups of a set, and crops of a slide.
_GROUP, _GROUPS, _CROPS = 20, 100, 20
#: µm per pixel that slides are looked at with, and pixel sizes of those that do not state theirs.
_MPP = 1.0
_SLIDES = {
    "CMU-1-Small-Region.svs": None,
    "tcga-cr-7395-01a-01-ts1.svs": 0.25,
    "tumor_001_level5.tif": 0.243 * 32,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    found: dict[str, list[float]] = defaultdict(list)
    for name, pixels in _tissue(data):
        tint = nuclear_tint(pixels)
        if tint is not None:
            found[name].append(tint)
    print(f"{'of':<28} {'n':>4} {'least tint':>11} {'noted as it is':>15} {'noted exchanged':>16}")
    for name, tints in found.items():
        wrongly, rightly = (sum(bool(swap_note(sign * tint)) for tint in tints) for sign in (1, -1))
        print(f"{name:<28} {len(tints):>4} {min(tints):>11.3f} {wrongly:>15} {rightly:>16}")


def _tissue(data: Path) -> Iterator[tuple[str, Pixels]]:
    """Yield what a set is called, and pixels of one slide or region of it."""
    for name in ("pcam_train", "pcam_valid"):
        for pixels in _groups(data / f"{name}.zip"):
            yield f"{name}, groups of {_GROUP}", pixels
    for path in sorted((data / "regions" / "images").glob("*.jpg")):
        yield "regions", _pixels(path)
    centres: dict[str, list[Pixels]] = defaultdict(list)
    for path in sorted((data / "centre_colours").glob("*.png")):
        centres[path.name.partition("_")[0]].append(_pixels(path))
    for patches in centres.values():
        yield "centres of CAMELYON17", np.concatenate(patches)
    for source, pixels in _mitoses(data / "mitosis"):
        yield f"slides of {source}", pixels
    for name, mpp in _SLIDES.items():
        with open_slide(data / "slides" / name, mpp) as slide:
            seen = tissue_pixels(slide, slide.frame(max(_MPP, slide.mpp)), tissue_mask(slide))
            assert seen is not None
            yield "other slides", seen


def _pixels(file: Path | io.BytesIO) -> Pixels:
    return np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3)


def _groups(path: Path) -> Iterator[Pixels]:
    """Yield the pixels of groups of patches that are alike in tint."""
    source = open_patches(path)
    chosen = np.random.default_rng(1).permutation(len(source))[: _GROUP * _GROUPS]
    patches = [source.read(int(index)).reshape(-1, 3) for index in chosen]
    density = [optical_density(patch).mean(axis=0) for patch in patches]
    order = np.argsort([(one[0] - one[2]) / one.sum() for one in density])
    for start in range(0, len(order) - _GROUP + 1, _GROUP):
        yield np.concatenate([patches[index] for index in order[start : start + _GROUP]])


def _mitoses(folder: Path) -> Iterator[tuple[str, Pixels]]:
    slides: dict[tuple[str, str], list[str]] = defaultdict(list)
    with (folder / "mitoses.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            slides[row["source"], row["slide"]].append(row["file"])
    with zipfile.ZipFile(folder / "mitoses.zip") as archive:
        entries = {Path(name).name: name for name in archive.namelist()}
        for (source, _), files in sorted(slides.items()):
            crops = [_pixels(io.BytesIO(archive.read(entries[name]))) for name in files[:_CROPS]]
            pixels = np.concatenate(crops)
            # Some crops reach past their slide, where they are black.
            yield source, pixels[pixels.max(axis=1) > 20]


if __name__ == "__main__":
    main()
