"""How a refiner is trained, as the command line knows it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_metastasis.settings import EncoderSettings, GridSettings, SpatialAugmentSettings, SpatialTrainSettings
from napari_metastasis.workflows.train.declaration import (
    AUGMENTATION,
    CLUSTER,
    MINING,
    SLIDES,
    TRAINING,
    Chosen,
    OptionGroup,
    TrainingDeclaration,
)

if TYPE_CHECKING:
    from napari_metastasis.training.tasks.refine import RefinerTask, RefinerWithEncoderTask

__all__ = ["REFINER"]


def _check(chosen: Chosen) -> None:
    encoder: EncoderSettings = chosen.groups["encoder"]
    if encoder.learns:
        what = f"an encoder that is trained along ({encoder.encoder})"
        chosen.refuse(("encoder_dense_coefficient", "mining_", "settings_kept_crops"), what)
    else:
        chosen.refuse(("encoder_initial", "encoder_mpp"), f"a finished model ({encoder.encoder})")


def _make(chosen: Chosen) -> RefinerTask | RefinerWithEncoderTask:
    from napari_metastasis.models import load_detector, load_initial
    from napari_metastasis.training.tasks.detect import patch_spec
    from napari_metastasis.training.tasks.refine import encoder_name, refiner_behind, refiner_with_encoder

    encoder: EncoderSettings = chosen.groups["encoder"]
    grid: GridSettings = chosen.groups["grid"]
    if not encoder.learns:
        detector = load_detector(encoder.encoder)
        alpha = encoder.dense_coefficient or detector.spec.dense_coefficient
        return refiner_behind(detector, chosen.name, grid, alpha)
    with chosen.fetching() as progress:
        initial = load_initial(encoder.initial, progress=progress) if encoder.initial else None
    spec = patch_spec(encoder_name(chosen.name), encoder.encoder, encoder.mpp, initial)
    return refiner_with_encoder(spec, chosen.name, grid, initial)


REFINER = TrainingDeclaration(
    help="""Train a refiner: an LSTM that reads every patch together with its neighbours (Zheng et al. 2022).

    The defaults are the paper's. A run that was stopped goes on when the same command is run again.
    """,
    prefix="spatial",
    check=_check,
    make=_make,
    groups=(
        replace(TRAINING, group=SpatialTrainSettings, leave_out=("tie_orientations", "label_smoothing")),
        OptionGroup("encoder", EncoderSettings),
        OptionGroup("grid", GridSettings, "Grids", flags={"residual": "--residual/--no-residual"}),
        replace(AUGMENTATION, group=SpatialAugmentSettings, leave_out=("affine_share",)),
        *SLIDES,
        replace(MINING, leave_out=("mining_epochs", "mining_rate", "hard_normals")),
        CLUSTER,
    ),
    former="spatial",
)
