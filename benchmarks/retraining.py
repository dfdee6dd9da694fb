"""What 20 corrections are worth: chosen where the model is least sure, and at random.

    python benchmarks/retraining.py regions DATA FOLDER --model MODEL [--seeds 2 3 …] [--corrections 20] [-- OPTIONS]
    python benchmarks/retraining.py synthetic DATA FOLDER --model MODEL …

DATA holds ``regions/`` (``images`` and ``masks``) and ``pcam_valid.zip``; MODEL is a detector that has seen neither.
The fields, regions or synthetic slides, are halved anew for each seed: corrections are taken from one half, and figures
are of the other. A correction is a square of 5 x 5 native cells, outlined by the masks as somebody would draw it; at
most twice as many are taken from a field as an even share, and none nearer than 8 cells to another. Uncertain ones are
those whose mean log-odds lie nearest to 0. The model is retrained by the code of ``retrain``; what stands behind the
dashes is handed to it. On the synthetic cohort, the upper layers of MODEL are spoilt by noise first.
"""

from __future__ import annotations

import argparse
import csv
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
import torch
from mosaic import write_mosaic
from numpy.typing import NDArray
from pixels import pixel_probabilities
from sklearn.metrics import roc_auc_score

from napari_metastasis.annotations import Correction, Corrections, CorrectionStore
from napari_metastasis.cohorts.cohort import read_cohort
from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.cohorts.reference import open_reference
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region
from napari_metastasis.models import Detector, read_model, save_model
from napari_metastasis.models.replay import REPLAY_SUFFIX, read_replay, write_replay
from napari_metastasis.models.tuning import LowerLayers, TunedNetwork, lower_sha256
from napari_metastasis.settings import ScanSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.scan import ScanJob, scan_slide

CELLS, APART, EVEN = 5, 8, 2
#: Less of a square than this is not drawn.
LEAST = 0.02
#: Slides of the synthetic cohort, and how much its model is spoilt.
SLIDES, NOISE = 12, 0.5
MPP = 0.7
#: Patches of pcam_valid, evenly spaced: all of them take three minutes a model.
PATCHES, BATCH = 800, 16


@dataclass(frozen=True, eq=False)
class Field:
    """A part of a slide whose tumour is known.

    Attributes
    ----------
    slide
        The slide.
    place
        Level-0 pixels.
    tumour
        (rows, columns): which of them are tumour.
    """

    slide: Path
    place: Region
    tumour: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's probabilities on a slide, and where they lie."""

    probabilities: NDArray[np.float32]
    frame: HeatmapFrame


@dataclass(frozen=True)
class Square:
    """A place that could be corrected."""

    field: int
    region: Region
    row: int
    column: int
    log_odds: float


def scanned(model: Path, slide: Path, output: Path, *, tissue_only: bool) -> Answers:
    """Return a model's answers on a slide."""
    scan = ScanSettings(dense_coefficient=1, tissue_only=tissue_only)
    result = scan_slide(ScanJob(slide=slide, model=str(model), scan=scan, output=output / f"{slide.stem}.metastasis"))
    return Answers(result.probabilities, result.frame)


def squares(fields: Sequence[Field], answers: Mapping[Path, Answers]) -> list[Square]:
    """Return all squares of cells that lie within a field and were answered."""
    found = []
    for number, one in enumerate(fields):
        frame, probabilities = answers[one.slide].frame, answers[one.slide].probabilities
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


def corrections_of(squares: Sequence[Square], fields: Sequence[Field]) -> dict[Path, list[Correction]]:
    """Return what somebody would draw on each slide: the tumour of each square, and the rest of it as normal."""
    drawn: dict[Path, list[Correction]] = {}
    for square in squares:
        field, box = fields[square.field], square.region
        part = field.tumour[
            box.y - field.place.y : box.bottom - field.place.y, box.x - field.place.x : box.right - field.place.x
        ]
        tumour = outlined(part, box)
        whole = shapely.box(box.x, box.y, box.right, box.bottom)
        for area, label in ((tumour, "tumour"), (whole.difference(tumour), "normal")):
            if area.area > LEAST * whole.area:
                one = Correction(key=Correction.new_key(), label=label, shape_px=area)
                drawn.setdefault(field.slide, []).append(one)
    return drawn


