"""WSInfer's folders: ``config.json``, and ``model.safetensors`` or ``torchscript_model.pt``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from napari_metastasis.errors import ModelError, WeightsError, brief, first_line
from napari_metastasis.models.card import read_contract
from napari_metastasis.models.importing.given import GivenCard, read_object

__all__ = ["CONFIG", "TORCHSCRIPT_FILE", "WEIGHTS_FILE", "WSInferConfig", "read_config"]

#: Files of such a folder.
CONFIG, WEIGHTS_FILE, TORCHSCRIPT_FILE = "config.json", "model.safetensors", "torchscript_model.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class WSInferConfig:
    """``config.json`` of a WSInfer model."""

    spec_version: str
    architecture: str
    num_classes: int
    patch_size_pixels: int
    spacing_um_px: float
    class_names: tuple[str, ...]
    transform: tuple[Any, ...]

    def card(self) -> GivenCard:
        """Return what it says of the model.

        WSInfer cuts patches of so many µm out of a slide and resizes them: what the network sees has the pixels that
        they are resized to.

        Raises
        ------
        ModelError
            If patches are changed in another way than networks' images are here.
        """
        side, mean, std = _seen(self)
        return GivenCard(
            mpp=self.spacing_um_px * self.patch_size_pixels / side,
            patch_px=side,
            classes=self.class_names,
            mean=mean,
            std=std,
            activation="sigmoid" if self.num_classes == 1 else "softmax",
        )


def read_config(folder: Path) -> WSInferConfig:
    """Return the config in a folder.

    Raises
    ------
    ModelError
        If it is missing, damaged, or of another version.
    """
    path = folder / CONFIG
    values = read_object(path, "a WSInfer model's config", remedy="choose its folder")
    known = [each.name for each in fields(WSInferConfig) if each.name in values]
    config = read_contract(WSInferConfig, {name: values[name] for name in known}, "WSInfer model")
    if config.spec_version != "1.0":
        raise ModelError(f"expected spec_version 1.0 in {path}, got {config.spec_version}; update the program")
    if len(config.class_names) != config.num_classes or config.num_classes < 1:
        raise ModelError(
            f"expected as many class_names as classes in {path}, got {config.num_classes} classes "
            f"({first_line(', '.join(config.class_names))}); fetch the model again"
        )
    return config


def weights_in(folder: Path) -> Path | None:
    """Return the file of weights in a folder; ``None`` where it holds TorchScript alone.

    Raises
    ------
    WeightsError
        If it holds neither.
    """
    if (path := folder / WEIGHTS_FILE).exists():
        return path
    if not (folder / TORCHSCRIPT_FILE).exists():
        raise WeightsError(
            f"expected weights at {path} or {TORCHSCRIPT_FILE} beside it, got No such file; fetch the model again"
        )
    return None


def _seen(config: WSInferConfig) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Return side, mean and deviation of what a network sees, of a transform that does nothing else to a patch."""
    side = config.patch_size_pixels
    found: list[str] = []
    mean: Any = [0.0, 0.0, 0.0]
    std: Any = [1.0, 1.0, 1.0]
    for step in config.transform:
        name, arguments = (step.get("name"), step.get("arguments")) if isinstance(step, dict) else (step, None)
        arguments = arguments if isinstance(arguments, dict) else {}
        if name == "Normalize":
            mean, std = arguments.get("mean"), arguments.get("std")
        size = arguments.get("size")
        size = size[0] if isinstance(size, list) and len(size) == 2 and size[0] == size[1] else size
        if name == "Resize" and type(size) is int and not found and size > 0:
            side = size
        else:
            found.append(str(name) if name != "Resize" else f"Resize to {brief(arguments.get('size'))}")
    rgb = all(isinstance(values, list) and len(values) == 3 for values in (mean, std))
    if found not in (["ToTensor"], ["ToTensor", "Normalize"]) or not rgb:
        raise ModelError(
            "expected patches that are resized to squares, ToTensor, and Normalize with a mean and std for each "
            f"colour, got {first_line(', '.join(found))}; choose another model: this one would answer otherwise "
            "than it was trained to"
        )
    return side, tuple(mean), tuple(std)
