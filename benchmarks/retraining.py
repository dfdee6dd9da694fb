"""What 20 corrections are worth: chosen where the model is least sure, and at random.

    python benchmarks/retraining.py regions DATA FOLDER --model MODEL [--seeds 2 3 …] [--corrections 20] [-- OPTIONS]
    python benchmarks/retraining.py synthetic DATA FOLDER --model MODEL …

DATA holds ``regions/`` (``images`` and ``masks``) and ``pcam_valid.zip``; MODEL is a detector that has seen neither.
The fields, regions or synthetic slides, are halved anew for each seed: corrections are taken from one half, and figures
are of the other. A correction is a square of 5 x 5 native cells, outlined by the masks as somebody would draw it; at
most twice as many are taken from a field as an even share, and none nearer than 8 cells to another. Uncertain ones are
those whose mean log-odds lie nearest to 0. The model is retrained by the code of ``retrain``; what stands behind the
dashes is handed to it.
"""

from __future__ import annotations

import argparse
import csv
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
import torch
from mosaic import write_mosaic
from numpy.typing import NDArray
from pixels import pixel_probabilities
from sklearn.metrics import roc_auc_score

from napari_metastasis.annotations import Correction, Corrections, CorrectionStore
from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.geometry import HeatmapFrame, Region
from napari_metastasis.models import Detector, read_model
from napari_metastasis.models.tuning import LowerLayers, TunedNetwork
from napari_metastasis.settings import ScanSettings
from napari_metastasis.workflows.scan import ScanJob, scan_slide

CELLS, APART, EVEN = 5, 8, 2
MPP = 0.7
#: Patches of pcam_valid, evenly spaced: all of them take three minutes a model.
PATCHES, BATCH = 800, 16


@dataclass(frozen=True, eq=False)
class Field:
    """A part of a slide whose tumour is known.

    Attributes
    ----------
    place
        Level-0 pixels.
    tumour
        (rows, columns): which of them are tumour.
    """

    place: Region
    tumour: NDArray[np.bool_]


@dataclass(frozen=True)
class Square:
    """A place that could be corrected."""

    field: int
    region: Region
    row: int
    column: int
    log_odds: float


def scanned(model: Path, slide: Path, output: Path) -> tuple[NDArray[np.float32], HeatmapFrame]:
    """Return a model's probabilities on a slide, and where they lie."""
    scan = ScanSettings(dense_coefficient=1, tissue_only=False)
    result = scan_slide(ScanJob(slide=slide, model=str(model), scan=scan, output=output))
    return result.probabilities, result.frame


def squares(fields: Sequence[Field], probabilities: NDArray[np.float32], frame: HeatmapFrame) -> list[Square]:
    """Return all squares of cells that lie within a field."""
    found = []
    for number, one in enumerate(fields):
        cells = frame.cells_over(one.place)
        for row in range(cells.y, cells.bottom - CELLS + 1, 2):
            for column in range(cells.x, cells.right - CELLS + 1, 2):
                corner = frame.cell_corner(column, row)
                side = round(CELLS * frame.cell_px)
                region = Region(round(corner.x), round(corner.y), side, side)
                inside = probabilities[row : row + CELLS, column : column + CELLS].astype(np.float64)
                if one.place.contains(region) and np.isfinite(inside).all():
                    inside = inside.clip(1e-6, 1 - 1e-6)
                    odds = float(np.log(inside / (1 - inside)).mean())
                    found.append(Square(number, region, row, column, odds))
    return found


def chosen(candidates: Sequence[Square], order: NDArray[np.int64], count: int) -> list[Square]:
    """Return the first squares in an order that lie apart, and not too many in one field."""
    most = math.ceil(EVEN * count / len({one.field for one in candidates}))
    taken: list[Square] = []
    for number in order.tolist():
        one = candidates[number]
        own = [other for other in taken if other.field == one.field]
        apart = all(max(abs(one.row - other.row), abs(one.column - other.column)) >= APART for other in own)
        if apart and len(own) < most:
            taken.append(one)
            if len(taken) == count:
                break
    return taken


def corrections_of(squares: Sequence[Square], fields: Sequence[Field]) -> Corrections:
    """Return what somebody would draw: the tumour of each square, and the rest of it as normal."""
    drawn = []
    for square in squares:
        field, box = fields[square.field], square.region
        part = field.tumour[
            box.y - field.place.y : box.bottom - field.place.y, box.x - field.place.x : box.right - field.place.x
        ]
        tumour = outlined(part, box)
        whole = shapely.box(box.x, box.y, box.right, box.bottom)
        for area, label in ((tumour, "tumour"), (whole.difference(tumour), "normal")):
            if area.area > 0.02 * whole.area:
                drawn.append(Correction(key=Correction.new_key(), label=label, shape_px=area))
    return Corrections.of(drawn)


