"""How well a network that is trained on maps of points finds mitotic figures, on slides that it never saw.

    python benchmarks/mitoses.py CROPS.zip CROPS.csv [--mpp 0.5] [--minutes 5] [--json]

Crops are mosaics, each shifted at random, turned, and mirrored at its edges. A fifth of the slides tells the threshold,
another fifth is measured at it, within 7.5 µm, one to one.

Every crop holds a figure, and never far from its middle, which a slide's tissue does not. A network that sees where
crops end can guess that. Therefore as many pieces without one are measured as well: a corner of each crop, mirrored
until it fills a crop. Nothing like it is learnt from. "blind" is the F1 of the middles of all crops that hold a figure.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from scipy import ndimage

from napari_metastasis.cohorts.point_crops import PointCrop, PointCrops, open_point_crops
from napari_metastasis.evaluation.point_matching import PointOutcome, match_points, point_figures
from napari_metastasis.geometry import SYMMETRIES
from napari_metastasis.lesions.peaks import suppress
from napari_metastasis.models import SegmentationNetwork, begin_with, build_segmentation
from napari_metastasis.models.initial import InitialWeights, load_initial
from napari_metastasis.models.nets.segmentation import LITE_UNET, SegmentationArchitecture
from napari_metastasis.sampling.point_mosaics import PointMosaic, PointMosaics
from napari_metastasis.settings import AugmentSettings, PointMapSettings, PointScoringSettings
from napari_metastasis.training.augment import Augmenter
from napari_metastasis.training.losses import point_map_cross_entropy

#: µm per pixel of MIDOG's and TUPAC16's crops.
CROP_MPP = 0.25
#: Side of a mosaic in crops of 128 px, mosaics of a step, and how far crops are shifted: a figure stays 8 µm inside.
SIDE_PX, BATCH, SHIFT_PX = 512, 1, 32
#: Share of the pixels of a map that are near a point, with which training begins: from one half, it would spend its
#: first steps on learning that points are rare.
RARE = 0.02
#: Largest learning rate of what begins at random, of the trunk as a share of it, and the share of time that it rises.
RATE, TRUNK_SHARE, WARM_UP, DECAY = 2e-3, 0.3, 0.1, 0.01
#: Apart from each other, so that no point of one crop is near one of another.
APART_PX = 1000
#: A corner without the figure in the middle, which is 6 µm away or more, and how far any other is.
CORNER_PX, AROUND_PX = 40, 24
THRESHOLDS = np.arange(0.05, 0.95, 0.01).round(2).tolist()
LEAST = THRESHOLDS[0]


def split(crops: PointCrops, seed: int) -> tuple[list[str], list[str], list[str]]:
    """Return the slides that are learnt from, those that tell the threshold, and those that are measured."""
    slides = np.random.default_rng(seed).permutation(sorted(set(crops.slides))).tolist()
    fifth = len(slides) // 5
    return slides[2 * fifth :], slides[fifth : 2 * fifth], slides[:fifth]


def normalised(image: torch.Tensor, initial: InitialWeights) -> torch.Tensor:
    """Return images in 0..1 as the network takes them."""
    assert initial.mean is not None
    assert initial.std is not None
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (initial.mean, initial.std))
    return ((image - mean) / std).contiguous(memory_format=torch.channels_last)


def log_odds(network: SegmentationNetwork, images: torch.Tensor) -> torch.Tensor:
    """Return the log-odds of π, N x h x w float32, of normalised images."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images)
    return logits[:, 1].float() - logits[:, 0].float()


def pixels_of(mosaics: list[PointMosaic]) -> torch.Tensor:
    """Return images in 0..1, N x 3 x H x W."""
    return torch.from_numpy(np.stack([one.image for one in mosaics])).permute(0, 3, 1, 2).float() / 255


