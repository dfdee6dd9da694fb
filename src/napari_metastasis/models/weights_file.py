"""Weights on disk: safetensors, and beside them a card in JSON that says what they are.

The card names the weights' SHA-256, so that a file that was cut short or exchanged is refused before it is used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from napari_metastasis.errors import StorageError, WeightsError, brief, first_line
from napari_metastasis.plain_json import parse_json, read_json
from napari_metastasis.storage import atomic_text, atomic_write, holds_control_characters, read_at_most

__all__ = [
    "MOST_BYTES",
    "Contract",
    "StoredWeights",
    "correct_card",
    "read_card",
    "read_task",
    "read_tensors",
    "read_weights",
    "save_model",
]

#: Version of the card's layout.
_CARD_VERSION = 2
#: Bytes of a file of weights: several times those of the largest network.
MOST_BYTES = 1 << 29
#: Of the length of the header that a file of tensors begins with.
_LENGTH_BYTES = 8
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: What tensors of networks hold, as such a header calls it.
_KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


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

    def check(self, network: nn.Module, kind: str) -> None:
        """Refuse weights of another network, by the header of their file alone.

        Parameters
        ----------
        network
            That they should be all of; without memory of its own, as on torch's device "meta", it will do.
        kind
            Name of the network in messages.

        Raises
        ------
        WeightsError
            If the file is damaged, or holds other tensors than the network has.
        """
        found, wanted = self._header(), network.state_dict()
        for name in [*wanted, *(name for name in found if name not in wanted)]:
            expected = (_KINDS.get(wanted[name].dtype), list(wanted[name].shape)) if name in wanted else None
            if found.get(name) != expected:
                raise WeightsError(
                    f"expected weights of a {kind} network ({brief(name)}: {_told(expected)}), "
                    f"got {_told(found.get(name))} in {self.path}; correct the card, or fetch the model again"
                )

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
            state = read_tensors(self.data)
            network.load_state_dict(state)
        except (ValueError, RuntimeError) as error:
            raise WeightsError(
                f"expected weights of a {kind} network, got {first_line(error)} in {self.path}; fetch the model again"
            ) from error
        for name, tensor in state.items():
            if not tensor.isfinite().all():
                raise WeightsError(
                    f"expected finite weights, got others as {name} in {self.path}; fetch the model again"
                )
        network.eval().requires_grad_(requires_grad=False)

    def _header(self) -> dict[str, tuple[str, list[int]]]:
        """Return kind and shape of every tensor by its name."""
        end = _LENGTH_BYTES + int.from_bytes(self.data[:_LENGTH_BYTES], "little")
        try:
            if end > len(self.data):
                raise ValueError("the beginning of a file alone")
            entries = parse_json(self.data[_LENGTH_BYTES:end])
            return {name: (entry["dtype"], entry["shape"]) for name, entry in entries.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"expected a file of tensors, got {first_line(error)} in {self.path}; fetch the model again"
            ) from error


def _told(tensor: tuple[str | None, list[int]] | None) -> str:
    return "no such tensor" if tensor is None else brief(f"{tensor[0]} {tensor[1]}").strip("'")


def read_tensors(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises
    ------
    ValueError
        If it is damaged, or no such file; says why in one line.
    """
    try:
        return load(data)
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(first_line(error)) from error


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


def read_card(path: Path) -> Mapping[str, Any]:
    """Return what the card of the weights at ``path`` says of them beside their contract, without reading the weights.

    Raises
    ------
    WeightsError
        If there is no card, or none that can be read.
    """
    card: Mapping[str, Any] = _read_card(path.with_suffix(".json"))["card"]
    return card


def read_weights(path: Path) -> StoredWeights:
    """Return the weights that are stored at ``path``, with their card.

    Raises
    ------
    WeightsError
        If a file is missing or damaged.
    """
    card = _read_card(path.with_suffix(".json"))
    try:
        data = read_at_most(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"expected weights at {path}, got {reason}; fetch the model again") from error
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
        # Figures that could not be measured stand as NaN on cards of earlier versions.
        values = read_json(path, nan_as_null=True)
        if values["card_version"] == 1:
            # Cards of version 1 name no task: they are refiners', which name an encoder, or detectors'.
            values["task"] = "refine" if "encoder_sha256" in values["spec"] else "detect"
        elif values["card_version"] != _CARD_VERSION:
            raise WeightsError(
                f"expected a model card of version {_CARD_VERSION}, got {brief(values['card_version'])} in {path}; "
                "update the program or export the model again"
            )
        card = {key: values[key] for key in ("task", "spec", "weights_sha256", "card")}
        if not (isinstance(card["spec"], dict) and isinstance(card["card"], dict)):
            raise TypeError("spec and card are no objects")
        if not isinstance(card["task"], str) or holds_control_characters(card["task"]):
            raise TypeError("task is no name")
        if not isinstance(card["weights_sha256"], str) or not _SHA256.fullmatch(card["weights_sha256"]):
            raise TypeError("weights_sha256 is no SHA-256")
        return card
    except FileNotFoundError as error:
        raise WeightsError(f"expected a model card at {path}, got no file; keep it beside the weights") from error
    except WeightsError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"expected a model card at {path}, got {brief(error)}; fetch the model again") from error
