"""MONAI's bundles: ``configs/metadata.json``, ``configs/inference.json``, and ``models/model.pt`` or ``.ts``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_metastasis.errors import ModelError, WeightsError, brief
from napari_metastasis.models.importing.given import GivenCard, read_object

__all__ = ["METADATA", "bundle_card", "bundle_weights"]

METADATA = Path("configs") / "metadata.json"
#: Of CAMELYON's slides at level 0, which bundles of this task do not state.
_CAMELYON_MPP = 0.243
#: The transform that says what an image's values are brought to.
_SCALING = ("ScaleIntensityRanged", "ScaleIntensityRangeD", "ScaleIntensityRangeDict")


def bundle_card(folder: Path) -> GivenCard:
    """Return what a bundle says of its model.

    Raises
    ------
    ModelError
        If its files are damaged, or it answers anything but whether a patch of a slide shows tumour.
    """
    path = folder / METADATA
    metadata, inference = _object(path), _object(folder / "configs" / "inference.json")
    formats = metadata.get("network_data_format")
    inputs, outputs = (
        next(iter(_mapping(_mapping(formats).get(side)).values()), None) for side in ("inputs", "outputs")
    )
    image, answer = _mapping(inputs), _mapping(outputs)
    shape, names = image.get("spatial_shape"), _mapping(answer.get("channel_def"))
    square = isinstance(shape, list) and len(shape) == 2 and type(shape[0]) is int and shape[0] == shape[1]
    if not square or image.get("num_channels") != 3 or answer.get("num_channels") != 1 or not names:
        raise ModelError(
            "expected a bundle that answers one probability for a patch of three colours, got "
            f"{brief(metadata.get('name'))} of {brief(shape)} with {brief(answer.get('num_channels'))} answers in "
            f"{path}; choose another bundle"
        )
    assert isinstance(shape, list)
    mean, std = _normalisation(inference, path)
    return GivenCard(
        mpp=_CAMELYON_MPP,
        patch_px=shape[0],
        stride_px=_stride(inference) or shape[0],
        classes=(str(next(iter(names.values()))),),
        mean=(mean,) * 3,
        std=(std,) * 3,
        activation="sigmoid",
    )


def bundle_weights(folder: Path) -> Path:
    """Return a bundle's weights, or its TorchScript where these are missing.

    Raises
    ------
    WeightsError
        If it has neither.
    """
    known = [folder / "models" / name for name in ("model.safetensors", "model.pt", "model.ts")]
    found = next((path for path in known if path.exists()), None)
    if found is None:
        raise WeightsError(f"expected weights at {known[1]} or model.ts beside it, got no file; fetch the bundle whole")
    return found


def _object(path: Path) -> Mapping[str, Any]:
    return read_object(path, f"a MONAI bundle's {path.name}", remedy="fetch it again")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _within(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every object in a configuration, the outer ones first."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _within(inner)


def _normalisation(inference: Mapping[str, Any], path: Path) -> tuple[float, float]:
    """Return mean and deviation of values in 0..1 that are the bundle's scaling of 0..255."""
    for step in _within(inference):
        if step.get("_target_") not in _SCALING:
            continue
        numbers = [step.get(name) for name in ("a_min", "a_max", "b_min", "b_max")]
        if all(isinstance(number, int | float) for number in numbers):
            least, most, low, high = (float(number) for number in numbers if number is not None)
            if most > least and high > low:
                # (x - least) / (most - least) · (high - low) + low, of x = 255 v.
                scale = (high - low) * 255 / (most - least)
                return (least * scale / 255 - low) / scale, 1 / scale
    raise ModelError(
        f"expected a scaling of values (ScaleIntensityRanged) in inference.json beside {path}, got none; choose "
        "another bundle: this one would answer otherwise than it was trained to"
    )


def _stride(inference: Mapping[str, Any]) -> int:
    """Return how far apart a bundle looks at patches, one for each pixel of a level; 0 where it does not say so."""
    level = next((each["mask_level"] for each in _within(inference) if type(each.get("mask_level")) is int), -1)
    return 1 << level if 0 <= level <= 10 else 0
