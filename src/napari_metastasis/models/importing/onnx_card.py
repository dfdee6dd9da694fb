"""The card beside an ONNX file: what a network expects of patches, and what its answers mean, as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from napari_metastasis.errors import ModelError, first_line
from napari_metastasis.models.card import read_contract
from napari_metastasis.models.importing.given import GivenCard
from napari_metastasis.plain_json import read_json
from napari_metastasis.storage import atomic_text

__all__ = ["OnnxCard", "read_onnx_card", "write_onnx_card"]

#: What tells such a card from other JSON.
_FORMAT = "napari-metastasis/onnx-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxCard:
    """What the card says.

    Attributes
    ----------
    name
        Of the model.
    mpp, patch_px, stride_px, mean, std
        Resolution, side of what one answer depends on, distance between its own answers, and normalisation of red,
        green and blue in 0 to 1.
    classes, tumour_class
        Names of the answers, and of the one that heatmaps show.
    activation
        What makes probabilities of answers.
    threshold
        Probability from which a cell counts as tumour.
    """

    name: str
    mpp: float
    patch_px: int
    stride_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    tumour_class: str
    activation: str
    threshold: float


def write_onnx_card(path: Path, card: OnnxCard, about: Mapping[str, Any]) -> None:
    """Write the card of an ONNX file beside it.

    Parameters
    ----------
    path
        Of the ONNX file.
    card
        What it says.
    about
        What the model was trained on, its accuracy and intended use.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    text = json.dumps({"format": _FORMAT, **asdict(card), "about": dict(about)}, indent=2, ensure_ascii=False)
    with atomic_text(path.with_suffix(".json")) as stream:
        stream.write(text + "\n")


def read_onnx_card(path: Path) -> GivenCard:
    """Return what the card beside an ONNX file says; nothing where there is none, or one of another program.

    Raises
    ------
    ModelError
        If it is damaged.
    """
    beside = path.with_suffix(".json")
    if not beside.exists():
        return GivenCard()
    try:
        values = read_json(beside)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(f"expected a card at {beside}, got {reason}; fetch it again, or take it away") from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        return GivenCard()
    card = read_contract(
        OnnxCard, {name: values[name] for name in values if name not in ("format", "about")}, "network"
    )
    return GivenCard(
        mpp=card.mpp, patch_px=card.patch_px, stride_px=card.stride_px, classes=card.classes,
        tumour_class=card.tumour_class, mean=card.mean, std=card.std, activation=card.activation,
        threshold=card.threshold,
    )  # fmt: skip
