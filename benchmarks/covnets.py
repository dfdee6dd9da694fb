"""What losses and ways of mining make of the covnets (Pearce 2017), beside a map network.

    python benchmarks/covnets.py CROPS.zip CROPS.csv [--steps 120] [--json]
    python benchmarks/covnets.py CROPS.zip CROPS.csv --architecture covnet-256 --steps 200 --batch 8

Each learns from the same tiles at 0.25 µm, half of which hold a figure or are near one (π of at least 0.37), for as
many steps; mining begins after half of them. "weights" draws tiles that were answered wrongly twice as often; "negative
feed" goes on with these and a fifth of the others alone, turned and with noise. A tile of 256 px is larger than a crop:
it is four of them, one of which has a figure, or none.

Tile accuracy is of one tile in each crop of the validation and of the test slides, half of them with a figure.
Localisation is that of `mitoses.py`: a dense scan of the same pieces, every 4 px, whose highest answers are matched
within 7.5 µm; its threshold is the best of the validation slides' mixed pieces. The network for 256 px is not scanned
with: each of its answers costs 122 million multiplications.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import mitoses
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_metastasis.cohorts.point_crops import PointCrops, open_point_crops
from napari_metastasis.evaluation.point_matching import point_figures
from napari_metastasis.geometry import ModelFrame, Region, Size
from napari_metastasis.models import build_fully_convolutional, dense_layers
from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.sampling.negative_feed import NegativeFeed
from napari_metastasis.sampling.point_maps import point_map
from napari_metastasis.sampling.point_mosaics import PointMosaics, emptied_crop, shifted_crop
from napari_metastasis.settings import PieceSettings, PointMapSettings, TileAugmentSettings
from napari_metastasis.training.augment import Augmenter
from napari_metastasis.training.losses import boosted_weights, hinge_loss, rare_hinge_loss
from napari_metastasis.training.point_metric import THRESHOLDS

RATE, DECAY = 1e-3, 0.01
TILE_PX = {"covnet-64": 64, "covnet-256": 256}
#: π at the tile's best pixel from which it holds a figure: within 5 µm.
NEAR_PI = 0.37
#: Of the negative feed.
REST_SHARE, NOISE = 0.2, 0.02
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": lambda odds, labels: functional.binary_cross_entropy_with_logits(odds, labels.float()),
    "hinge": partial(hinge_loss, margin=1.0),
    "rare hinge, a = 2": partial(rare_hinge_loss, margin=1.0, rarity=2.0),
}
WAYS = [(loss, "none") for loss in LOSSES] + [("cross-entropy", "weights"), ("cross-entropy", "negative feed")]


class Tiles:
    """A tile of each crop, always the same, every second one without a figure: batches of one."""

    def __init__(self, crops: PointCrops, indices: np.ndarray, tile_px: int, seed: int) -> None:
        cut = part_of_crop if tile_px < crops.side_px else four_crops
        tiles = [cut(crops, indices, number, tile_px, seed) for number in range(len(indices))]
        self.images = np.stack([image for image, _ in tiles])
        self.labels = np.array([label for _, label in tiles], np.int64)
        self.fingerprint, self.batches_per_epoch = str(seed), len(tiles)

    def batch(self, number: int) -> PatchBatch:
        """Return one tile."""
        return PatchBatch.labelled(self.images[number : number + 1], self.labels[number : number + 1])


def part_of_crop(
    crops: PointCrops, indices: np.ndarray, number: int, tile_px: int, seed: int
) -> tuple[np.ndarray, int]:
    """Return a tile of crop ``number``, and whether it is near a figure."""
    pieces, maps, index = PieceSettings(), PointMapSettings(), int(indices[number])
    side, first = crops.side_px, (crops.side_px - tile_px) // 2
    frame = ModelFrame(scale=1.0, mpp=crops.mpp, size=Size(side, side))
    generator = np.random.default_rng([seed, index])
    crop = crops.read(index)
    if number % 2:
        crop = emptied_crop(crop, pieces.clear_um / crops.mpp, generator)
    else:
        reach = tile_px // 2 + round(pieces.edge_um / crops.mpp)
        crop = shifted_crop(crop, *generator.integers(-reach, reach, 2, endpoint=True).tolist())
    inside = slice(first, first + tile_px)
    pi = point_map(crop.xy, frame, Region(first, first, tile_px, tile_px), maps)
    return np.ascontiguousarray(crop.image[inside, inside]), int(pi.max() >= NEAR_PI)


def four_crops(crops: PointCrops, indices: np.ndarray, number: int, tile_px: int, seed: int) -> tuple[np.ndarray, int]:
    """Return crop ``number`` and strips of the three after it, in places that are drawn, and whether a figure is in."""
    pieces = PieceSettings()
    assert tile_px == 2 * crops.side_px
    generator = np.random.default_rng([seed, int(indices[number])])
    reach = crops.side_px // 2 - round(pieces.edge_um / crops.mpp)
    parts, near = [], 0
    for place in range(4):
        crop = crops.read(int(indices[(number + place) % len(indices)]))
        if place == 0 and number % 2 == 0:
            crop = shifted_crop(crop, *generator.integers(-reach, reach, 2, endpoint=True).tolist())
            near = 1
        else:
            crop = emptied_crop(crop, pieces.clear_um / crops.mpp, generator)
        parts.append(crop.image)
    a, b, c, d = (parts[place] for place in generator.permutation(4))
    return np.concatenate([np.concatenate([a, b], axis=1), np.concatenate([c, d], axis=1)]), near


def prepared(images: Tensor) -> Tensor:
    """Return images, N x 3 x H x W in 0..1, as the covnet takes them."""
    return ((images - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)


def odds_of(network: nn.Module, images: Tensor) -> Tensor:
    """Return log-odds of images in 0..1."""
    with torch.autocast("cpu", torch.bfloat16):
        logits: Tensor = network(prepared(images))
    return logits[:, 1].float() - logits[:, 0].float()


def as_float(images: np.ndarray) -> Tensor:
    """Return N x 3 x H x W in 0..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def answers(network: nn.Module, tiles: Tiles) -> np.ndarray:
    """Return which tiles hold a figure, as a network has it."""
    network.eval()
    with torch.inference_mode():
        parts = torch.from_numpy(np.arange(len(tiles.labels))).split(16)
        found = [odds_of(network, as_float(tiles.images[part.numpy()])).flatten() for part in parts]
    network.train()
    return (torch.cat(found) > 0).numpy()


