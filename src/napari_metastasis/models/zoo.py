"""Models by name: those that ship with the program, the user's own, and any that a path points to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from napari_metastasis.errors import ModelError, UnknownModelError
from napari_metastasis.models.checkpoint import Model, load_checkpoint, save_checkpoint
from napari_metastasis.models.weights_io import correct_card
from napari_metastasis.storage import storage_errors

__all__ = [
    "REFINERS",
    "ZooEntry",
    "add_model",
    "check_name",
    "find_weights",
    "list_entries",
    "list_models",
    "load_model",
    "own_models_folder",
    "own_path",
]

#: Where the weights that ship lie.
_SHIPPED = Path(__file__).parent / "weights"
#: Where refiners lie beside models.
REFINERS = "refiners"
#: Of other files in a run folder.
_TAKEN_NAMES = frozenset({"", "settings", "slides"})


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """A model that can be asked for by name."""

    name: str
    path: Path
    shipped: bool


def own_models_folder() -> Path:
    """Return where this user's own models are kept."""
    return Path(platformdirs.user_data_dir("napari-metastasis", appauthor=False)) / "models"


def check_name(name: str) -> None:
    """Refuse a model's name that cannot name its files.

    Raises
    ------
    ModelError
        If it is empty, hidden, a path, or that of another file of a run folder.
    """
    if Path(name).name != name or name.startswith(".") or name in _TAKEN_NAMES:
        raise ModelError(f"expected a model's name that can name its files, got {name!r}; choose another --name")


def list_models() -> tuple[ZooEntry, ...]:
    """Return every model that ships and every one of the user's own, each sorted by name. Reads no weights."""
    return list_entries("")


def list_entries(part: str) -> tuple[ZooEntry, ...]:
    """Return every entry that ships and every one of the user's own, each sorted by name. Reads no weights.

    Parameters
    ----------
    part
        Folder inside that of the models: empty for these, or :data:`REFINERS`.
    """
    shipped = [ZooEntry(path.stem, path, shipped=True) for path in sorted((_SHIPPED / part).glob("*.safetensors"))]
    own_paths = sorted((own_models_folder() / part).glob("*.safetensors"))
    own = [ZooEntry(path.stem, path, shipped=False) for path in own_paths]
    # A name that ships means what ships: a number read in a paper must not depend on whose machine it was.
    taken = {entry.name for entry in shipped}
    return (*shipped, *(entry for entry in own if entry.name not in taken))


def find_weights(name: str | Path, entries: Sequence[ZooEntry], kind: str) -> Path:
    """Return where the weights lie that a name or a path means.

    Parameters
    ----------
    name
        Of an entry, or the path of a weights file.
    entries
        Those that go by a name.
    kind
        What they are called in messages.

    Raises
    ------
    UnknownModelError
        If no entry has this name and no weights lie at this path.
    """
    paths = {entry.name: entry.path for entry in entries}
    if str(name) in paths:
        return paths[str(name)]
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" and path.exists():
        return path
    known = ", ".join(paths) or "none"
    raise UnknownModelError(
        f"expected the name of a {kind} ({known}) or a .safetensors file, got {str(name)!r}; "
        "see 'napari-metastasis models list'"
    )


def own_path(name: str, part: str) -> Path:
    """Return where an entry of the user's own is to be stored, in a folder that exists.

    Raises
    ------
    StorageError
        If the folder cannot be made.
    """
    folder = own_models_folder() / part
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.safetensors"


def load_model(name: str | Path) -> Model:
    """Return a model by its name in the zoo, or by the path of its weights.

    Raises
    ------
    UnknownModelError
        If no model has this name and no weights lie at this path.
    WeightsError
        If its files are damaged.
    """
    return load_checkpoint(find_weights(name, list_models(), "model"))


def add_model(weights: Path) -> ZooEntry:
    """Keep a model among the user's own, under the name on its card.

    Parameters
    ----------
    weights
        A .safetensors file with its card beside it.

    Returns
    -------
    ZooEntry
        The model as it can be asked for from now on. Adding the same model again changes nothing but its card.

    Raises
    ------
    ModelError
        If another model has this name already; neither is touched.
    WeightsError
        If its files are damaged.
    StorageError
        If the folder cannot be written.
    """
    model = load_checkpoint(weights)
    name = model.spec.name
    check_name(name)
    if name in {entry.name for entry in list_entries(REFINERS)}:
        raise ModelError(f"expected a name that no refiner has, got {name!r}; train it under another name")
    known = {entry.name: entry for entry in list_models()}
    if name in known:
        if load_checkpoint(known[name].path).weights_sha256 == model.weights_sha256:
            if not known[name].shipped:
                correct_card(known[name].path, model.card)
            return known[name]
        kind = "that ships" if known[name].shipped else f"of your own ({known[name].path})"
        raise ModelError(
            f"expected a name that no model has, got {name!r}, a model {kind}; "
            f"give the path {weights} instead of the name, or train under another name"
        )
    path = own_path(name, "")
    save_checkpoint(path, model.network, model.spec, model.card)
    return ZooEntry(name, path, shipped=False)
