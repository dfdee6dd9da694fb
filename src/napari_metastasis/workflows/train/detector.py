"""How a detector is trained, as the command line knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_metastasis.settings import MiningSettings, NetworkSettings
from napari_metastasis.workflows.train.declaration import (
    AUGMENTATION,
    CLUSTER,
    MINING,
    PATCHES,
    SLIDES,
    TRAINING,
    Chosen,
    OptionGroup,
    TrainingDeclaration,
)

if TYPE_CHECKING:
    from napari_metastasis.training.tasks.detect import DetectorTask

__all__ = ["DETECTOR"]


def _make(chosen: Chosen) -> DetectorTask:
    from napari_metastasis.models import check_fully_convolutional
    from napari_metastasis.training.initial_weights import load_initial_weights
    from napari_metastasis.training.mosaic import Surroundings
    from napari_metastasis.training.tasks.detect import DetectorTask, patch_spec

    network: NetworkSettings = chosen.groups["network"]
    check_fully_convolutional(network.architecture)
    with chosen.fetching() as progress:
        initial = load_initial_weights(network.initial, progress=progress) if network.initial else None
    spec = patch_spec(chosen.name, network.architecture, network.mpp, initial, reads=network.input)
    surroundings = Surroundings(network.margin_share, network.margin_cells, network.gap_cells)
    mining: MiningSettings = chosen.groups["mining"]
    return DetectorTask(spec, initial, surroundings, network.stochastic_depth, mining.hard_normals)


DETECTOR = TrainingDeclaration(
    help="""Train Fast ScanNet on slides, on patches, or on both, and keep the model by its name.

    On slides, general training is followed by rounds of hard-negative mining. A run that was stopped goes on when the
    same command is run again.
    """,
    prefix="scannet",
    make=_make,
    groups=(
        TRAINING,
        OptionGroup("network", NetworkSettings, "Training"),
        AUGMENTATION,
        *SLIDES,
        MINING,
        CLUSTER,
        PATCHES,
    ),
    former="scannet",
)
