"""Models on disk: weights as safetensors, and beside them a card in JSON that says what they are.

The card names the weights' SHA-256, so that a file that was cut short or exchanged is refused before it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from napari_metastasis.errors import WeightsError
from napari_metastasis.models.dense import DenseScanNet
from napari_metastasis.models.networks import ScanNet, build_network
from napari_metastasis.models.spec import ModelSpec
from napari_metastasis.storage import atomic_text, atomic_write

__all__ = ["CARD_VERSION", "Model", "correct_card", "load_checkpoint", "save_checkpoint"]

#: Version of the card's layout.
CARD_VERSION = 1


@dataclass(frozen=True, slots=True)
class Model:
    """A network with its contract.

    Attributes
    ----------
    spec
        What the model expects and what its answers mean.
    network
        The patch classifier, float32 in evaluation mode; normalised N x 3 x H x W to logits N x classes x h x w.
    weights_sha256
        Hash of the stored weights, which names them in results.
    card
        What the model was trained on, its measured accuracy and intended use.
    """

    spec: ModelSpec
    network: ScanNet
    weights_sha256: str
    card: Mapping[str, Any]

    def dense(self, dense_coefficient: int) -> DenseScanNet:
        """Return the network that answers every ``stride / dense_coefficient`` model pixels from raw pixels.

        Raises
        ------
        ModelError
            If the native stride cannot be divided by it.
        """
        return DenseScanNet(self.network, self.spec, dense_coefficient)


def save_checkpoint(path: Path, network: ScanNet, spec: ModelSpec, card: Mapping[str, Any]) -> str:
    """Write ``path`` (safetensors) and its card beside it (the same name with ``.json``).

    Returns
    -------
    str
        SHA-256 of the weights file.

    Raises
    ------
    StorageError
        If a file cannot be written; nothing half-written is left.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights = save(tensors)
    digest = hashlib.sha256(weights).hexdigest()
    with atomic_write(path) as stream:
        stream.write(weights)
    _write_card(path, {"spec": spec.to_json(), "weights_sha256": digest, "card": dict(card)})
    return digest


def correct_card(path: Path, changes: Mapping[str, Any]) -> None:
    """Change what the card of the weights at ``path`` says of some things; the weights are not touched.

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
    text = json.dumps({"card_version": CARD_VERSION, **values}, indent=2, ensure_ascii=False)
    with atomic_text(weights.with_suffix(".json")) as stream:
        stream.write(text + "\n")


def _read_card(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["card_version"] != CARD_VERSION:
            raise WeightsError(
                f"expected a model card of version {CARD_VERSION}, got {values['card_version']} in {path}; "
                "update the program or export the model again"
            )
        card = {key: values[key] for key in ("spec", "weights_sha256", "card")}
        if not (isinstance(card["spec"], dict) and isinstance(card["card"], dict)):
            raise TypeError("spec and card are no objects")
        return card
    except FileNotFoundError as error:
        raise WeightsError(f"expected a model card at {path}, got no file; keep it beside the weights") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"expected a model card at {path}, got {error!r}; fetch the model again") from error


def load_checkpoint(path: Path) -> Model:
    """Return the model whose weights are stored at ``path``, with its card beside it.

    Raises
    ------
    WeightsError
        If a file is missing, damaged, or belongs to another architecture.
    """
    card = _read_card(path.with_suffix(".json"))
    spec = ModelSpec.from_json(card["spec"])
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"expected weights at {path}, got {error.strerror}; fetch the model again") from error
    digest = hashlib.sha256(weights).hexdigest()
    if digest != card["weights_sha256"]:
        raise WeightsError(
            f"expected weights with SHA-256 {card['weights_sha256'][:12]}…, got {digest[:12]}… in {path}; "
            "the file is damaged or belongs to another card: fetch the model again"
        )
    network = build_network(spec.architecture)
    try:
        network.load_state_dict(load(weights))
    except (SafetensorError, RuntimeError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"expected weights of a {spec.architecture} network, got {first_line} in {path}; fetch the model again"
        ) from error
    expected = (network.architecture.patch_px, network.architecture.stride_px)
    if (spec.patch_px, spec.stride_px) != expected:
        raise WeightsError(
            f"expected patch and stride {expected} of a {spec.architecture} network, "
            f"got {(spec.patch_px, spec.stride_px)} on the card of {path}; correct the card"
        )
    network.eval().requires_grad_(requires_grad=False)
    return Model(spec=spec, network=network, weights_sha256=digest, card=card["card"])
