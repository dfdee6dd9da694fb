"""How a segmenter is trained, as the command line knows it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from napari_metastasis.settings import (
    BoostingSettings,
    MiningSettings,
    SegmenterSettings,
    TileAugmentSettings,
    TileSamplingSettings,
    TileTrainSettings,
)
from napari_metastasis.workflows.train.declaration import (
    AUGMENTATION,
    MINING,
    SLIDES,
    TRAINING,
    Chosen,
    OptionGroup,
    TrainingDeclaration,
)

if TYPE_CHECKING:
    from napari_metastasis.training.tasks.segment import SegmentTask

__all__ = ["SEGMENTER"]


def _make(chosen: Chosen) -> SegmentTask:
    from napari_metastasis.models import ModelSpec, SegmenterSpec
    from napari_metastasis.training.initial_weights import load_initial_weights
    from napari_metastasis.training.tasks.segment import segment_task

    network: SegmenterSettings = chosen.groups["network"]
    known = (SegmenterSpec.task, ModelSpec.task)
    with chosen.fetching() as progress:
        initial = load_initial_weights(network.initial, tasks=known, progress=progress) if network.initial else None
    return segment_task(chosen.name, network, chosen.groups["boosting"], initial)


#: Its parts, for slides: which are taken, and which patches of them.
_SAMPLING, _SPLITS = SLIDES

SEGMENTER = TrainingDeclaration(
    help="""Train a segmenter: outlines of tumour from the pixels of slides (Khalil et al. 2022).

    General training is followed by rounds of boosting, in which tiles that the model gets wrong are drawn more often
    and varied more. Other decoders and encoders are there to compare with. A run that was stopped goes on when the same
    command is run again.
    """,
    prefix="focus",
    make=_make,
    groups=(
        replace(TRAINING, group=TileTrainSettings, leave_out=("tie_orientations", "label_smoothing")),
        OptionGroup("network", SegmenterSettings, "Network", flags={"batch_norm": "--batch-norm/--no-batch-norm"}),
        OptionGroup("boosting", BoostingSettings, "Boosting"),
        replace(
            AUGMENTATION,
            group=TileAugmentSettings,
            leave_out=("affine_share", "mixup", "magnification_min", "magnification_max"),
        ),
        replace(_SAMPLING, group=TileSamplingSettings),
        _SPLITS,
        replace(MINING, leave_out=tuple(each.name for each in fields(MiningSettings))),
    ),
)
