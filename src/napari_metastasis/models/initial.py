"""Initial weights for training: an earlier model's, or ImageNet's under torchvision's names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_metastasis.errors import UnknownModelError, WeightsError, first_line
from napari_metastasis.models.checkpoint_file import check_tensors, read_checkpoint
from napari_metastasis.models.detector import Detector
from napari_metastasis.models.fetch import PublishedWeights, fetch_weights, weights_folder
from napari_metastasis.models.imagenet import (
    EFFICIENTNET_LITE0_IMAGENET,
    LITE_MEAN,
    LITE_STD,
    installed_weights,
    is_lite,
    of_lite,
)
from napari_metastasis.models.inputs import NetworkInput, usual_normalisation
from napari_metastasis.models.nets.architectures import PatchNetwork
from napari_metastasis.models.nets.efficientnet_lite import EfficientNetLite
from napari_metastasis.models.nets.segmentation import SegmentationNetwork
from napari_metastasis.models.segmenter import Segmenter
from napari_metastasis.models.weights_file import MOST_BYTES, read_tensors
from napari_metastasis.models.zoo import load_model, model_task
from napari_metastasis.settings import PUBLISHED_STAINS
from napari_metastasis.storage import home_path, read_at_most
from napari_metastasis.tasks import DETECT

__all__ = ["RESNET34_IMAGENET", "VGG16_IMAGENET", "InitialWeights", "begin_with", "contract_of_input", "load_initial"]

#: Names of ImageNet's weights on the command line.
VGG16_IMAGENET, RESNET34_IMAGENET = "vgg16-imagenet", "resnet34-imagenet"
#: Their publisher writes the hash's beginning into the file's name.
_PUBLISHED = {
    VGG16_IMAGENET: PublishedWeights(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    RESNET34_IMAGENET: PublishedWeights(
        "https://download.pytorch.org/models/resnet34-b627a593.pth",
        sha256="b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    ),
}

#: What torchvision's networks expect of red, green and blue in 0..1.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
#: How names of parameters begin: of a VGG's and a ResNet's convolutions, and of classifiers.
_FEATURES, _RESNET = "features.", "layer1."
_CLASSIFIERS = ("classifier.", "fc.", "head.", "cells.", "gather.", "classify.", "last.")


@dataclass(frozen=True, slots=True, eq=False)
class InitialWeights:
    """Weights that a network begins with: all of them, or those of its convolutions.

    Attributes
    ----------
    name
        As the model card names them.
    sha256
        Of their file.
    state
        Tensors by the name that they have in the network.
    mean, std
        Normalisation that they were trained with; ``None`` where it is the spec's own.
    architecture
        The network that they are complete for; ``None`` where the classifier is missing.
    """

    name: str
    sha256: str
    state: Mapping[str, Tensor]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    architecture: str | None = None

    @classmethod
    def of(cls, model: Detector | Segmenter) -> InitialWeights:
        """Return a model's weights."""
        spec = model.spec
        return cls(spec.name, model.weights_sha256, model.network.state_dict(), spec.mean, spec.std, spec.architecture)


def load_initial(
    name: str | Path, *, tasks: tuple[str, ...] = (DETECT,), progress: Callable[[int, int], None] | None = None
) -> InitialWeights:
    """Return initial weights by name or path.

    Parameters
    ----------
    name
        A model's name or .safetensors file with its card; a file of VGG16 or ResNet weights under torchvision's names
        (.pth, .pt or .safetensors), or of an EfficientNet-lite's; :data:`VGG16_IMAGENET` or :data:`RESNET34_IMAGENET`,
        which are fetched once; or :data:`~napari_metastasis.models.imagenet.EFFICIENTNET_LITE0_IMAGENET`, from its
        installed distribution.
    tasks
        Of models that may be begun with: detectors and segmenters alone.
    progress
        Of the fetching, in bytes.

    Raises
    ------
    UnknownModelError
        If there is no such model or file.
    WeightsError
        If the file is damaged, holds other weights, or cannot be fetched.
    ModelError
        If the model is for another task.
    """
    if str(name) == EFFICIENTNET_LITE0_IMAGENET:
        return _imagenet(installed_weights())
    if str(name) in _PUBLISHED:
        return _imagenet(fetch_weights(_PUBLISHED[str(name)], folder=weights_folder(), progress=progress))
    path = home_path(name)
    if path.is_file() and not path.with_suffix(".json").exists():
        return _imagenet(path)
    try:
        model = load_model(name, None if model_task(name) in tasks else tasks[0])
        assert isinstance(model, Detector | Segmenter)
        return InitialWeights.of(model)
    except UnknownModelError as error:
        known = " or ".join((*_PUBLISHED, EFFICIENTNET_LITE0_IMAGENET))
        raise UnknownModelError(f"{error}; or {known}, or a file of such weights (.pth)") from error


