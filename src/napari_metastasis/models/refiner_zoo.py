"""Refiners by name, and the one that belongs to a model: those that ship, the user's own, and any that a path names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_metastasis.errors import ModelError, RefinementWarning, UnknownModelError
from napari_metastasis.models.checkpoint import Model
from napari_metastasis.models.encoder import Encoder, feature_layer
from napari_metastasis.models.nets.spatial_lstm import RefinerSpec, SpatialNetwork
from napari_metastasis.models.weights_io import read_spec, read_weights, write_weights
from napari_metastasis.models.zoo import (
    REFINERS,
    ZooEntry,
    check_name,
    find_weights,
    list_entries,
    list_models,
    load_model,
    own_path,
)

__all__ = [
    "Refiner",
    "ScanningModel",
    "add_refiner",
    "is_refiner",
    "list_refiners",
    "load_refiner",
    "load_with_refiner",
    "refiner_for",
    "save_refiner",
]


@dataclass(frozen=True, slots=True)
class Refiner:
    """A spatial network with its contract.

    Attributes
    ----------
    spec
        What it reads and how.
    network
        From grids of encoded patches to log-odds, float32 in evaluation mode.
    weights_sha256
        Hash of the stored weights, which names them in results.
    card
        What it was trained on, its measured accuracy and intended use.
    """

    spec: RefinerSpec
    network: SpatialNetwork
    weights_sha256: str
    card: Mapping[str, Any]

    def encoder(self, model: Model, dense_coefficient: int) -> Encoder:
        """Return the network that scans with ``model`` and hands out what this refiner reads.

        Raises
        ------
        ModelError
            If the refiner was trained on the features of another model.
        """
        self.check(model)
        layer = feature_layer(model.network.classifier, model.spec.tumour_class, self.network.projection)
        return Encoder(model.dense(dense_coefficient), layer, dense_coefficient)

    def check(self, model: Model) -> None:
        """Refuse any model but the one whose features this refiner was trained on.

        Raises
        ------
        ModelError
            If it is another one.
        """
        if model.weights_sha256 != self.spec.encoder_sha256:
            raise ModelError(
                f"expected model {self.spec.encoder} ({self.spec.encoder_sha256[:12]}…) for refiner {self.spec.name}, "
                f"got {model.spec.name} ({model.weights_sha256[:12]}…); choose that model, or train a refiner for this"
            )


def save_refiner(path: Path, network: SpatialNetwork, card: Mapping[str, Any]) -> str:
    """Write ``path`` (safetensors) and its card beside it.

    Returns
    -------
    str
        SHA-256 of the weights file.

    Raises
    ------
    StorageError
        If a file cannot be written; nothing half-written is left.
    """
    return write_weights(path, network.state_dict(), network.spec.to_json(), card)


def _load(path: Path) -> Refiner:
    stored = read_weights(path)
    try:
        spec = RefinerSpec.from_json(stored.spec)
    except ModelError as error:
        raise ModelError(f"{error} ({path})") from error
    network = SpatialNetwork(spec)
    stored.fill(network, f"{spec.order} refiner")
    return Refiner(spec=spec, network=network, weights_sha256=stored.sha256, card=stored.card)


def list_refiners() -> tuple[ZooEntry, ...]:
    """Return every refiner that ships and every one of the user's own, each sorted by name. Reads no weights."""
    return list_entries(REFINERS)


def load_refiner(name: str | Path) -> Refiner:
    """Return a refiner by its name, or by the path of its weights.

    Raises
    ------
    UnknownModelError
        If no refiner has this name and no weights lie at this path.
    WeightsError
        If its files are damaged.
    """
    return _load(find_weights(name, list_refiners(), "refiner"))


def refiner_for(model: Model) -> Refiner | None:
    """Return the refiner that was trained on a model's features, the user's latest own before one that ships.

    Warns
    -----
    RefinementWarning
        If one cannot be read, and is passed over.
    """
    entries = list_refiners()
    own = sorted((entry for entry in entries if not entry.shipped), key=_written, reverse=True)
    for entry in (*own, *(entry for entry in entries if entry.shipped)):
        try:
            # The card alone: of all these weights, only one refiner's are needed.
            if read_spec(entry.path).get("encoder_sha256") == model.weights_sha256:
                return _load(entry.path)
        except ModelError as error:
            # One of another version, or damaged: another one answers in its place, and not without a word.
            warnings.warn(f"refiner {entry.name} is passed over: {error}", RefinementWarning, stacklevel=2)
    return None


