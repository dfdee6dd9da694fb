"""How well a model finds mitotic figures, on slides that it never saw, in tissue that mostly holds none.

    python benchmarks/mitoses.py CROPS.zip CROPS.csv [--model mitosis-lite] [--part test] [--slide SLIDE …]
        [--seeds SEED …] [--json]

The slides are split as `train mitosis` splits them. Pieces lie side by side: crops that are shifted at random, up to
2 µm from the figure in them, within what mirrors them; and as many in which a strip without a figure, mirrored, fills
the crop instead. Points are found as in a scan, at the model's own threshold, which is for tissue, and at the one that
is best in the validation slides' pieces. They are matched within 7.5 µm, one to one. Intervals are of 2,000 resamples
of slides.

"blind" is who marks the middle of every piece. "rare" is F1 where figures are as rare as in tissue, 15 in a mm²: pieces
hold hundreds, and what is found besides is counted as often as it would be in as much tissue as holds them. Of a slide
that nobody labelled, what is found is counted for each mm² of tissue.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from napari_metastasis.annotations.point_matching import PointOutcome, match_points
from napari_metastasis.cohorts.point_crops import PointCrops, open_point_crops, split_slides
from napari_metastasis.evaluation.point_matching import point_figures
from napari_metastasis.evaluation.resampling import Estimate, Resamples, estimate
from napari_metastasis.geometry import Region
from napari_metastasis.models import MitosisModel, load_model
from napari_metastasis.models.segmenter import SegmentingNetwork
from napari_metastasis.sampling.point_mosaics import PointMosaic, PointMosaics
from napari_metastasis.settings import (
    MitosisMapSettings,
    PieceSettings,
    PointCropSettings,
    PointScoringSettings,
    PointSplitSettings,
    setting_of,
)
from napari_metastasis.slides import open_slide, tissue_mask
from napari_metastasis.training.point_metric import THRESHOLDS, map_points

#: Apart from each other, so that no point of one piece is near one of another.
APART_PX = 100_000
PIECES, SCORING = PieceSettings(), PointScoringSettings()
#: Of how pieces are shown: each crop twice, otherwise each time, half of them without a figure.
MIXED = (31, 32)
#: Of a slide, in model pixels, answered at once.
TILE_PX = 1024

#: Yields each mosaic with the points that are found in it, as (x, y) from the corner of its middle, and how surely.
Finder = Callable[[PointMosaics], Iterator[tuple[PointMosaic, np.ndarray, np.ndarray]]]


@dataclass(slots=True)
class Seen:
    """What was found on one slide, and of what; places are moved apart."""

    found: list[np.ndarray] = field(default_factory=list)
    sure: list[np.ndarray] = field(default_factory=list)
    reference: list[np.ndarray] = field(default_factory=list)
    #: Of what was found where no figure is.
    besides: list[np.ndarray] = field(default_factory=list)
    mm2: float = 0.0
    empty_mm2: float = 0.0

    def outcome(self, slide: str, mpp: float, radius_um: float) -> PointOutcome:
        """Return what was found of it."""
        found, sure, reference = (np.concatenate(each) for each in (self.found, self.sure, self.reference))
        return match_points(slide, found=found, probability=sure, reference=reference, mpp=mpp, radius_um=radius_um)


def parts_of(crops: PointCrops) -> dict[str, tuple[str, ...]]:
    """Return the slides of each part, as `train mitosis` has them by default."""
    splits, (test_share, _) = PointSplitSettings(), setting_of(PointCropSettings, "test_share")
    parts = split_slides(
        crops.slides, validation_share=splits.validation_share, test_share=test_share, seed=splits.split_seed
    )
    return dict(zip(("train", "validation", "test"), parts, strict=True))


def shown(
    crops: PointCrops, slides: Sequence[str], *, shrink: int, margin_px: int, empty_share: float, seed: int
) -> PointMosaics:
    """Return the pieces of some slides."""
    shift = round(crops.side_px / 2 - PIECES.edge_um / crops.mpp)
    cells = PIECES.crops_a_side
    return PointMosaics(
        crops, crops.of_slides(slides), shrink, cells, margin_px, shift, MitosisMapSettings(), seed, empty_share,
        PIECES.clear_um,
    )  # fmt: skip


def outcomes(parts: Sequence[PointMosaics], finder: Finder, radius_um: float) -> tuple[list[PointOutcome], list[Seen]]:
    """Return what was found on each slide, once in each of its pieces, and of how much of it."""
    of_slide: dict[str, Seen] = {}
    for part, mosaics in enumerate(parts):
        for one, places, probability in finder(mosaics):
            on_tissue = one.known[tuple(places.astype(int).T[::-1])]
            xy, sure = places[on_tissue], probability[on_tissue]
            for row, column in np.argwhere(one.crops >= 0):
                crop, corner = int(one.crops[row, column]), np.array([column, row]) * mosaics.cell_px
                move = np.array([crop, part]) * APART_PX - corner
                inside, its = (((e >= corner) & (e < corner + mosaics.cell_px)).all(axis=1) for e in (xy, one.xy))
                seen = of_slide.setdefault(mosaics.source.slides[crop], Seen())
                seen.found.append(xy[inside] + move)
                seen.sure.append(sure[inside])
                seen.reference.append(one.xy[its] + move)
                rows, columns = (slice(at, at + mosaics.cell_px) for at in corner[::-1])
                mm2 = int(one.known[rows, columns].sum()) * mosaics.mpp**2 / 1e6
                seen.mm2 += mm2
                if not its.any():
                    seen.empty_mm2 += mm2
                    seen.besides.append(sure[inside])
    slides = sorted(of_slide)
    return [of_slide[slide].outcome(slide, parts[0].mpp, radius_um) for slide in slides], [
        of_slide[slide] for slide in slides
    ]


def blind(mosaics: PointMosaics) -> Iterator[tuple[PointMosaic, np.ndarray, np.ndarray]]:
    """Yield each mosaic with the middles of its pieces."""
    for number in range(len(mosaics)):
        one = mosaics.mosaic(number)
        middles = (np.argwhere(one.crops >= 0)[:, ::-1] + 0.5) * mosaics.cell_px
        yield one, middles, np.ones(len(middles))


def answered(
    network: torch.nn.Module, cell_px: int, mosaics: PointMosaics
) -> Iterator[tuple[PointMosaic, np.ndarray, np.ndarray]]:
    """Yield each mosaic with the points that a network finds, which answers cells of so many pixels."""
    for number in range(len(mosaics)):
        one = mosaics.mosaic(number)
        yield one, *points_of(network, one.image, cell_px, mosaics.mpp)


def points_of(network: torch.nn.Module, image: np.ndarray, cell_px: int, mpp: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the points that a network finds in an image, (x, y) from the corner of its middle, and how surely."""
    raw = torch.from_numpy(image).permute(2, 0, 1)[None].float().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        cells = network(raw)[0].float().numpy()
    xy, sure = map_points(cells, SCORING.radius_um / (mpp * cell_px))
    return xy * cell_px, sure


