"""Weights on disk: safetensors, and beside them a card in JSON that says what they are.

The card names the weights' SHA-256, so that a file that was cut short or exchanged is refused before it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from napari_metastasis.errors import StorageError, WeightsError, first_line
from napari_metastasis.storage import atomic_text, atomic_write

__all__ = ["Contract", "StoredWeights", "correct_card", "read_task", "read_weights", "save_model"]

#: Version of the card's layout.
_CARD_VERSION = 2


@dataclass(frozen=True, slots=True, eq=False)
class StoredWeights:
    """What a weights file and its card hold.

    Attributes
    ----------
    path
        Of the weights.
    task
        What they are for.
    spec
        The contract, as plain values.
    card
        What they were trained on, their accuracy and intended use.
    sha256
        Of the weights file.
    data
        The weights file.
    """

    path: Path
    task: str
    spec: Mapping[str, Any]
    card: Mapping[str, Any]
    sha256: str
    data: bytes

    def fill(self, network: nn.Module, kind: str) -> None:
        """Copy the weights into a network, in evaluation mode from then on.

        Parameters
        ----------
        network
            That they are all of.
        kind
            Name of the network in messages.

        Raises
        ------
        WeightsError
            If they are damaged or of another network.
        """
        try:
            network.load_state_dict(load(self.data))
        except (SafetensorError, RuntimeError) as error:
            raise WeightsError(
                f"expected weights of a {kind} network, got {first_line(error)} in {self.path}; fetch the model again"
            ) from error
        network.eval().requires_grad_(requires_grad=False)


class Contract(Protocol):
    """What a model expects and what its answers mean."""

    #: What the model is for.
    task: ClassVar[str]

    @property
    def name(self) -> str:
        """Return the model's name in the zoo."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        ...


def save_model(path: Path, network: nn.Module, spec: Contract, card: Mapping[str, Any]) -> str:
    """Write a model: ``path`` (safetensors) and its card beside it (the same name with ``.json``).

    Parameters
    ----------
    path
        Of the weights.
    network, spec
        The model, and its contract.
    card
        What it was trained on, its measured accuracy and intended use.

    Returns
    -------
    str
        SHA-256 of the weights file.

    Raises
    ------
    StorageError
        If a file cannot be written; nothing half-written is left.
    """
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})
    digest = hashlib.sha256(weights).hexdigest()
    fresh = not path.exists()
    with atomic_write(path) as stream:
        stream.write(weights)
    try:
        _write_card(path, {"task": spec.task, "spec": spec.to_json(), "weights_sha256": digest, "card": dict(card)})
    except StorageError:
        if fresh:
            # Without a card it is no model, but would take the name of one.
            with suppress(OSError):
                path.unlink()
        raise
    return digest


def read_task(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Return the task and contract on the card of the weights at ``path``, without reading the weights.

    Raises
    ------
    WeightsError
        If there is no card, or none that can be read.
    """
    values = _read_card(path.with_suffix(".json"))
    return values["task"], values["spec"]


def read_weights(path: Path) -> StoredWeights:
    """Return the weights that are stored at ``path``, with their card.

    Raises
    ------
    WeightsError
        If a file is missing or damaged.
    """
    card = _read_card(path.with_suffix(".json"))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"expected weights at {path}, got {error.strerror}; fetch the model again") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != card["weights_sha256"]:
        raise WeightsError(
            f"expected weights with SHA-256 {card['weights_sha256'][:12]}…, got {digest[:12]}… in {path}; "
            "the file is damaged or belongs to another card: fetch the model again"
        )
    return StoredWeights(path, card["task"], card["spec"], card["card"], digest, data)


def correct_card(path: Path, changes: Mapping[str, Any]) -> None:
    """Change values on the card of the weights at ``path``; the weights are not touched.

    Raises
    ------
    WeightsError
        If there is no card.
    StorageError
        If it cannot be written.
    """
    values = _read_card(path.with_suffix(".json"))
    corrected = {**values["card"], **changes}
    if corrected != values["card"]:
        _write_card(path, {**values, "card": corrected})


def _write_card(weights: Path, values: Mapping[str, Any]) -> None:
    text = json.dumps({"card_version": _CARD_VERSION, **values}, indent=2, ensure_ascii=False)
    with atomic_text(weights.with_suffix(".json")) as stream:
        stream.write(text + "\n")


def _read_card(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["card_version"] == 1:
            # Cards of version 1 name no task: they are refiners', which name an encoder, or detectors'.
            values["task"] = "refine" if "encoder_sha256" in values["spec"] else "detect"
        elif values["card_version"] != _CARD_VERSION:
            raise WeightsError(
                f"expected a model card of version {_CARD_VERSION}, got {values['card_version']} in {path}; "
                "update the program or export the model again"
            )
        card = {key: values[key] for key in ("task", "spec", "weights_sha256", "card")}
        if not (isinstance(card["spec"], dict) and isinstance(card["card"], dict)):
            raise TypeError("spec and card are no objects")
        return card
    except FileNotFoundError as error:
        raise WeightsError(f"expected a model card at {path}, got no file; keep it beside the weights") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"expected a model card at {path}, got {error!r}; fetch the model again") from error
