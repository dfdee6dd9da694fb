"""Models by name, of all tasks: those that ship with the program, the user's own, and any that a path points to."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from napari_metastasis.errors import ModelError, UnknownModelError, WeightsError
from napari_metastasis.models.detector import Detector
from napari_metastasis.models.model import Model, read_model
from napari_metastasis.models.programs import Program
from napari_metastasis.models.replay import REPLAY_SUFFIX, read_replay, write_replay
from napari_metastasis.models.weights_file import correct_card, read_task, save_model
from napari_metastasis.storage import home_path, storage_errors
from napari_metastasis.tasks import DETECT, find_task

__all__ = [
    "ZooEntry",
    "add_model",
    "check_name",
    "check_own_models_folder",
    "display_name",
    "list_models",
    "load_detector",
    "load_model",
    "model_task",
    "own_models_folder",
    "weights_of",
]

#: Where the weights that ship lie.
_SHIPPED = Path(__file__).parent / "weights"
#: What the models that ship are for; those of other tasks than this go with them.
_PURPOSE, _PURPOSES = "Breast metastasis, H&E", {"mitosis": "Mitoses, H&E"}
#: Folders of a user's own models; earlier versions kept refiners in one of their own.
_OWN_FOLDERS = ("", "refiners")
#: Names of a run folder's other files.
_TAKEN_NAMES = frozenset({"", "settings", "slides", "plan", "job", "verdict", "decision", "encoded"})


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """A model that has a name.

    Attributes
    ----------
    name
        As the command line takes it.
    path
        Of its weights.
    shipped
        Whether it ships with the program.
    task
        Empty where its card cannot be read.
    """

    name: str
    path: Path
    shipped: bool
    task: str = DETECT


def display_name(name: str, *, shipped: bool, task: str = DETECT) -> str:
    """Return what a list that a person chooses from calls a model: what it is for, where the program knows that.

    Parameters
    ----------
    name
        As the command line takes it, or the path of its weights.
    shipped
        Whether it ships with the program: those of a task all look for the same, in the same stain.
    task
        Its task.
    """
    return f"{_PURPOSES.get(task, _PURPOSE)} ({name})" if shipped else Path(name).name


def own_models_folder() -> Path:
    """Return where this user's own models are kept."""
    return Path(platformdirs.user_data_dir("napari-metastasis", appauthor=False)) / "models"


def check_own_models_folder() -> None:
    """See that models can be kept, without making the folder.

    Raises
    ------
    StorageError
        If the folder cannot be written, or made.
    """
    folder = own_models_folder()
    with storage_errors(folder / "model.safetensors"):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        # Tried out: rights say nothing of read-only disks.
        with tempfile.TemporaryFile(dir=there):
            pass


def check_name(name: str) -> None:
    """Refuse a model's name that cannot name its files.

    Raises
    ------
    ModelError
        If it is empty, hidden, a path, or the name of another file in a run folder.
    """
    if Path(name).name != name or name.startswith(".") or name in _TAKEN_NAMES:
        raise ModelError(f"expected a model's name that can name its files, got {name!r}; choose another --name")


def list_models(task: str | None = None) -> tuple[ZooEntry, ...]:
    """Return every model that ships and every one of the user's own, each sorted by name. Reads cards, no weights.

    Parameters
    ----------
    task
        Only models of this task; ``None`` for all, also those whose card cannot be read.
    """
    own_folder = own_models_folder()
    own_paths = [path for folder in _OWN_FOLDERS for path in (own_folder / folder).glob("*.safetensors")]
    shipped = [_entry(path, shipped=True) for path in sorted(_SHIPPED.glob("*.safetensors"))]
    # A shipped name always means the shipped model: published figures must not depend on the machine.
    taken = {entry.name for entry in shipped}
    own = [_entry(path, shipped=False) for path in sorted(own_paths, key=lambda path: path.stem)]
    entries = (*shipped, *(entry for entry in own if entry.name not in taken))
    return tuple(entry for entry in entries if task in (None, entry.task))


def _entry(path: Path, *, shipped: bool) -> ZooEntry:
    try:
        task, _ = read_task(path)
    except WeightsError:
        task = ""
    return ZooEntry(path.stem, path, shipped, task)


