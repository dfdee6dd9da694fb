"""What a run begins with: a model, published weights, or the last epoch of another run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from napari_metastasis.errors import ModelError, WeightsError, first_line
from napari_metastasis.models import (
    InitialWeights,
    MitosisSpec,
    ModelSpec,
    ScanNet,
    SegmenterSpec,
    build_fully_convolutional,
    build_segmentation,
    load_initial,
)
from napari_metastasis.models.checkpoint_file import check_tensors, read_checkpoint
from napari_metastasis.models.inputs import input_of
from napari_metastasis.plain_json import read_json
from napari_metastasis.storage import home_path
from napari_metastasis.tasks import DETECT
from napari_metastasis.training.equivariance import tie_orientations, untie_orientations
from napari_metastasis.training.lightning_setup import SETTINGS

__all__ = ["load_initial_weights"]

#: Where a checkpoint of a :class:`~napari_metastasis.training.tasks.base.TaskModule` has its averaged network.
_AVERAGED = "average.module."


def load_initial_weights(
    name: str | Path, *, tasks: tuple[str, ...] = (DETECT,), progress: Callable[[int, int], None] | None = None
) -> InitialWeights:
    """Return the weights that training begins with.

    Parameters
    ----------
    name
        A run's ``last.ckpt``, in its folder, of which the averaged weights are taken; or whatever
        :func:`~napari_metastasis.models.load_initial` knows.
    tasks
        Of models that may be begun with: detectors and segmenters alone.
    progress
        Of the fetching of published weights, in bytes.

    Raises
    ------
    UnknownModelError
        If there is no such model or file.
    WeightsError
        If the file is damaged, holds other weights, or cannot be fetched.
    """
    path = home_path(name)
    if path.suffix == ".ckpt" and path.is_file():
        return _of_run(path, tasks)
    return load_initial(name, tasks=tasks, progress=progress)


def _of_run(path: Path, tasks: tuple[str, ...]) -> InitialWeights:
    """Return the averaged weights of a run's last epoch, as those of an ordinary network."""
    beside = path.with_name(SETTINGS)
    spec: ModelSpec | SegmenterSpec
    try:
        run = read_json(beside)
        if "decoder" in run["spec"] and {SegmenterSpec.task, MitosisSpec.task} & set(tasks):
            spec, tied = SegmenterSpec.from_json(run["spec"]), False
        else:
            spec, tied = ModelSpec.from_json(run["spec"]), bool(run["settings"]["tie_orientations"])
    except (OSError, ValueError, KeyError, TypeError, ModelError) as error:
        raise WeightsError(
            f"expected the checkpoint of a run with its {SETTINGS} beside it, got {first_line(repr(error))} for "
            f"{path}; give it where the run wrote it"
        ) from error
    network: nn.Module
    if isinstance(spec, SegmenterSpec):
        network = build_segmentation(spec.built)
    else:
        network = build_fully_convolutional(spec.architecture, input_of(spec).channels)
    if tied and isinstance(network, ScanNet):
        tie_orientations(network)
    checkpoint, sha256 = read_checkpoint(path)
    stored = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    averaged = {
        key.removeprefix(_AVERAGED): value
        for key, value in (stored.items() if isinstance(stored, dict) else ())
        if isinstance(key, str) and key.startswith(_AVERAGED)
    }
    try:
        network.load_state_dict(check_tensors(averaged, path))
    except RuntimeError as error:
        raise WeightsError(
            f"expected the checkpoint of a {spec.architecture} network, got {first_line(error)} in {path}; "
            "choose another file"
        ) from error
    if tied and isinstance(network, ScanNet):
        network = untie_orientations(network)
    return InitialWeights(
        f"{spec.name}, unfinished", sha256, network.state_dict(), spec.mean, spec.std, spec.architecture
    )