def outlined(mask: NDArray[np.bool_], box: Region) -> shapely.Geometry:
    """Return the outlines of a small mask, whose corner is that of the box."""
    rows = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate(([False], row, [False])).astype(np.int8)))
        rows += [shapely.box(a, y, b, y + 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    area = shapely.union_all(rows)
    return shapely.transform(area, lambda corners: corners + np.array([box.x, box.y]))


def pixel_auc(fields: Sequence[Field], answers: Mapping[Path, Answers]) -> float:
    """Return the AUC over all pixels of fields, of those that were answered."""
    labels, scores = [], []
    for one in fields:
        own = answers[one.slide]
        answered = np.nan_to_num(np.where(np.isfinite(own.probabilities), 1.0, 0.0)).astype(np.float32)
        inside = pixel_probabilities(answered, own.frame, one.place) > 0.5
        labels.append(one.tumour[inside])
        scores.append(pixel_probabilities(own.probabilities, own.frame, one.place)[inside])
    return float(roc_auc_score(np.concatenate(labels), np.concatenate(scores)))


def region_fields(data: Path, folder: Path) -> list[Field]:
    """Return the regions, which lie on one slide."""
    slide = folder / "regions.tif"
    mosaic = write_mosaic(data / "regions", slide, mpp=MPP)
    return [Field(slide, place, mask) for place, mask in zip(mosaic.places, mosaic.masks, strict=True)]


def synthetic_fields(folder: Path) -> list[Field]:
    """Return the slides of a synthetic cohort, 2 mm on a side, two thirds of them with tumour."""
    cohort = folder / "cohort"
    side = ("--width-px", "2048", "--height-px", "2048", "--normal-share", "0.34", "--seed", "17")
    options = ("--slides", str(SLIDES), *side, "--macro", "0", "--micro", "1", "--itc", "0", "--test-share", "0")
    command = [sys.executable, "-m", "napari_metastasis", "sample", "cohort", str(cohort), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    fields = []
    for one in read_cohort(cohort, validation_share=0.0, seed=0).slides:
        with open_slide(one.path) as slide:
            reference = open_reference(one.annotation, slide=slide.size, bounds=slide.bounds, tumour_value=255)
            whole = Region.of(slide.size)
            frame = ModelFrame(scale=1.0, mpp=slide.mpp, size=slide.size)
            fields.append(Field(one.path, whole, reference.over(frame, whole)))
    return fields


def weakened(model: Path, folder: Path) -> Path:
    """Return a detector whose upper layers were spoilt by noise, with its earlier patches beside it."""
    detector = read_model(model)
    network = detector.network
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in network.layers[network.tuned_from :]:
            for weight in layer.parameters():
                if weight.ndim > 1:
                    weight.add_(NOISE * weight.std() * torch.randn(weight.shape, generator=generator))
    path = folder / "weak.safetensors"
    save_model(path, network, replace(detector.spec, name="weak"), detector.card)
    replay = read_replay(model.with_suffix(REPLAY_SUFFIX))
    if replay is not None:
        write_replay(path.with_suffix(REPLAY_SUFFIX), replay)
    return path


class Patches:
    """Some patches of pcam_valid, as the lower layers of a detector encode them: most retrained ones share these.

    Parameters
    ----------
    model
        The detector.
    data
        Holds ``pcam_valid.zip``.
    """

    def __init__(self, model: Detector, data: Path) -> None:
        self._source = open_patches(data / "pcam_valid.zip")
        self._numbers = np.linspace(0, len(self._source) - 1, PATCHES).astype(int).tolist()
        self.labels = self._source.labels[self._numbers]
        self._lower, self._features = lower_sha256(model), self._encoded(model)

    def _encoded(self, model: Detector) -> torch.Tensor:
        spec = model.spec
        margin = (spec.field_px - spec.patch_px) // 2
        gray = np.rint(255 * np.array(spec.mean)).astype(np.uint8)
        lower = LowerLayers(model)
        parts = []
        for first in range(0, len(self._numbers), BATCH):
            some = self._numbers[first : first + BATCH]
            images = np.full((len(some), spec.field_px, spec.field_px, 3), gray, np.uint8)
            inner = slice(margin, margin + spec.patch_px)
            for image, number in zip(images, some, strict=True):
                image[inner, inner] = self._source.read(number)
            parts.append(lower(torch.from_numpy(images).permute(0, 3, 1, 2).float()).permute(0, 3, 1, 2))
        return torch.cat(parts)

    @torch.no_grad()
    def auc(self, model: Detector) -> float:
        """Return the AUC of a detector."""
        features = self._features if lower_sha256(model) == self._lower else self._encoded(model)
        network = TunedNetwork(model).eval()
        log_odds = torch.cat([network.log_odds(part) for part in features.split(BATCH)])[:, 0, 0]
        return float(roc_auc_score(self.labels, log_odds.numpy()))


def main() -> None:
    """Measure, and print a line for each retraining."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("regions", "synthetic"))
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7, 8, 9], help="0 to 4 chose the defaults")
    parser.add_argument("--corrections", type=int, default=20)
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    given = parser.parse_args(own)
    folder: Path = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    synthetic = given.what == "synthetic"
    fields = synthetic_fields(folder) if synthetic else region_fields(given.data, folder)
    model = weakened(given.model, folder) if synthetic else given.model
    patches = Patches(read_model(model), given.data)
    slides = list(dict.fromkeys(one.slide for one in fields))
    before = {slide: scanned(model, slide, folder / "base", tissue_only=synthetic) for slide in slides}
    candidates = squares(fields, before)
    with (folder / "retraining.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("seed", "chosen", "outlines", "auc before", "auc now", "patches before", "patches now"))
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
                drawn = corrections_of(chosen(pool, order, given.corrections), fields)
                results = []
                for slide, said in drawn.items():
                    results.append(folder / "base" / f"{slide.stem}.metastasis")
                    store = CorrectionStore(results[-1])
                    store.read()
                    store.save(Corrections.of(said))
                run = folder / f"{name}-{seed}"
                command = [sys.executable, "-m", "napari_metastasis", "retrain", *map(str, results)]
                command += ["--model", str(model), "--name", "retrained", "--output", str(run), "--no-keep"]
                subprocess.run([*command, "--held-out-share", "0", *options], check=True, stdout=subprocess.DEVNULL)
                new = run / "retrained.safetensors"
                now = {
                    slide: scanned(new, slide, run, tissue_only=synthetic)
                    for slide in dict.fromkeys(one.slide for one in judged)
                }
                figures = (pixel_auc(judged, before), pixel_auc(judged, now))
                figures += (patches.auc(read_model(model)), patches.auc(read_model(new)))
                row = (seed, name, sum(map(len, drawn.values())), *(f"{figure:.4f}" for figure in figures))
                writer.writerow(row)
                stream.flush()
                print(*row, flush=True)


if __name__ == "__main__":
    main()
