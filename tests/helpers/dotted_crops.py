"""Crops of a drawn slide on which every point is a red dot, so that what becomes of it can be seen."""

from __future__ import annotations

import zipfile
from pathlib import Path

import imagecodecs
import numpy as np

SIDE = 32
#: On a slide of 100 px: apart, two within each other's crops, and one whose crop reaches past the left edge.
POINTS = {"a/one": [(30, 40), (70, 62), (76, 70)], "a/two": [(8, 50)], "b/one": [(50, 50), (20, 80)]}


def drawn_slide(points: list[tuple[int, int]], seed: int) -> np.ndarray:
    """Return a green slide with a red dot of 4 px around the corner between pixels that each point is."""
    slide = np.zeros((100, 100, 3), np.uint8)
    slide[..., 1] = np.random.default_rng(seed).integers(100, 200, (100, 100))
    for x, y in points:
        slide[y - 2 : y + 2, x - 2 : x + 2] = (255, 0, 0)
    return slide


def write_dotted_crops(folder: Path) -> tuple[Path, Path]:
    """Write a zip of crops, black past the slide, and their table."""
    rows = ["file,source,slide,x,y,atypical"]
    with zipfile.ZipFile(folder / "crops.zip", "w") as archive:
        for seed, (name, points) in enumerate(POINTS.items()):
            padded = np.pad(drawn_slide(points, seed), ((SIDE, SIDE), (SIDE, SIDE), (0, 0)))
            source, slide = name.split("/")
            for x, y in points:
                first_x, first_y = x + SIDE - SIDE // 2, y + SIDE - SIDE // 2
                crop = padded[first_y : first_y + SIDE, first_x : first_x + SIDE]
                file = f"{source}{slide}{x}.png"
                archive.writestr(file, imagecodecs.png_encode(np.ascontiguousarray(crop)))
                rows.append(f"{file},{source},{slide},{x},{y},False")
    (folder / "crops.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "crops.zip", folder / "crops.csv"