def where_rare(found: Sequence[PointOutcome], mm2: Sequence[float], threshold: float, per_mm2: float) -> Estimate:
    """Return F1 where so many figures lie in a mm², of pieces that hold more."""
    counts = np.column_stack([[one.counts_at(threshold) for one in found], mm2]).astype(np.float64)

    def measure(drawn: np.ndarray) -> np.ndarray:
        hits, false, misses, area = (drawn @ counts).T
        more = (hits + misses) / area / per_mm2
        return (2 * hits / (2 * hits + false * more + misses))[:, None]

    return estimate(measure, Resamples(np.zeros(len(found), np.int64), SCORING.resamples, SCORING.seed), width=4)[0]


def for_pieces(validation: PointMosaics, finder: Finder) -> float:
    """Return the threshold with the highest F1 in pieces themselves, of slides that are not measured."""
    told_by = point_figures(
        outcomes([validation], finder, SCORING.radius_um)[0], THRESHOLDS.tolist(), replace(SCORING, resamples=100)
    )
    return max(told_by, key=lambda each: each.f1.value).threshold


def measure(
    crops: PointCrops,
    slides: Sequence[str],
    finder: Finder,
    *,
    threshold: float,
    shrink: int,
    margin_px: int,
    mixed: Sequence[int] = MIXED,
) -> dict[str, Any]:
    """Return what a model finds in pieces of some slides, each crop shown once for each seed in ``mixed``."""
    show = partial(shown, crops, shrink=shrink, margin_px=margin_px, empty_share=0.5)
    dense = for_pieces(show(parts_of(crops)["validation"], seed=MIXED[0]), finder)
    parts = [show(slides, seed=seed) for seed in mixed]
    found, seen = outcomes(parts, finder, SCORING.radius_um)
    (in_pieces,) = point_figures(found, [dense], SCORING)
    (at,) = point_figures(found, [threshold], SCORING)
    (by_chance,) = point_figures(outcomes(parts, blind, SCORING.radius_um)[0], [threshold], SCORING)
    mm2, empty_mm2 = [one.mm2 for one in seen], sum(one.empty_mm2 for one in seen)
    besides = sum(int((sure >= threshold).sum()) for one in seen for sure in one.besides)
    expected = PIECES.expected_per_mm2
    return {
        "threshold_for_pieces": dense,
        **{f"{name}_at_that": told(getattr(in_pieces, name)) for name in ("f1", "precision", "recall")},
        "slides": len(found),
        "figures": sum(one.points for one in found),
        "threshold": threshold,
        "hits_false_misses": [at.hits, at.false_positives, at.misses],
        **{name: told(getattr(at, name)) for name in ("f1", "precision", "recall")},
        "blind_f1": round(by_chance.f1.value, 3),
        f"f1_at_{expected:g}_per_mm2": told(where_rare(found, mm2, threshold, expected)),
        "false_per_mm2": round(at.false_positives / sum(mm2), 1),
        "false_per_mm2_without_figures": round(besides / empty_mm2, 1),
        "mm2_in_all_and_without_figures": [round(sum(mm2), 3), round(empty_mm2, 3)],
    }