def trained(mosaics: PointMosaics, initial: InitialWeights, arguments: argparse.Namespace) -> SegmentationNetwork:
    """Return a network that learnt for as long as it may."""
    torch.manual_seed(arguments.seed)
    network = build_segmentation(SegmentationArchitecture(encoder=LITE_UNET, decoder="u-net"))
    known = begin_with(network, initial)
    score = network.get_submodule("score")
    assert isinstance(score.bias, torch.Tensor)
    with torch.no_grad():
        score.bias.copy_(torch.tensor([1 - RARE, RARE]).log())
    network = network.to(memory_format=torch.channels_last).train()
    # As segmenters are trained: few crops say little of all tissue, and the trunk's own means are well known.
    network.get_submodule("trunk").eval()
    groups = [
        {"params": [p for name, p in network.named_parameters() if (name in known) is of_trunk], "share": share}
        for of_trunk, share in ((True, TRUNK_SHARE), (False, 1.0))
    ]
    optimiser = torch.optim.AdamW(groups, lr=RATE, weight_decay=DECAY)
    augment = Augmenter(AugmentSettings(affine_share=0.0), arguments.seed, turn=False)
    begun, step, losses = time.perf_counter(), 0, list[float]()
    while (share := (time.perf_counter() - begun) / (60 * arguments.minutes)) < 1:
        rate = share / WARM_UP if share < WARM_UP else (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2
        for group in optimiser.param_groups:
            group["lr"] = RATE * group["share"] * rate
        drawn = [mosaics.mosaic(BATCH * step + place) for place in range(BATCH)]
        found = log_odds(network, normalised(augment(pixels_of(drawn), step), initial))
        pi, is_known = (
            torch.from_numpy(np.stack(each))
            for each in ([one.probability for one in drawn], [one.known for one in drawn])
        )
        loss = point_map_cross_entropy(found, pi, is_known, foreground=arguments.foreground)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        step += 1
        if step % 20 == 0:
            print(
                f"step {step}, {share:.0%} of the time, loss {np.mean(losses[-20:]):.4f}", file=sys.stderr, flush=True
            )
    arguments.steps = step
    return network.eval()


def found_points(probability: np.ndarray, radius_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest pixels of a map, none within a radius of a higher one: (n, 2) as (x, y), and n."""
    smooth = ndimage.gaussian_filter(probability, radius_px / 10)
    highest = (ndimage.maximum_filter(smooth, 3) == smooth) & (smooth >= LEAST)
    rows, columns = np.nonzero(highest)
    order = np.argsort(-smooth[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    kept = suppress(rows.astype(float), columns.astype(float), shape=probability.shape, radius=radius_px)
    rows, columns = rows[kept], columns[kept]
    return np.stack([columns + 0.5, rows + 0.5], axis=1), smooth[rows, columns]


class Emptied(PointCrops):
    """Corners of crops, mirrored until they fill one: tissue that holds no figure."""

    def read(self, index: int) -> PointCrop:
        """Return a corner, which one by the crop's number; it is not known where another figure lies near it."""
        crop = super().read(index)
        turn = SYMMETRIES[index % len(SYMMETRIES)]
        xy = turn.move(crop.xy, self.side_px)
        margin = (0, self.side_px - CORNER_PX)
        image, known = (turn.apply(each)[:CORNER_PX, :CORNER_PX] for each in (crop.image, crop.known))
        is_empty = not (xy < CORNER_PX + AROUND_PX).all(axis=1).any()
        return PointCrop(
            np.pad(image, (margin, margin, (0, 0)), mode="symmetric"),
            np.pad(known, (margin, margin), mode="symmetric") & is_empty,
            np.empty((0, 2)),
        )


Finder = Callable[[PointMosaics], Iterator[tuple[PointMosaic, np.ndarray, np.ndarray]]]


def outcomes(parts: Sequence[PointMosaics], finder: Finder, radius_um: float) -> tuple[list[PointOutcome], float]:
    """Return what was found on each slide, once in each of its crops, and the mm² of tissue that were looked at."""
    of_slide: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    mm2 = 0.0
    for part, mosaics in enumerate(parts):
        for one, places, probability in finder(mosaics):
            mm2 += int(one.known.sum()) * mosaics.mpp**2 / 1e6
            on_tissue = one.known[tuple(places.astype(int).T[::-1])]
            xy, sure = places[on_tissue], probability[on_tissue]
            for row, column in np.argwhere(one.crops >= 0):
                crop, corner = int(one.crops[row, column]), np.array([column, row]) * mosaics.cell_px
                move = np.array([crop, part]) * APART_PX - corner
                inside, its = (((e >= corner) & (e < corner + mosaics.cell_px)).all(axis=1) for e in (xy, one.xy))
                of_slide.setdefault(mosaics.source.slides[crop], []).append(
                    (xy[inside] + move, sure[inside], one.xy[its] + move)
                )
    found = []
    for slide, its_crops in sorted(of_slide.items()):
        points, sure, reference = (np.concatenate(each) for each in zip(*its_crops, strict=True))
        found.append(
            match_points(
                slide, found=points, probability=sure, reference=reference, mpp=parts[0].mpp, radius_um=radius_um
            )
        )
    return found, mm2


def blind(mosaics: PointMosaics) -> Iterator[tuple[PointMosaic, np.ndarray, np.ndarray]]:
    """Yield each mosaic with the middles of its crops."""
    for number in range(len(mosaics)):
        one = mosaics.mosaic(number)
        middles = (np.argwhere(one.crops >= 0)[:, ::-1] + 0.5) * mosaics.cell_px
        yield one, middles, np.ones(len(middles))


def answered(
    network: SegmentationNetwork, initial: InitialWeights, radius_um: float, mosaics: PointMosaics
) -> Iterator[tuple[PointMosaic, np.ndarray, np.ndarray]]:
    """Yield each mosaic with the points that a network finds, and how sure it is."""
    for number in range(len(mosaics)):
        one = mosaics.mosaic(number)
        with torch.inference_mode():
            probability = log_odds(network, normalised(pixels_of([one]), initial)).sigmoid()[0].numpy()
        yield one, *found_points(probability, radius_um / mosaics.mpp)


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Train, choose the threshold, and return what was measured."""
    crops = open_point_crops(arguments.crops, arguments.table, mpp=CROP_MPP)
    shrink = round(arguments.mpp / CROP_MPP)
    architecture = SegmentationArchitecture(encoder=LITE_UNET, decoder="u-net")
    cells = SIDE_PX * shrink // crops.side_px
    maps, scoring = PointMapSettings(decay_per_um=arguments.decay), PointScoringSettings()
    field = architecture.field_px // 2
    parts = [
        PointMosaics(crops, crops.of_slides(slides), shrink, cells, field, SHIFT_PX, maps, arguments.seed)
        for slides in split(crops, arguments.seed)
    ]
    emptied = Emptied(crops.pictures, crops.slides, crops.xy, crops.mpp, crops.side_px)
    initial = load_initial(arguments.initial)
    network = trained(parts[0], initial, arguments)
    finder = partial(answered, network, initial, scoring.radius_um)
    # Each with as many pieces that hold no figure.
    validation, tested = ([part, replace(part, source=emptied)] for part in parts[1:])
    told = point_figures(outcomes(validation, finder, scoring.radius_um)[0], THRESHOLDS, scoring)
    best = max(told, key=lambda each: each.f1.value)
    (guessed,) = point_figures(outcomes(tested[:1], blind, scoring.radius_um)[0], [best.threshold], scoring)
    (alone,) = point_figures(outcomes(tested[:1], finder, scoring.radius_um)[0], [best.threshold], scoring)
    found, _ = outcomes(tested, finder, scoring.radius_um)
    (at_best,) = point_figures(found, [best.threshold], scoring)
    empty, mm2 = outcomes(tested[1:], finder, scoring.radius_um)
    in_empty = sum(each.counts_at(best.threshold)[1] for each in empty)
    return {
        "mpp": parts[0].mpp,
        "minutes": arguments.minutes,
        "steps": arguments.steps,
        "crops": [len(part.indices) for part in parts],
        "slides": [len(each) for each in split(crops, arguments.seed)],
        "validation_f1": best.f1.value,
        "threshold": best.threshold,
        "hits": at_best.hits,
        "false_positives": at_best.false_positives,
        "misses": at_best.misses,
        **{
            name: [estimate.value, estimate.low, estimate.high]
            for name, estimate in (("precision", at_best.precision), ("recall", at_best.recall), ("f1", at_best.f1))
        },
        "f1_of_crops_with_a_figure": alone.f1.value,
        "blind_f1_of_crops_with_a_figure": guessed.f1.value,
        "false_positives_per_mm2_without_figures": in_empty / mm2,
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", help="folder or zip of crops")
    parser.add_argument("table", help="their table: file, source, slide, x, y")
    parser.add_argument("--mpp", type=float, default=0.5, help="resolution, of network and map: 0.25 or 0.5")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long it learns")
    parser.add_argument("--decay", type=float, default=0.4, help="how fast π falls, 1/µm")
    parser.add_argument("--foreground", type=float, default=5.0, help="what a pixel at a point counts")
    parser.add_argument("--initial", default="metastasis-lite", help="model whose trunk it begins with")
    parser.add_argument("--seed", type=int, default=2017)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    found = measure(arguments)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
