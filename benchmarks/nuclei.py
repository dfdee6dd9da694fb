"""How well nuclei are estimated from a lesion's area, beside counting them in the haematoxylin of its pixels.

    python benchmarks/nuclei.py [--slides 4] [--json]

Every metastasis of seeded synthetic slides, of all grades and both stains, within its exact outline: the nuclei that
the generator drew there are the truth, those of tumour, and all with the lymphocytes among them. ``by_area`` is the
area times ``nuclei_per_mm2``; ``counted`` are peaks of the smoothed haematoxylin (Ruifrok and Johnston 2001) at 0.5 µm
per pixel, over Otsu's threshold in the outline. ``itc`` says how many of those over 0.2 mm and up to 2 mm have fewer
than 200 by each.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
import shapely.affinity
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu

from napari_metastasis.geometry import Region
from napari_metastasis.lesions.measure import longest_diameter
from napari_metastasis.lesions.size_classes import ITC_CELLS, LIMITS_MM, estimated_nuclei
from napari_metastasis.settings import DetectionSettings, SyntheticSettings
from napari_metastasis.synthetic import SyntheticSlide
from napari_metastasis.synthetic._cells import LYMPHOCYTES, TUMOUR, Grids
from napari_metastasis.synthetic._nuclei import _Canvas
from napari_metastasis.synthetic._window import Window

MPP = 0.5
#: The smoothing of the haematoxylin, and how close two nuclei may lie, in µm: about a third and a half of a nucleus.
SMOOTH_UM, APART_UM = 1.25, 4.0


class _Noted(_Canvas):
    """Notes where nuclei are stamped, and stamps none."""

    def stamp(self, sprites: Any, cells: Any, keep: Any, pick: Any) -> None:  # noqa: ARG002
        self.places = np.c_[cells.x[keep], cells.y[keep]]


@dataclass(frozen=True, slots=True)
class Measured:
    """A metastasis: what it holds, and what is said of it."""

    length_mm: float
    area_mm2: float
    tumour: int
    lymphocytes: int
    by_area: int
    counted: int
    seconds: float


def measured(slide: SyntheticSlide, outline: shapely.Polygon) -> Measured:
    """Return what is known of one metastasis; its outline is in level-0 pixels."""
    x0, y0, x1, y1 = outline.bounds
    x, y = int(x0) - 8, int(y0) - 8
    region = Region(x, y, int(x1) + 9 - x, int(y1) + 9 - y).intersection(Region.of(slide.size))
    rgb, began = slide.read(region), time.perf_counter()
    counted = count(rgb, shapely.affinity.translate(outline, -region.x, -region.y))
    seconds = time.perf_counter() - began
    side = max(region.width, region.height)
    window = Window.of(region.x // 2 * 2, region.y // 2 * 2, side=side + side % 2, mpp=slide.mpp, step=8)
    tissue, grids = slide._tissue.near(window.box.grown(30)), Grids(slide.settings.seed, window)
    found = []
    for stamp, kind in ((slide._nuclei._tumour_cells, TUMOUR), (slide._nuclei._lymphocytes, LYMPHOCYTES)):
        noted = _Noted(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), window)
        stamp(noted, tissue, grids.of(kind))
        places = noted.places / slide.mpp
        found.append(int(shapely.contains_xy(outline, places[:, 0], places[:, 1]).sum()))
    area = outline.area * (slide.mpp / 1000) ** 2
    said = estimated_nuclei(area, DetectionSettings().nuclei_per_mm2)
    length = longest_diameter(np.asarray(outline.exterior.coords)) * slide.mpp / 1000
    return Measured(length, area, *found, said or 0, counted, seconds)


def count(rgb: np.ndarray, outline: shapely.Polygon) -> int:
    """Return how many nuclei are seen inside an outline."""
    haematoxylin = ndimage.gaussian_filter(rgb2hed(rgb)[..., 0], SMOOTH_UM / MPP)
    y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
    inside = shapely.contains_xy(outline, x.ravel(), y.ravel()).reshape(x.shape)
    over = threshold_otsu(haematoxylin[inside])
    peaks = peak_local_max(
        haematoxylin, min_distance=round(APART_UM / MPP), threshold_abs=over, labels=inside.astype(np.int32)
    )
    return len(peaks)


def slides(number: int) -> list[SyntheticSlide]:
    """Return slides of both stains and all grades, a third of them with small, pale tumour cells."""
    return [
        SyntheticSlide(
            SyntheticSettings(
                seed=900 + seed,
                width_px=8000,
                height_px=6000,
                mpp=MPP,
                node_mm=2.8,
                fat_mm=0.2,
                macro=0,
                micro=4,
                itc=4,
                grade=(seed % 4) / 3,
                stain=("rose", "violet")[seed % 2],
                subtlety=0.5 * (seed % 3 == 2),
            )
        )
        for seed in range(number)
    ]


def report(found: list[Measured]) -> dict[str, object]:
    """Return the figures: relative errors in percent as median and 5th to 95th percentile."""
    told: dict[str, object] = {"lesions": len(found)}
    told["tumour cells per mm2"] = _spread([one.tumour / one.area_mm2 for one in found])
    truths = {"tumour cells": [one.tumour for one in found]}
    truths["all cells"] = [one.tumour + one.lymphocytes for one in found]
    for name, truth in truths.items():
        for way in ("by_area", "counted"):
            errors = [100 * (getattr(one, way) / true - 1) for one, true in zip(found, truth, strict=True)]
            told[f"{way} against {name}, % off"] = _spread(errors)
            told[f"{way} against {name}, mean |% off|"] = round(float(np.mean(np.abs(errors))), 1)
    between = [one for one in found if LIMITS_MM[0] < one.length_mm <= LIMITS_MM[1]]
    told["over 0.2 mm"] = len(between)
    for way in ("tumour", "by_area", "counted"):
        told[f"itc: {way}"] = sum(getattr(one, way) < ITC_CELLS for one in between)
    told["counting, s per mm2"] = round(sum(one.seconds for one in found) / sum(one.area_mm2 for one in found), 2)
    return told


def _spread(values: list[float]) -> str:
    low, middle, high = np.percentile(values, (5, 50, 95))
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = [
        measured(slide, outline)
        for slide in slides(arguments.slides)
        for annotation in slide.annotations
        for outline in [shapely.Polygon(annotation.exterior)]
    ]
    told = report(found)
    if arguments.json:
        print(json.dumps(told))
    else:
        for name, value in told.items():
            print(f"{name:50} {value}")


if __name__ == "__main__":
    main()