def on_slide(model: MitosisModel, network: torch.nn.Module, named: str) -> dict[str, Any]:
    """Return how many points are found on a slide, ``path`` or ``path@mpp``, for each mm² of its tissue."""
    spec = model.spec
    margin, count, places = spec.built.field_px // 2, 0, []
    path, _, mpp = named.partition("@")
    with open_slide(path, float(mpp) if mpp else None) as slide:
        frame, tissue = slide.frame(spec.mpp), tissue_mask(slide)
        size = frame.size
        for y in range(0, size.height, TILE_PX):
            for x in range(0, size.width, TILE_PX):
                side = TILE_PX + 2 * margin
                image = slide.read(frame, Region(x - margin, y - margin, side, side))
                xy, sure = points_of(network, image, spec.cell_px, spec.mpp)
                xy = xy[sure >= spec.threshold] + (x, y)
                cells = (xy * frame.scale / tissue.frame.downsample).astype(int)
                inside = (cells < tissue.mask.shape[::-1]).all(axis=1)
                kept = xy[inside][tissue.mask[tuple(cells[inside].T[::-1])]]
                count += len(kept)
                places += kept.round().astype(int).tolist()
        mm2 = tissue.mask.sum() * (tissue.frame.downsample * slide.mpp / 1e3) ** 2
    return {"found": count, "mm2": round(float(mm2), 3), "per_mm2": round(count / mm2, 2), "places": places}


def asked_for(parser: argparse.ArgumentParser, part: str) -> None:
    """Let a command name crops, their table, a model, and which slides; those of ``part`` by default."""
    parser.add_argument("crops", help="folder or zip of crops")
    parser.add_argument("table", help="their table: file, source, slide, x, y")
    parser.add_argument("--model", default="mitosis-lite", help="a mitosis model's name or file")
    parser.add_argument("--part", default=part, choices=("train", "validation", "test"))


def loaded(arguments: argparse.Namespace) -> tuple[MitosisModel, SegmentingNetwork, PointCrops]:
    """Return the model that is asked for, its network as a scan asks it, and the crops."""
    model = load_model(arguments.model, "mitosis")
    assert isinstance(model, MitosisModel)
    crops = open_point_crops(arguments.crops, arguments.table, mpp=setting_of(PointCropSettings, "crops_mpp")[0])
    return model, SegmentingNetwork(model.network.eval(), model.spec), crops


def told(one: Estimate) -> list[float]:
    """Return a figure with both ends of its interval."""
    return [round(value, 3) for value in (one.value, one.low, one.high)]


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked_for(parser, "test")
    parser.add_argument(
        "--slide", action="append", default=[], help="an unlabelled slide, PATH or PATH@MPP; again for more"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=MIXED, help="of how crops are shown: once for each of these"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    model, network, crops = loaded(arguments)
    spec = model.spec
    found = measure(
        crops,
        parts_of(crops)[arguments.part],
        partial(answered, network, spec.cell_px),
        threshold=spec.threshold,
        shrink=round(spec.mpp / crops.mpp),
        margin_px=spec.built.field_px // 2,
        mixed=arguments.seeds,
    )
    found |= {path: on_slide(model, network, path) for path in arguments.slide}
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
