"""Make docs/images/synthetic-mitoses.jpg: synthetic mitoses, and what is taken for them, in a synthetic lymph node.

Each kind twice, in squares of 32 µm, at 0.25 µm/px and twice as large as that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from PIL import Image

from napari_metastasis.geometry import Region
from napari_metastasis.settings import SyntheticSettings
from napari_metastasis.synthetic import (
    LOOKALIKES,
    MITOSES,
    Palette,
    SyntheticSlide,
    draw_lookalike,
    draw_mitosis,
    paint_figure,
)

SIDE, TIMES, GAP = 128, 2, 4
#: The only metastasis of a small node.
SLIDE = SyntheticSettings(
    seed=11,
    width_px=8192,
    height_px=8192,
    mpp=0.25,
    node_mm=1.6,
    macro=0,
    micro=1,
    itc=0,
    pen_marks=0,
    folds=0,
    tears=0,
)


def main() -> None:
    """Draw them, and write the picture."""
    slide, rng = SyntheticSlide(SLIDE), np.random.default_rng(4)
    (tumour,) = slide.annotations.annotations
    inside = shapely.Polygon(tumour.exterior).buffer(-SIDE)
    low, high = np.array(inside.bounds).reshape(2, 2)
    rows = []
    for draw, kinds in ((draw_mitosis, MITOSES), (draw_lookalike, LOOKALIKES)):
        # One more of the first kind, where there are fewer of them.
        names = [*kinds, *kinds][: len(MITOSES)]
        for _ in range(2):
            row = []
            for kind in names:
                while not inside.contains(shapely.Point(middle := rng.uniform(low, high))):
                    pass
                x, y = (round(at) - SIDE // 2 for at in middle)
                image = slide.read(Region(x, y, SIDE, SIDE)).copy()
                palette = Palette.of(image, np.ones((SIDE, SIDE), bool), SLIDE.mpp)
                paint_figure(image, draw(rng, SLIDE.mpp, kind), palette, SIDE // 2, SIDE // 2, SLIDE.mpp, rng)
                large = Image.fromarray(image).resize((SIDE * TIMES, SIDE * TIMES), Image.Resampling.BICUBIC)
                row.append(np.pad(np.asarray(large), ((0, GAP), (0, GAP), (0, 0)), constant_values=255))
            rows.append(np.concatenate(row, axis=1))
    sheet = np.concatenate(rows)[:-GAP, :-GAP]
    Image.fromarray(sheet).save(Path(__file__).parent / "images" / "synthetic-mitoses.jpg", quality=88)


if __name__ == "__main__":
    main()