def _imagenet(path: Path) -> InitialWeights:
    """Return the weights in a file of ImageNet's without the classifier, whose classes are ImageNet's."""
    if path.suffix == ".safetensors":
        try:
            data = read_at_most(path, MOST_BYTES)
            found, sha256 = read_tensors(data), hashlib.sha256(data).hexdigest()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise WeightsError(f"expected a file of tensors, got {reason} in {path}; fetch the file again") from error
    else:
        found, sha256 = read_checkpoint(path)
    state = check_tensors(found, path)
    kept = {key: value for key, value in state.items() if not key.startswith(_CLASSIFIERS)}
    if any(key.startswith("head.") for key in state):
        raise WeightsError(f"expected VGG16 weights, got a model without its card in {path}; keep the .json beside it")
    if is_lite(kept):
        return InitialWeights(path.stem, sha256, of_lite(kept), LITE_MEAN, LITE_STD)
    if not any(key.startswith((_FEATURES, _RESNET)) for key in kept):
        raise WeightsError(
            f"expected VGG16 weights under torchvision's names ({_FEATURES}0.weight …), a ResNet's or an "
            f"EfficientNet-lite's, got {first_line(', '.join(list(state)[:3]))} in {path}; choose another file"
        )
    return InitialWeights(path.stem, sha256, kept, _IMAGENET_MEAN, _IMAGENET_STD)


@torch.no_grad()
def begin_with(network: PatchNetwork | SegmentationNetwork, initial: InitialWeights) -> frozenset[str]:
    """Copy initial weights into a network; layers that they do not name stay as they are.

    A segmentation network begins with all weights of a segmenter of its own architecture, and else with the encoder of
    whatever has the same one: another segmenter, a detector, or ImageNet's. Filters of red, green and blue begin those
    of a network that reads dyes (:func:`_of_channels`).

    Returns
    -------
    Names of the tensors that were copied.

    Raises
    ------
    WeightsError
        If they do not fit the network.
    """
    own = network.state_dict()
    state = {
        name: _of_channels(tensor, own[name].shape) if name in own else tensor
        for name, tensor in _placed(network, initial).items()
    }
    for name, tensor in state.items():
        if name not in own or own[name].shape != tensor.shape:
            expected = list(own[name].shape) if name in own else "no such layer"
            raise WeightsError(
                f"expected initial weights that fit the network ({name}: {expected}), "
                f"got {list(tensor.shape)} in {initial.name}; choose another initial model or architecture"
            )
    needed = [name for name in own if not isinstance(network, SegmentationNetwork) or network.place_of(name)]
    if initial.architecture is None or isinstance(network, SegmentationNetwork):
        # Older files lack the counters of batches, which change no answer.
        beside = (*_CLASSIFIERS, "num_batches_tracked")
        missing = sorted(
            name for name in needed if not name.startswith(beside) and not name.endswith(beside) and name not in state
        )
        if missing:
            raise WeightsError(
                f"expected weights of every convolution, got none for {missing[0]} in {initial.name}; "
                "choose another initial model or architecture"
            )
    network.load_state_dict(state, strict=False)
    return frozenset(state)


def contract_of_input(reads: str, initial: InitialWeights | None) -> dict[str, Any]:
    """Return what a contract says of what a network reads: normalised as its initial weights were, as far as they say.

    Parameters
    ----------
    reads
        One of :data:`~napari_metastasis.settings.INPUTS`.
    initial
        Weights that training begins with.
    """
    own = None if initial is None or initial.mean is None or initial.std is None else (initial.mean, initial.std)
    channels = NetworkInput(reads).channels
    mean, std = own if own and len(own[0]) == channels else usual_normalisation(reads, own)
    # What is brought to the dyes of a reference is brought to those of the published one.
    target = {"stain_matrix": PUBLISHED_STAINS} if reads == "normalised" else {}
    return {"mean": mean, "std": std, "input": reads, **target}


def _of_channels(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Return the first layer's filters of red, green and blue, F x 3 x k x k, for the channels of another input.

    Dyes beside colours begin without a say. Dyes alone, which darken all three, begin with what these say together, the
    other way round, halved.
    """
    fits = tensor.ndim == len(shape) == 4 and tensor.shape[1] == 3 and tensor.shape[2:] == shape[2:]
    if not fits or shape[1] == 3 or tensor.shape[0] != shape[0]:
        return tensor
    more = shape[1] - 3
    if more > 0:
        return torch.cat([tensor, tensor.new_zeros(len(tensor), more, *shape[2:])], dim=1)
    return (-tensor.sum(dim=1, keepdim=True) / shape[1]).expand(-1, shape[1], -1, -1).clone()


def _placed(network: PatchNetwork | SegmentationNetwork, initial: InitialWeights) -> dict[str, Tensor]:
    """Return the tensors that a network may begin with, by the names that they have in it."""
    if not isinstance(network, SegmentationNetwork):
        return {name: tensor for name, tensor in initial.state.items() if not _is_behind(name, network)}
    if initial.architecture == network.architecture.name:
        return dict(initial.state)
    places = {name: network.place_of(name) for name in initial.state}
    return {place: initial.state[name] for name, place in places.items() if place is not None}


def _is_behind(name: str, network: PatchNetwork) -> bool:
    """Return whether a tensor belongs behind the layer that a trunk is cut at."""
    if not isinstance(network, EfficientNetLite):
        return False
    part, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    return part == "trunk" and number.isdecimal() and int(number) >= len(network.trunk)