def trained(
    architecture: str, tiles: Tiles, loss: str, mining: str, *, steps: int, batch_size: int, seed: int
) -> nn.Module:
    """Return a covnet after so many steps."""
    torch.manual_seed(seed)
    network = build_fully_convolutional(architecture).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=RATE, total_steps=steps, pct_start=0.2)
    augment = Augmenter(TileAugmentSettings(), seed)
    generator = np.random.default_rng(seed)
    weights, feed = np.ones(len(tiles.labels)), None
    for step in range(steps):
        if step == steps // 2 and mining != "none":
            wrong = answers(network, tiles) != tiles.labels
            print(f"{loss}, {mining}: {wrong.mean():.1%} of the tiles answered wrongly", file=sys.stderr, flush=True)
            if mining == "weights":
                weights = boosted_weights(torch.ones(len(wrong)), torch.from_numpy(wrong).float(), 0.5, 1.0).numpy()
            else:
                feed = NegativeFeed(tiles, wrong, REST_SHARE, NOISE, batch_size, steps, seed)
        if feed is None:
            chosen = generator.choice(len(weights), batch_size, p=weights / weights.sum())
            images, labels = tiles.images[chosen], tiles.labels[chosen]
        else:
            batch = feed.batch(step)
            images, labels = batch.images, batch.labels
        odds = odds_of(network, augment(as_float(images), step)).flatten()
        value = LOSSES[loss](odds, torch.from_numpy(labels))
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return network.eval()


