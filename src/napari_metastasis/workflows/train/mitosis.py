"""How a network that finds mitoses is trained, as the command line knows it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_metastasis.errors import SettingsError, TrainingError
from napari_metastasis.settings import (
    CohortSettings,
    MitosisAugmentSettings,
    MitosisMapSettings,
    MitosisNetworkSettings,
    MitosisTrainSettings,
    PieceSettings,
    PointCropSettings,
    PointSplitSettings,
)
from napari_metastasis.workflows.train.declaration import (
    AUGMENTATION,
    CROPS,
    SLIDES,
    TRAINING,
    Chosen,
    OptionGroup,
    TrainingDeclaration,
)

if TYPE_CHECKING:
    from napari_metastasis.cohorts.cohort import Split
    from napari_metastasis.cohorts.point_crops import PointCrops
    from napari_metastasis.sampling.batches import BatchSource
    from napari_metastasis.sampling.point_mosaics import PointMosaics
    from napari_metastasis.training.tasks.base import TrainingTask
    from napari_metastasis.training.tasks.mitosis import MitosisTask

__all__ = ["MITOSIS"]

#: Crops of validation must not be shown as training shows them, whatever the seed; each is shown so often.
_VALIDATION_SEED, _VALIDATION_PASSES = 1, 2
#: Crops that tell their dyes.
_STAINED_CROPS = 128
_SPLITS: tuple[Split, ...] = ("train", "validation")
#: Within this relative difference, two resolutions are one.
_CLOSE = 0.1

#: Crops, and which of them: to learn from, and to measure on.
_Parts = list[tuple["PointCrops", npt.NDArray[np.int64]]]


def _check(chosen: Chosen) -> None:
    crops: PointCropSettings = chosen.groups[CROPS]
    if chosen.cohort is None and crops.crops is None:
        raise SettingsError("expected --cohort or --crops, got neither; give slides with points, or crops around them")
    if (crops.crops is None) is not (crops.crops_table is None):
        raise SettingsError("expected --crops and --crops-table together, got one of them; give both")


def _make(chosen: Chosen) -> MitosisTask:
    from napari_metastasis.models import MitosisSpec, ModelSpec
    from napari_metastasis.training.initial_weights import load_initial_weights
    from napari_metastasis.training.tasks.mitosis import mitosis_task

    network: MitosisNetworkSettings = chosen.groups["network"]
    known = (MitosisSpec.task, ModelSpec.task)
    with chosen.fetching() as progress:
        initial = load_initial_weights(network.initial, tasks=known, progress=progress) if network.initial else None
    return mitosis_task(chosen.name, network, chosen.groups["pieces"], initial)


def _batches(chosen: Chosen, task: TrainingTask[Any]) -> tuple[BatchSource, BatchSource]:
    """Return mosaics of the crops to learn from, and of those of other slides, always shown alike, to measure on."""
    from napari_metastasis.sampling.point_batches import PointBatches
    from napari_metastasis.sampling.point_mosaics import PointMosaics
    from napari_metastasis.synthetic import FigurePainter

    pieces: PieceSettings = chosen.groups["pieces"]
    drawn = (pieces.synthetic_share, pieces.lookalike_share)
    # What is measured stays real.
    painters = (FigurePainter(*drawn, pieces.clear_um) if any(drawn) else None, None)
    size = chosen.settings.batch_size
    given, shown = _of_crops(chosen), []
    parts = given if chosen.cohort is None else _with_slides(chosen, task, given)
    seeds = (chosen.settings.seed, _VALIDATION_SEED)
    for (crops, indices), seed, painter in zip(parts, seeds, painters, strict=True):
        mosaics = PointMosaics(
            crops,
            indices,
            _shrink(crops, task.spec.mpp),
            pieces.crops_a_side,
            0,
            max(0, math.ceil(crops.side_px / 2 - max(1.0, pieces.edge_um / crops.mpp))),
            chosen.groups["maps"],
            seed,
            pieces.empty_share,
            pieces.clear_um,
            painter,
        )
        shown.append(mosaics)
    training, validation = shown
    stains = _stains(training) if task.network_input.needs_stains else ()
    per_epoch = max(1, pieces.mosaics_per_epoch // size)
    all_of_them = -(-_VALIDATION_PASSES * len(validation) // size)
    return PointBatches(training, size, per_epoch, stains), PointBatches(validation, size, all_of_them, stains)


def _stains(mosaics: PointMosaics) -> tuple[float, ...]:
    """Return the dyes of crops, eight numbers: the middle of those of some, spread over all of them.

    Raises
    ------
    StainError
        If those of half of them cannot be told.
    """
    from napari_metastasis.slides.stains import middle_stain_matrix

    chosen = np.unique(np.linspace(0, len(mosaics.indices) - 1, _STAINED_CROPS).astype(int))
    crops = (mosaics.source.read(int(index)) for index in mosaics.indices[chosen])
    # Black where a slide ended is no dye.
    pixels = (crop.image[crop.known] for crop in crops)
    return middle_stain_matrix(pixels, remedy="take a network that reads colours as they are").numbers


def _of_crops(chosen: Chosen) -> _Parts:
    """Return crops that were cut before, of slides to learn from and to measure on; nothing where there are none."""
    from napari_metastasis.cohorts.point_crops import open_point_crops, split_slides

    given: PointCropSettings = chosen.groups[CROPS]
    splits: CohortSettings = chosen.groups["splits"]
    if given.crops is None or given.crops_table is None:
        return []
    crops = open_point_crops(given.crops, given.crops_table, mpp=given.crops_mpp)
    learnt, validated, _ = split_slides(
        crops.slides,
        validation_share=splits.validation_share,
        test_share=given.test_share,
        seed=splits.split_seed,
    )
    return [(crops, crops.of_slides(part)) for part in (learnt, validated)]


def _with_slides(chosen: Chosen, task: TrainingTask[Any], given: _Parts) -> _Parts:
    """Return crops that are cut from a cohort's slides, with those that were cut before."""
    from napari_metastasis.cohorts.cohort import read_cohort
    from napari_metastasis.cohorts.point_crops import join_crops
    from napari_metastasis.cohorts.point_slides import crops_of_slides

    splits: CohortSettings = chosen.groups["splits"]
    crop_settings: PointCropSettings = chosen.groups[CROPS]
    pieces: PieceSettings = chosen.groups["pieces"]
    assert chosen.cohort is not None
    cohort = read_cohort(
        chosen.cohort, validation_share=splits.validation_share, seed=splits.split_seed, mpp=splits.cohort_mpp or None
    )
    mpp, side_px = task.spec.mpp, 2 * max(1, round(pieces.crop_um / task.spec.mpp / 2))
    if given:
        mpp, side_px = given[0][0].mpp, given[0][0].side_px
    classes = [name.strip() for name in crop_settings.point_classes.split(",") if name.strip()]
    parts = []
    for number, split in enumerate(_SPLITS):
        cut = crops_of_slides(
            cohort.of(split),
            mpp=mpp,
            side_px=side_px,
            classes=classes,
            others=pieces.others_a_slide,
            seed=splits.split_seed,
        )
        if not given:
            parts.append((cut, np.arange(len(cut))))
            continue
        before, indices = given[number]
        joined = join_crops([before, cut]) if len(cut) else before
        parts.append((joined, np.concatenate([indices, np.arange(len(before), len(joined))])))
    remedies = (
        ("to learn from", "name files of points as their annotations, or give --crops as well"),
        # At no threshold would anything be right, so that the lowest would be on the card.
        ("to validate on", "mark slides with points as validation, or give --crops as well"),
    )
    for (one, indices), (what, remedy) in zip(parts, remedies, strict=True):
        if not any(len(one.points_in(int(index))) for index in indices):
            raise TrainingError(f"expected points on the slides {what}, got none in {cohort.origin}; {remedy}")
    return parts


