"""Weights of known networks under the names that other programs give them, without running anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_metastasis.errors import ModelError, WeightsError, first_line
from napari_metastasis.models.checkpoint_file import check_tensors, read_checkpoint
from napari_metastasis.models.model import without_memory
from napari_metastasis.models.nets.architectures import ARCHITECTURES, PADDED, PatchNetwork, build_network
from napari_metastasis.models.nets.densenet import DENSENETS, TIATOOLBOX
from napari_metastasis.models.nets.resnet import CLASSES
from napari_metastasis.models.weights_file import MOST_BYTES, read_tensors
from napari_metastasis.storage import read_at_most

__all__ = ["NamedState", "network_of", "read_state"]

#: Where TIAToolbox's and MONAI's adapters, which number a ResNet's layers, have them.
_NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_OF_TIATOOLBOX, _OF_MONAI = "feat_extract.", "features."
#: What a whole model's names begin with where it was wrapped, and what a training's file calls its weights.
_WRAPPERS, _HELD_AS = ("module.", "model.", "network."), ("model", "state_dict", "model_state_dict", "network")


class NamedState(dict[str, Tensor]):
    """Tensors under the names that the networks here have.

    Attributes
    ----------
    of_tiatoolbox
        Whether TIAToolbox named them.
    """

    of_tiatoolbox: bool = False


def read_state(path: Path) -> tuple[NamedState, bytes]:
    """Return the weights in a file, safetensors or torch's own, and the file's bytes. No code in it is run.

    Raises
    ------
    WeightsError
        If it is damaged, or holds anything else.
    """
    try:
        data = read_at_most(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise WeightsError(f"expected weights at {path}, got {reason}; fetch the model again") from error
    if path.suffix == ".safetensors":
        try:
            found: object = read_tensors(data)
        except ValueError as error:
            raise WeightsError(f"expected weights at {path}, got {first_line(error)}; fetch the model again") from error
    else:
        found, _ = read_checkpoint(path)
    while isinstance(found, Mapping) and (inner := next((key for key in _HELD_AS if _holds(found, key)), None)):
        found = found[inner]
    return _renamed(check_tensors(found, path)), data


def _holds(found: Mapping[object, object], key: str) -> bool:
    return isinstance(found.get(key), Mapping)


def _renamed(state: Mapping[str, Tensor]) -> NamedState:
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    found = NamedState()
    found.of_tiatoolbox = any(name.startswith(_OF_TIATOOLBOX) for name in state)
    dense = any(".denseblock1." in name for name in state)
    adapted = found.of_tiatoolbox or "fc.weight" in state
    for name, tensor in state.items():
        found[_of_densenet(name) if dense else _of_resnet(name) if adapted else name] = tensor
    for name in ("fc.weight", "fc.bias"):
        # A convolution of one place is a linear layer.
        if name in found and found[name].ndim == 4 and found[name].shape[2:] == (1, 1):
            found[name] = found[name].flatten(1)
    return found


def _of_densenet(name: str) -> str:
    return re.sub(r"^classifier\.", "last.", re.sub(r"^feat_extract\.", "features.", name))


def _of_resnet(name: str) -> str:
    for prefix in (_OF_TIATOOLBOX, _OF_MONAI):
        number, _, rest = name.removeprefix(prefix).partition(".")
        if name.startswith(prefix) and number in _NUMBERED:
            return f"{_NUMBERED[number]}.{rest}"
    return re.sub(r"^classifier\.", "fc.", name)


def network_of(state: NamedState, path: Path, *, said: str = "", tumour_class: int = 1) -> tuple[str, PatchNetwork]:
    """Return the architecture whose weights these are, and its network with them, in evaluation mode.

    Parameters
    ----------
    state
        From :func:`read_state`. Of one answer alone, for tumour, two are made, whose softmax is its sigmoid.
    path
        Of the file, for messages.
    said
        What the file says that it is; empty where it says nothing.
    tumour_class
        Index of tumour, where there is one answer alone.

    Raises
    ------
    ModelError
        If it has more than two classes.
    WeightsError
        If no network here has these weights.
    """
    state = _of_two_classes(state, tumour_class)
    known = [name for name in (*PADDED, *ARCHITECTURES) if (name in DENSENETS) == ("last.weight" in state)]
    if "last.weight" in state:
        known = [name for name in known if name.endswith(TIATOOLBOX) == state.of_tiatoolbox]
    # The one that it says it is comes first: its weights may also fit another of the same layers.
    known.sort(key=lambda name: name != said)
    fits = next((name for name in known if not _difference(name, state)), None)
    if fits is None:
        nearest = said if said in known else ""
        told = (
            _difference(nearest, state)
            if nearest
            else f"{len(state)} tensors ({first_line(', '.join(list(state)[:3]))})"
        )
        wanted = f"a {nearest}'s weights" if nearest else f"weights of {', '.join(PADDED)}"
        raise WeightsError(f"expected {wanted} under torchvision's names, got {told} in {path}; fetch the model again")
    network = build_network(fits)
    network.load_state_dict(
        {name: tensor.to(network.state_dict()[name].dtype) for name, tensor in state.items()}, strict=False
    )
    return fits, network.eval().requires_grad_(requires_grad=False)


def _of_two_classes(state: NamedState, tumour_class: int) -> NamedState:
    last = next((name for name in ("fc", "last") if f"{name}.weight" in state), None)
    if last is None:
        return state
    weight, bias = state[f"{last}.weight"], state.get(f"{last}.bias")
    if len(weight) > CLASSES:
        raise ModelError(
            f"expected a model of two classes, got {len(weight)}; choose one that distinguishes tumour from all else"
        )
    if len(weight) < CLASSES and bias is not None and bias.shape == (1,):
        # sigmoid(z) is the second of softmax(0, z).
        rows = [torch.zeros_like(part) for part in (weight, bias)]
        order = (rows, (weight, bias)) if tumour_class else ((weight, bias), rows)
        state[f"{last}.weight"], state[f"{last}.bias"] = (torch.cat(pair) for pair in zip(*order, strict=True))
    return state


def _difference(architecture: str, state: Mapping[str, Tensor]) -> str:
    """Return what weights lack of an architecture's, or have beside them; empty where they are its own."""
    outline = _outline(architecture).state_dict()
    # Older files lack the counters of batches, which change no answer.
    lacking = [name for name in outline if name not in state and not name.endswith("num_batches_tracked")]
    beside = [name for name in state if name not in outline]
    if lacking or beside:
        return first_line(f"no {lacking[0]}" if lacking else beside[0])
    for name, tensor in state.items():
        if tensor.shape != outline[name].shape:
            return f"{name} of {list(tensor.shape)} for {list(outline[name].shape)}"
    return ""


def _outline(architecture: str) -> nn.Module:
    with without_memory():
        return build_network(architecture)