def model_task(name: str | Path) -> str:
    """Return the task on the card of a model, by name or path; "detect" where there is no such model."""
    known = {entry.name: entry.task for entry in list_models()}
    if str(name) in known:
        return known[str(name)] or DETECT
    path = home_path(name)
    try:
        return read_task(path)[0] if path.suffix == ".safetensors" else DETECT
    except WeightsError:
        return DETECT


def load_model(name: str | Path, task: str | None = None) -> Model:
    """Return a model by its name, or by the path of its weights.

    Parameters
    ----------
    name
        Of a model, or the path of a .safetensors file with its card beside it.
    task
        That the model must be for; ``None`` for any.

    Raises
    ------
    UnknownModelError
        If no model has this name and no weights lie at this path.
    WeightsError
        If its files are damaged.
    ModelError
        If it is for another task.
    """
    noun = "model" if task in (None, DETECT) else find_task(task or "").noun
    entries = {entry.name: entry for entry in list_models()}
    entry = entries.get(str(name))
    path = home_path(name) if entry is None else entry.path
    if entry is None and not (path.suffix == ".safetensors" and path.exists()):
        known = ", ".join(one.name for one in entries.values() if task in (None, one.task)) or "none"
        raise UnknownModelError(
            f"expected the name of a {noun} ({known}) or a .safetensors file, got {str(name)!r}; "
            "see 'napari-metastasis models list'"
        )
    model = read_model(path)
    if task not in (None, model.task):
        wanted, found = find_task(task or "").noun, find_task(model.task).noun
        raise ModelError(f"expected a {wanted}, got {model.name}, which is a {found}; choose a {wanted}")
    return model


def weights_of(name: str | Path) -> Path:
    """Return where the weights of a model lie, by its name or path; what a path names need not be there."""
    entry = next((one for one in list_models() if one.name == str(name)), None)
    return home_path(name) if entry is None else entry.path


def load_detector(name: str | Path) -> Detector:
    """Return a detector by its name or path; see :func:`load_model`."""
    model = load_model(name, DETECT)
    assert isinstance(model, Detector)
    return model


def add_model(weights: Path, *, trusted: bool = False) -> ZooEntry:
    """Keep a model among the user's own, under the name on its card.

    Parameters
    ----------
    weights
        A .safetensors file with its card beside it, or a folder that holds one.
    trusted
        Whether the user trusts what is code in it, from now on.

    Returns
    -------
    ZooEntry
        The model as it can be asked for from now on. Adding the same model again changes nothing but its card.

    Raises
    ------
    ModelError
        If another model has this name already, or the folder holds several; none is touched.
    WeightsError
        If its files are damaged.
    StorageError
        If the folder cannot be written.
    """
    if weights.is_dir():
        weights = _only_weights(weights)
    model = read_model(weights)
    check_name(model.name)
    if trusted and isinstance(model.network, Program):
        model.network.trusted(model.name)
    known = {entry.name: entry for entry in list_models()}
    if (entry := known.get(model.name)) is not None:
        held = read_model(entry.path) if entry.task == model.task else None
        if held is not None and (held.spec, held.weights_sha256) == (model.spec, model.weights_sha256):
            if not entry.shipped:
                correct_card(entry.path, model.card)
            return entry
        kind = "that ships" if entry.shipped else f"of your own ({entry.path})"
        raise ModelError(
            f"expected a name that no model has, got {model.name!r}, a model {kind}; "
            "give the path of its weights instead of the name, or take another --name"
        )
    folder = own_models_folder()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model.name}.safetensors"
    if (replay := read_replay(weights.with_suffix(REPLAY_SUFFIX))) is not None:
        write_replay(path.with_suffix(REPLAY_SUFFIX), replay)
    save_model(path, model.network, model.spec, model.card)
    return ZooEntry(model.name, path, shipped=False, task=model.task)


def _only_weights(folder: Path) -> Path:
    with storage_errors(folder):
        found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        held = ", ".join(one.name for one in found) or "none"
        raise ModelError(
            f"expected a folder with the .safetensors file of one model, got {held} in {folder}; name the file"
        )
    return found[0]
