"""What corrections of mitoses are worth, and what a model forgets by them.

    python benchmarks/retraining_mitoses.py pieces CROPS.zip CROPS.csv FOLDER [--seeds 5 6 7] [--corrections 40] [-- …]
    python benchmarks/retraining_mitoses.py slide SLIDE CROPS.zip CROPS.csv FOLDER [--seeds 5 6 7] [-- OPTIONS]

pieces: the validation slides of `train mitosis` are halved anew for each seed. The pieces of `mitoses.py` (crops that
are shifted, half of them a strip without a figure) of one half lie side by side on one slide; what a model finds there
is corrected: half of the corrections are the places that it is least sure of, the others figures that it overlooks.
The model is retrained by the code of ``retrain``; what stands behind the dashes is handed to it. Figures are of the
other half, as it is and in the colours in which the corrected half was shown: those of the crops, or with optical
densities of red, green and blue times 0.7, 1.2 and 1.4, blurred by 1.2 px, as another laboratory might have it.

slide: on a slide that nobody labelled, and that is thought to hold no mitosis, all that is found in its left half is
rejected; half as many corrections as above are made in pieces of one half of the validation slides, as they are. What
is found in the slide's right half, and F1 in the pieces of the other half, are told before and after.

F1 is told at the model's own threshold, and the highest one of all thresholds, which tells the ranking alone.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mitoses
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from napari_metastasis.annotations import Correction, Corrections, CorrectionStore
from napari_metastasis.annotations.point_matching import match_points
from napari_metastasis.cohorts.point_crops import PointCrops, open_point_crops
from napari_metastasis.evaluation.point_matching import point_figures
from napari_metastasis.geometry import Size
from napari_metastasis.models import load_model
from napari_metastasis.settings import MitosisSettings, PointScoringSettings, ScanSettings
from napari_metastasis.slides import open_slide, write_pyramid
from napari_metastasis.training.point_metric import THRESHOLDS
from napari_metastasis.workflows.scan import PassRequest, ScanJob, scan_slide

MODEL = "mitosis-lite"
#: What somebody looks at, though the model would not call it one.
CANDIDATE = 0.1
#: How another laboratory's slides look: optical densities of red, green and blue, and a blur, in px.
GAINS, BLUR_PX = (0.7, 1.2, 1.4), 1.2


@dataclass(frozen=True, eq=False)
class Shown:
    """Pieces on one slide, and where their figures lie, (n, 2) of (x, y)."""

    slide: Path
    xy: NDArray[np.float64]
    mpp: float


def elsewhere(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image as another laboratory might have it."""
    density = -np.log(np.maximum(image, 1) / 255) * GAINS
    return np.rint(ndimage.gaussian_filter(255 * np.exp(-density), (BLUR_PX, BLUR_PX, 0))).astype(np.uint8)


