"""How many synthetic mitoses, and cells that are taken for them, a model finds, beside real mitoses.

    python benchmarks/synthetic_mitoses.py CROPS.zip CROPS.csv [--model mitosis-lite] [--part validation]

One of each kind is drawn into the middle of a strip without a figure, of each crop of the slides; real figures are
those of the same crops, shifted as in training. A model that never saw synthetic ones tells how like they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import mitoses
import numpy as np

from napari_metastasis.cohorts.point_crops import PointCrop
from napari_metastasis.sampling.point_mosaics import PointMosaics
from napari_metastasis.settings import MitosisMapSettings
from napari_metastasis.synthetic import LOOKALIKES, MITOSES, Palette, draw_lookalike, draw_mitosis, paint_figure

SEED = 77


@dataclass(frozen=True, slots=True)
class InTheMiddle:
    """Draws one figure into the middle of each strip; all of them are points here, mitoses or not."""

    draw: Callable[..., object]
    kind: str

    @property
    def identity(self) -> str:
        """Return the kind."""
        return self.kind

    def painted(self, crop: PointCrop, mpp: float, generator: np.random.Generator) -> PointCrop:
        """Return a crop with a figure, whose point it is."""
        image, middle = crop.image.copy(), len(crop.image) // 2
        if not crop.known.all():
            return crop
        palette = Palette.of(image, crop.known, mpp)
        paint_figure(image, self.draw(generator, mpp, self.kind), palette, middle, middle, mpp, generator)
        return PointCrop(image, crop.known, np.full((1, 2), middle + 0.5))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mitoses.asked_for(parser, "validation")
    arguments = parser.parse_args()
    model, network, crops = mitoses.loaded(arguments)
    spec = model.spec
    indices = crops.of_slides(mitoses.parts_of(crops)[arguments.part])
    show = partial(
        PointMosaics,
        crops,
        indices,
        round(spec.mpp / crops.mpp),
        mitoses.PIECES.crops_a_side,
        spec.built.field_px // 2,
        round(crops.side_px / 2 - mitoses.PIECES.edge_um / crops.mpp),
        MitosisMapSettings(),
        SEED,
    )
    drawn = [("synthetic mitosis", draw_mitosis, kind) for kind in MITOSES]
    drawn += [("synthetic look-alike", draw_lookalike, kind) for kind in LOOKALIKES]
    shown = [("real mitoses", show(0.0))]
    shown += [(f"{what}: {kind}", show(1.0, painter=InTheMiddle(draw, kind))) for what, draw, kind in drawn]
    print("| | shown | found |\n|---|---|---|")
    for name, mosaics in shown:
        found, _ = mitoses.outcomes(
            [mosaics], partial(mitoses.answered, network, spec.cell_px), mitoses.SCORING.radius_um
        )
        counts = np.sum([one.counts_at(spec.threshold) for one in found], axis=0)
        print(f"| {name} | {counts[0] + counts[2]} | {counts[0] / (counts[0] + counts[2]):.2f} |", flush=True)


if __name__ == "__main__":
    main()