def _shrink(crops: PointCrops, mpp: float) -> int:
    """Return how many pixels of a crop along a side make one of the network's."""
    shrink = max(1, round(mpp / crops.mpp))
    if abs(shrink * crops.mpp / mpp - 1) > _CLOSE:
        raise TrainingError(
            f"expected crops of {mpp:g} µm/px or a whole part of that, got {crops.mpp:g}; choose --mpp {crops.mpp:g}, "
            f"or {2 * crops.mpp:g}"
        )
    return shrink


MITOSIS = TrainingDeclaration(
    help="""Train a network that finds mitoses: from points that somebody set, maps of how near one is (Pearce 2017).

    It learns from crops around points, from slides with points (--cohort), or both, and as much from tissue without
    any: most of a slide holds no mitosis. Slides without annotation show what holds none, such as other organs. The
    threshold is the best one on other slides' crops where mitoses are as rare as in tissue. A run that was stopped goes
    on when the same command is run again.
    """,
    prefix="mitosis",
    make=_make,
    check=_check,
    batches=_batches,
    groups=(
        replace(
            TRAINING,
            group=MitosisTrainSettings,
            leave_out=("tie_orientations", "label_smoothing"),
        ),
        OptionGroup("network", MitosisNetworkSettings, "Network"),
        OptionGroup(CROPS, PointCropSettings, "Crops"),
        OptionGroup("pieces", PieceSettings, "Crops"),
        OptionGroup("maps", MitosisMapSettings, "Crops"),
        replace(
            AUGMENTATION,
            group=MitosisAugmentSettings,
            leave_out=("affine_share", "mixup", "magnification_min", "magnification_max"),
        ),
        replace(SLIDES[1], group=PointSplitSettings),
    ),
)