def as_it_is(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image."""
    return image


LOOKS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {"as it is": as_it_is, "elsewhere": elsewhere}


def written(crops: PointCrops, slides: Sequence[str], path: Path, look: str) -> Shown:
    """Write the pieces of some slides side by side."""
    shift = round(crops.side_px / 2 - mitoses.PIECES.edge_um / crops.mpp)
    indices = crops.of_slides(slides)
    cells = int(np.ceil(np.sqrt(len(indices))))
    one = mitoses.PointMosaics(
        crops, indices, 1, cells, 0, shift, mitoses.MitosisMapSettings(), mitoses.MIXED[0], 0.5, mitoses.PIECES.clear_um
    ).mosaic(0)
    pixels = LOOKS[look](one.image)
    height, width = pixels.shape[:2]
    write_pyramid(path, pixels, mpp=crops.mpp, size=Size(width, height), compression="deflate")
    return Shown(path, one.xy, crops.mpp)


def scan_of(model: str, slide: Path, output: Path, *, threshold: float = 0.0, tissue_only: bool = False) -> ScanJob:
    """Return a scan for mitoses alone."""
    settings = MitosisSettings(mitosis=True, mitosis_threshold=threshold)
    asked = PassRequest(task="mitosis", settings=settings, model=model)
    return ScanJob(
        slide=slide, passes=(asked,), detects=False, scan=ScanSettings(tissue_only=tissue_only), output=output
    )


def found_on(model: str, slide: Path, output: Path, *, tissue_only: bool = False) -> tuple[NDArray, NDArray]:
    """Return what a model finds on a slide, (x, y) and how surely, down to the candidates."""
    found = scan_slide(scan_of(model, slide, output, threshold=CANDIDATE, tissue_only=tissue_only)).found_mitoses
    assert found is not None
    return found.mitoses.xy, found.mitoses.probability


def figures(model: str, shown: Shown, output: Path) -> list[float]:
    """Return F1 at the model's own threshold, and the highest one of those from a candidate's probability on."""
    xy, sure = found_on(model, shown.slide, output)
    radius = mitoses.SCORING.radius_um
    outcome = match_points("all", found=xy, probability=sure, reference=shown.xy, mpp=shown.mpp, radius_um=radius)
    own = load_model(model, "mitosis").spec.threshold
    thresholds = [own, *(one for one in THRESHOLDS.tolist() if one >= CANDIDATE)]
    told = point_figures([outcome], thresholds, PointScoringSettings(resamples=100))
    f1 = [one.f1.value for one in told]
    return [f1[0], max(f1)]


def corrections_of(shown: Shown, found: tuple[NDArray, NDArray], count: int, seed: int) -> Corrections:
    """Return what somebody says: of what the model is least sure, and of figures that it overlooks."""
    xy, sure = found
    radius = mitoses.SCORING.radius_um / shown.mpp
    own = load_model(MODEL, "mitosis").spec.threshold
    odds = np.abs(np.log(sure / (1 - sure)) - np.log(own / (1 - own)))
    away = np.hypot(*(xy[:, None] - shown.xy[None]).transpose(2, 0, 1))
    overlooked = np.flatnonzero(away[sure >= own].min(axis=0) > radius)
    added = np.random.default_rng(seed).permutation(overlooked)[: count // 2]
    said = [("mitosis", shown.xy[number]) for number in added]
    for number in np.argsort(odds, kind="stable"):
        nearest = int(away[number].argmin())
        if len(said) == count:
            break
        if away[number, nearest] > radius:
            said.append(("not-mitosis", xy[number]))
        elif nearest not in added:
            said.append(("mitosis", shown.xy[nearest]))
    print(f"{sum(label == 'mitosis' for label, _ in said)} mitoses, {len(said)} in all", file=sys.stderr)
    return Corrections.of(
        Correction(key=f"place {number}", label=label, shape_px=shapely.Point(place))
        for number, (label, place) in enumerate(said)
    )


def retrained(results: Sequence[Path], run: Path, options: Sequence[str]) -> str:
    """Return the weights of the model, retrained on corrected results."""
    command = [sys.executable, "-m", "napari_metastasis", "retrain", *map(str, results), "--model", MODEL]
    command += ["--name", "mitosis-retrained", "--output", str(run), "--no-keep", "--held-out-share", "0", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return str(run / "mitosis-retrained.safetensors")


def halved(crops: PointCrops, seed: int) -> tuple[list[str], list[str]]:
    """Return the validation slides in two halves: to correct, and to judge by."""
    slides = mitoses.parts_of(crops)["validation"]
    order = np.random.default_rng(seed).permutation(slides).tolist()
    return order[: len(order) // 2], order[len(order) // 2 :]


def corrected_pieces(crops: PointCrops, slides: Sequence[str], base: Path, look: str, count: int, seed: int) -> Path:
    """Return the result of a slide of pieces that was corrected."""
    mine = written(crops, slides, base / "mine.tif", look)
    result = base / "mine.metastasis"
    scan_slide(scan_of(MODEL, mine.slide, result))
    found = found_on(MODEL, mine.slide, base / "candidates.metastasis")
    say(result, corrections_of(mine, found, count, seed))
    return result


def say(result: Path, said: Corrections) -> None:
    """Store what was said of a result."""
    store = CorrectionStore(result)
    store.read()
    store.save(said)


def of_pieces(crops: PointCrops, folder: Path, seeds: Sequence[int], count: int, options: Sequence[str]) -> None:
    """Print F1 on the half that was not corrected, before and after."""
    with (folder / "retraining.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        names = (f"{what} {when}" for when in ("before", "now") for what in ("f1", "best f1"))
        writer.writerow(("corrected", "seed", "judged", *names))
        for look in LOOKS:
            for seed in seeds:
                mine, theirs = halved(crops, seed)
                base = folder / f"{seed} {look}"
                base.mkdir(exist_ok=True)
                new = retrained([corrected_pieces(crops, mine, base, look, count, seed)], base / "run", options)
                for other in dict.fromkeys((look, "as it is")):
                    judged = written(crops, theirs, base / f"{other}.tif", other)
                    told = [
                        *figures(MODEL, judged, base / f"{other} before.metastasis"),
                        *figures(new, judged, base / f"{other} now.metastasis"),
                    ]
                    row = (look, seed, other, *(f"{one:.3f}" for one in told))
                    writer.writerow(row)
                    stream.flush()
                    print(*row, sep=" | ", flush=True)


def of_slide(
    path: Path, crops: PointCrops, folder: Path, seeds: Sequence[int], count: int, options: Sequence[str]
) -> None:
    """Print what is found in the right half of a slide, before and after all in its left one was rejected."""
    result = folder / "slide.metastasis"
    scan_slide(scan_of(MODEL, path, result, tissue_only=True))
    own = load_model(MODEL, "mitosis").spec.threshold
    xy, sure = found_on(MODEL, path, folder / "candidates.metastasis", tissue_only=True)
    with open_slide(path) as slide:
        middle = slide.size.width / 2
    rejected = [
        Correction(key=f"place {number}", label="not-mitosis", shape_px=shapely.Point(place))
        for number, place in enumerate(xy[(xy[:, 0] < middle) & (sure >= own)])
    ]
    say(result, Corrections.of(rejected))
    print("seed | rejected | right half before | now | f1, best f1 before | now")
    for seed in seeds:
        mine, theirs = halved(crops, seed)
        base = folder / str(seed)
        base.mkdir(exist_ok=True)
        pieces = corrected_pieces(crops, mine, base, "as it is", count // 2, seed)
        new = retrained([result, pieces], base / "run", options)
        again, now = found_on(new, path, base / "slide now.metastasis", tissue_only=True)
        right = [int(((places[:, 0] >= middle) & (how >= own)).sum()) for places, how in ((xy, sure), (again, now))]
        judged = written(crops, theirs, base / "judged.tif", "as it is")
        told = [
            figures(model, judged, base / f"{when}.metastasis") for model, when in ((MODEL, "before"), (new, "now"))
        ]
        texts = [", ".join(f"{one:.3f}" for one in each) for each in told]
        print(seed, len(rejected), *right, *texts, sep=" | ", flush=True)


def main() -> None:
    """Measure, and print a line each."""
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True)
    pieces, slide = (kinds.add_parser(name) for name in ("pieces", "slide"))
    slide.add_argument("slide", type=Path)
    for one in (pieces, slide):
        one.add_argument("crops", help="folder or zip of crops")
        one.add_argument("table", help="their table: file, source, slide, x, y")
        one.add_argument("folder", type=Path)
        one.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7])
        one.add_argument("--corrections", type=int, default=40)
    given = parser.parse_args(own)
    given.folder.mkdir(parents=True, exist_ok=True)
    crops = open_point_crops(given.crops, given.table, mpp=0.25)
    if given.what == "pieces":
        of_pieces(crops, given.folder, given.seeds, given.corrections, options)
    else:
        of_slide(given.slide, crops, given.folder, given.seeds, given.corrections, options)


if __name__ == "__main__":
    main()