class Dense(nn.Module):
    """A covnet as `mitoses.points_of` asks networks: raw pixels to probabilities of cells of 4 px."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.layers = dense_layers(network, 1).eval().to(memory_format=torch.channels_last)

    def forward(self, raw: Tensor) -> Tensor:
        """Return the probability of a figure, N x h x w."""
        return odds_of(self.layers, raw / 255).sigmoid()


def scanned(network: nn.Module, mosaics: PointMosaics) -> Any:
    """Yield each mosaic with what a dense scan of a covnet finds."""
    yield from mitoses.answered(network, 4, mosaics)


def localised(network: nn.Module, crops: PointCrops, parts: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return F1 by dense scan, its threshold from the validation slides."""
    # Cells of 4 px, the patch of each drawn around its middle: half a tile less half a cell is read on each side.
    margin = TILE_PX["covnet-64"] // 2 - 2
    show = partial(mitoses.shown, crops, shrink=1, margin_px=margin, empty_share=0.5)
    told = point_figures(
        mitoses.outcomes([show(parts["validation"], seed=mitoses.MIXED[0])], partial(scanned, network),
        mitoses.SCORING.radius_um)[0], THRESHOLDS.tolist(), mitoses.SCORING,
    )  # fmt: skip
    best = max(told, key=lambda each: each.f1.value)
    found, seen = mitoses.outcomes(
        [show(parts["test"], seed=mitoses.MIXED[0])], partial(scanned, network), mitoses.SCORING.radius_um
    )
    (at,) = point_figures(found, [best.threshold], mitoses.SCORING)
    rare = mitoses.where_rare(found, [one.mm2 for one in seen], best.threshold, mitoses.PIECES.expected_per_mm2)
    names = ("f1", "precision", "recall")
    return {"threshold": best.threshold, **{n: mitoses.told(getattr(at, n)) for n in names}, "rare": mitoses.told(rare)}


def main() -> None:
    """Train each, measure it, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", help="folder or zip of crops at 0.25 µm")
    parser.add_argument("table", help="their table: file, source, slide, x, y")
    parser.add_argument("--steps", type=int, default=120, help="of training")
    parser.add_argument("--batch", type=int, default=32, help="tiles in a step")
    parser.add_argument("--architecture", default="covnet-64", choices=tuple(TILE_PX))
    parser.add_argument("--only", action="append", help="a loss and a way of mining, 'hinge, none'; again for more")
    parser.add_argument("--seed", type=int, default=2017)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    arguments = parser.parse_args()
    crops = open_point_crops(arguments.crops, arguments.table, mpp=0.25)
    parts = mitoses.parts_of(crops)
    side = TILE_PX[arguments.architecture]
    tiles = {name: Tiles(crops, crops.of_slides(slides), side, arguments.seed) for name, slides in parts.items()}
    for loss, mining in WAYS:
        if arguments.only and f"{loss}, {mining}" not in arguments.only:
            continue
        network = trained(
            arguments.architecture, tiles["train"], loss, mining,
            steps=arguments.steps, batch_size=arguments.batch, seed=arguments.seed,
        )  # fmt: skip
        found: dict[str, Any] = {"loss": loss, "mining": mining}
        for name in ("validation", "test"):
            right = answers(network, tiles[name]) == tiles[name].labels
            found[f"{name}_tile_accuracy"] = round(float(right.mean()), 3)
        network.eval()
        if arguments.architecture == "covnet-64":
            found |= localised(Dense(network), crops, parts)
        text = json.dumps(found) if arguments.json else "| " + " | ".join(map(str, found.values())) + " |"
        print(text, flush=True)


if __name__ == "__main__":
    main()