def outlined(mask: NDArray[np.bool_], box: Region) -> shapely.Geometry:
    """Return the outlines of a small mask, whose corner is that of the box."""
    rows = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate(([False], row, [False])).astype(np.int8)))
        rows += [shapely.box(a, y, b, y + 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    area = shapely.union_all(rows)
    return shapely.transform(area, lambda corners: corners + np.array([box.x, box.y]))


def pixel_auc(fields: Sequence[Field], probabilities: NDArray[np.float32], frame: HeatmapFrame) -> float:
    """Return the AUC over all pixels of fields."""
    scores = np.concatenate([pixel_probabilities(probabilities, frame, one.place).ravel() for one in fields])
    return float(roc_auc_score(np.concatenate([one.tumour.ravel() for one in fields]), scores))


class Patches:
    """Some patches of pcam_valid, as the lower layers of a detector encode them: retrained ones share these.

    Parameters
    ----------
    model
        The detector.
    data
        Holds ``pcam_valid.zip``.
    """

    def __init__(self, model: Detector, data: Path) -> None:
        source = open_patches(data / "pcam_valid.zip")
        numbers = np.linspace(0, len(source) - 1, PATCHES).astype(int).tolist()
        self.labels = source.labels[numbers]
        spec = model.spec
        margin = (spec.field_px - spec.patch_px) // 2
        gray = np.rint(255 * np.array(spec.mean)).astype(np.uint8)
        lower = LowerLayers(model)
        parts = []
        for first in range(0, len(numbers), BATCH):
            some = numbers[first : first + BATCH]
            images = np.full((len(some), spec.field_px, spec.field_px, 3), gray, np.uint8)
            inner = slice(margin, margin + spec.patch_px)
            for image, number in zip(images, some, strict=True):
                image[inner, inner] = source.read(number)
            parts.append(lower(torch.from_numpy(images).permute(0, 3, 1, 2).float()).permute(0, 3, 1, 2))
        self.features = torch.cat(parts)

    @torch.no_grad()
    def auc(self, model: Detector) -> float:
        """Return the AUC of a detector that shares the lower layers."""
        network = TunedNetwork(model).eval()
        logits = torch.cat([network(part) for part in self.features.split(BATCH)])[:, :, 0, 0]
        tumour = model.spec.tumour_class
        return float(roc_auc_score(self.labels, (logits[:, tumour] - logits[:, 1 - tumour]).numpy()))


def main() -> None:
    """Measure, and print a line for each retraining."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("regions",))
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4, 5, 6], help="0 and 1 chose the defaults")
    parser.add_argument("--corrections", type=int, default=20)
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    given = parser.parse_args(own)
    given.folder.mkdir(parents=True, exist_ok=True)
    slide = given.folder / "regions.tif"
    mosaic = write_mosaic(given.data / "regions", slide, mpp=MPP)
    fields = [Field(place, mask) for place, mask in zip(mosaic.places, mosaic.masks, strict=True)]
    base = given.folder / "base"
    before, frame = scanned(given.model, slide, base)
    patches = Patches(read_model(given.model), given.data)
    candidates = squares(fields, before, frame)
    table = given.folder / "retraining.csv"
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("seed", "chosen", "places", "auc before", "auc now", "patches before", "patches now"))
        for seed in given.seeds:
            generator = np.random.default_rng(seed)
            halves = generator.permutation(len(fields))
            mine, other = set(halves[: len(fields) // 2].tolist()), halves[len(fields) // 2 :].tolist()
            pool = [one for one in candidates if one.field in mine]
            orders = {
                "uncertain": np.argsort([abs(one.log_odds) for one in pool], kind="stable"),
                "random": generator.permutation(len(pool)),
            }
            judged = [fields[number] for number in other]
            for name, order in orders.items():
                taken = chosen(pool, order, given.corrections)
                corrections = corrections_of(taken, fields)
                store = CorrectionStore(base)
                store.read()
                store.save(corrections)
                run = given.folder / f"{name}-{seed}"
                command = [sys.executable, "-m", "napari_metastasis", "retrain", str(base), "--model", str(given.model)]
                command += ["--name", "retrained", "--output", str(run), "--no-keep", "--held-out-share", "0"]
                subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
                new = run / "retrained.safetensors"
                now, _ = scanned(new, slide, run / "scan")
                line = (
                    pixel_auc(judged, before, frame), pixel_auc(judged, now, frame),
                    patches.auc(read_model(given.model)), patches.auc(read_model(new)),
                )  # fmt: skip
                row = (seed, name, len(corrections), *(f"{figure:.4f}" for figure in line))
                writer.writerow(row)
                stream.flush()
                print(*row, flush=True)


if __name__ == "__main__":
    main()