def _written(entry: ZooEntry) -> float:
    """Return when a refiner was written; 0 for one that has gone since it was listed."""
    try:
        return entry.path.stat().st_mtime
    except OSError:
        return 0.0


def is_refiner(weights: Path) -> bool:
    """Return whether the card of a weights file is a refiner's.

    Raises
    ------
    WeightsError
        If there is no card, or none that can be read.
    """
    return "encoder_sha256" in read_spec(weights)


def add_refiner(weights: Path) -> ZooEntry:
    """Keep a refiner among the user's own, under the name on its card.

    Raises
    ------
    ModelError
        If another one has this name already; neither is touched.
    WeightsError
        If its files are damaged.
    StorageError
        If the folder cannot be written.
    """
    refiner = _load(weights)
    check_name(refiner.spec.name)
    if refiner.spec.name in {entry.name for entry in list_models()}:
        raise ModelError(
            f"expected a name that no model has, got {refiner.spec.name!r}; "
            f"give the path {weights} instead of the name, or train under another name"
        )
    known = {entry.name: entry for entry in list_refiners()}
    if (entry := known.get(refiner.spec.name)) is not None:
        if _load(entry.path).weights_sha256 == refiner.weights_sha256:
            return entry
        raise ModelError(
            f"expected a name that no refiner has, got {refiner.spec.name!r}, of {entry.path}; "
            f"give the path {weights} instead of the name, or train under another name"
        )
    path = own_path(refiner.spec.name, REFINERS)
    save_refiner(path, refiner.network, refiner.card)
    return ZooEntry(refiner.spec.name, path, shipped=False)


@dataclass(frozen=True, slots=True)
class ScanningModel:
    """A model, and the refiner that goes with it.

    Attributes
    ----------
    model
        Scans.
    refiner
        Was trained on the model's features; ``None`` where there is none.
    asked_for_refiner
        Whether it was named, alone or beside the model: whoever names a refiner wants to refine.
    """

    model: Model
    refiner: Refiner | None
    asked_for_refiner: bool


def load_with_refiner(name: str | Path, refiner: str | Path | None = None) -> ScanningModel:
    """Return what to scan with; a refiner's name stands for its model as well.

    Parameters
    ----------
    name
        Of a model, or of a refiner, whose model is found by its hash; or a path of either.
    refiner
        Name or path of the refiner; ``None`` for the one that :func:`refiner_for` finds.

    Raises
    ------
    UnknownModelError
        If there is no such model or refiner, or none that a refiner was trained on.
    WeightsError
        If files are damaged.
    ModelError
        If the refiner belongs to another model.
    """
    if refiner is not None:
        model, found = load_model(name), load_refiner(refiner)
        found.check(model)
        return ScanningModel(model, found, asked_for_refiner=True)
    named = _refiner_named(name)
    if named is not None:
        return ScanningModel(_model_of(named, name), named, asked_for_refiner=True)
    model = load_model(name)
    return ScanningModel(model, refiner_for(model), asked_for_refiner=False)


def _refiner_named(name: str | Path) -> Refiner | None:
    """Return the refiner that a name or path means, or ``None`` where it means a model, or nothing."""
    if str(name) in {entry.name for entry in list_refiners()}:
        return load_refiner(name)
    path = Path(name).expanduser()
    return _load(path) if path.suffix == ".safetensors" and path.exists() and is_refiner(path) else None


def _model_of(refiner: Refiner, name: str | Path) -> Model:
    """Return the model that a refiner was trained on: from the zoo, or from the refiner's own folder."""
    spec = refiner.spec
    beside = Path(name).expanduser().with_name(f"{spec.encoder}.safetensors")
    for candidate in (spec.encoder, beside):
        try:
            model = load_model(candidate)
        except UnknownModelError:
            continue
        if model.weights_sha256 == spec.encoder_sha256:
            return model
    raise UnknownModelError(
        f"expected model {spec.encoder} ({spec.encoder_sha256[:12]}…) for refiner {spec.name}, got none with these "
        f"weights; keep it with 'napari-metastasis models add', or put it beside the refiner"
    )
