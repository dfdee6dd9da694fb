"""Models of other programs, rewritten as our own: one function reads one format, and none runs code."""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from napari_metastasis.errors import ModelError, WeightsError, brief, first_line
from napari_metastasis.models.card import ModelSpec, read_contract
from napari_metastasis.models.detector import Detector
from napari_metastasis.models.nets.resnet import RESNETS, ResNet
from napari_metastasis.models.weights_file import MOST_BYTES, read_tensors, save_model
from napari_metastasis.models.zoo import ZooEntry, add_model, check_name
from napari_metastasis.plain_json import read_json
from napari_metastasis.storage import read_at_most

__all__ = ["import_model", "read_wsinfer"]

#: Names of the class that is looked for. Compared whole: "non-tumor" is none of them.
_TUMOUR_NAMES = frozenset({"cancer", "malignant", "metastases", "metastasis", "metastatic", "tumor", "tumour"})
#: The largest dense coefficient: the others divide its multiples too.
_LARGEST_COEFFICIENT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _WSInferConfig:
    """``config.json`` of a WSInfer model."""

    spec_version: str
    architecture: str
    num_classes: int
    patch_size_pixels: int
    spacing_um_px: float
    class_names: tuple[str, ...]
    transform: tuple[Any, ...]


def import_model(folder: Path, *, name: str = "", tumour_class: str = "") -> ZooEntry:
    """Keep another program's model among the user's own.

    Parameters
    ----------
    folder
        With the model; a WSInfer folder is the one kind that is read.
    name
        Name in the zoo; empty for the folder's.
    tumour_class
        Name of the class that heatmaps show; empty where it is a usual one.

    Raises
    ------
    ModelError
        If the model cannot be built here, would answer otherwise than there, or another one has its name.
    WeightsError
        If its weights are missing, damaged, or another network's.
    StorageError
        If the user's folder cannot be written.
    """
    name = name or re.sub(r"[^\w.-]+", "-", folder.resolve().name).strip("-.")
    check_name(name)
    model = read_wsinfer(folder, name=name, tumour_class=tumour_class)
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / f"{name}.safetensors"
        save_model(weights, model.network, model.spec, model.card)
        return add_model(weights)


def read_wsinfer(folder: Path, *, name: str, tumour_class: str) -> Detector:
    """Return the model of a WSInfer folder, ``config.json`` and ``model.safetensors``; see :func:`import_model`."""
    config = _read_config(folder / "config.json")
    side, names = config.patch_size_pixels, config.class_names
    if config.architecture not in RESNETS:
        known = " or ".join(RESNETS)
        raise ModelError(f"expected the architecture {known}, got {config.architecture!r}; choose a model of these")
    if config.num_classes != 2 or len(names) != 2:
        raise ModelError(
            f"expected a model of two classes, got {config.num_classes} ({first_line(', '.join(names))}); "
            "choose one that distinguishes tumour from all else"
        )
    if side < _LARGEST_COEFFICIENT:
        raise ModelError(
            f"expected patches of {_LARGEST_COEFFICIENT} px or more, got {side} px; choose a model of larger patches"
        )
    mean, std = _normalisation(config)
    spec = ModelSpec(
        name=name,
        architecture=config.architecture,
        mpp=float(config.spacing_um_px),
        patch_px=side,
        # WSInfer lays patch beside patch. A dense coefficient has to divide the stride.
        stride_px=side // _LARGEST_COEFFICIENT * _LARGEST_COEFFICIENT,
        classes=names,
        tumour_class=_tumour_class(names, tumour_class),
        mean=mean,
        std=std,
    )
    network = ResNet(RESNETS[config.architecture])
    digest = _fill(network, folder)
    card = {
        "data": f"not trained here: imported from the WSInfer model in {folder.resolve()}",
        "imported_sha256": digest,
        "accuracy": "not measured here",
        "intended_use": "research; not a medical device, not validated for diagnosis",
    }
    return Detector(spec=spec, network=network, weights_sha256=digest, card=card)


def _read_config(path: Path) -> _WSInferConfig:
    try:
        values = read_json(path)
        if not isinstance(values, dict):
            raise TypeError("no object")
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(f"expected a WSInfer model's config at {path}, got {reason}; choose its folder") from error
    known = [each.name for each in fields(_WSInferConfig) if each.name in values]
    config = read_contract(_WSInferConfig, {name: values[name] for name in known}, "WSInfer model")
    if config.spec_version != "1.0":
        raise ModelError(f"expected spec_version 1.0 in {path}, got {config.spec_version}; update the program")
    return config


def _normalisation(config: _WSInferConfig) -> tuple[Any, Any]:
    """Return mean and deviation of a transform that does nothing else to a patch."""
    side, found = config.patch_size_pixels, []
    mean: Any = [0.0, 0.0, 0.0]
    std: Any = [1.0, 1.0, 1.0]
    for step in config.transform:
        name, arguments = (step.get("name"), step.get("arguments")) if isinstance(step, dict) else (step, None)
        arguments = arguments if isinstance(arguments, dict) else {}
        if name == "Normalize":
            mean, std = arguments.get("mean"), arguments.get("std")
        # To its own size, a patch stays as it is.
        if name != "Resize" or arguments.get("size") not in (side, [side, side]):
            found.append(str(name) if name != "Resize" else f"Resize to {brief(arguments.get('size'))}")
    rgb = all(isinstance(values, list) and len(values) == 3 for values in (mean, std))
    if found not in (["ToTensor"], ["ToTensor", "Normalize"]) or not rgb:
        raise ModelError(
            f"expected patches that keep their {side} px, ToTensor, and Normalize with a mean and std for each colour, "
            f"got {first_line(', '.join(found))}; choose another model: this one would answer otherwise than it was "
            "trained to"
        )
    return tuple(mean), tuple(std)


def _tumour_class(names: tuple[str, ...], wanted: str) -> int:
    found = [name for name in names if (name == wanted if wanted else name.lower() in _TUMOUR_NAMES)]
    if len(found) != 1:
        what = repr(wanted) if wanted else "of tumour"
        raise ModelError(f"expected one class {what}, got {first_line(', '.join(names))}; name it with --tumour-class")
    return names.index(found[0])


def _fill(network: ResNet, folder: Path) -> str:
    """Copy a folder's weights into a network, and return their file's hash."""
    path = folder / "model.safetensors"
    if not path.exists() and (folder / "torchscript_model.pt").exists():
        raise WeightsError(
            f"expected {path}, got torchscript_model.pt alone, which is code and is not run; "
            "fetch model.safetensors from where the model was published"
        )
    try:
        data = read_at_most(path, MOST_BYTES)
        missing, unknown = network.load_state_dict(read_tensors(data), strict=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise WeightsError(f"expected weights at {path}, got {first_line(reason)}; fetch the model again") from error
    # Older files lack the counters of batches, which change no answer.
    if wrong := [*unknown, *(f"no {name}" for name in missing if not name.endswith("num_batches_tracked"))]:
        raise WeightsError(
            f"expected a ResNet's weights under torchvision's names, got {first_line(wrong[0])} in {path}; fetch the "
            "model again"
        )
    network.eval().requires_grad_(requires_grad=False)
    return hashlib.sha256(data).hexdigest()
