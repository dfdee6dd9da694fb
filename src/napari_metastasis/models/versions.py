"""Models as versions: what each was made from, carried to other workstations as folders, and removed on request."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_metastasis.errors import ModelError, StorageError, UnknownModelError, WeightsError, brief
from napari_metastasis.models.replay import REPLAY_SUFFIX
from napari_metastasis.models.weights_file import read_card, read_task, read_weights
from napari_metastasis.models.zoo import ZooEntry, list_models, weights_of
from napari_metastasis.storage import storage_error, storage_errors

__all__ = ["ModelVersion", "export_model", "list_versions", "parents_of", "readers_of", "remove_model", "version_of"]

#: Files of one model: weights, card, and patches that retraining does not forget.
_SUFFIXES = (".safetensors", ".json", REPLAY_SUFFIX)
#: Characters of what a list shows of a card.
_LONGEST = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A model of a list: what it was made from, and what came of it.

    Attributes
    ----------
    entry
        The model.
    parents
        Names of the models that it was made from, the nearest first; empty where it was not retrained.
    written
        When its weights were written here, in local time; ``None`` where nothing says so.
    data
        What it learnt from, in one line.
    verdict
        Whether it was better than the model it was made from, as a sentence; empty where it was not judged.
    """

    entry: ZooEntry
    parents: tuple[str, ...]
    written: datetime | None
    data: str
    verdict: str

    @property
    def lineage(self) -> str:
        """Return how it came about: "scannet-pcam → scannet-pcam-v2"; empty where it was not retrained."""
        return " → ".join((*reversed(self.parents), self.entry.name)) if self.parents else ""


def parents_of(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the models that one was made from, the nearest first, as its card has them.

    They stay there when these models are gone.
    """
    held = card.get("parents")
    named = held if isinstance(held, list) else []
    return tuple(brief(one["name"]).strip("'") for one in named if isinstance(one, Mapping) and "name" in one)


def version_of(entry: ZooEntry) -> ModelVersion:
    """Return what the card of a model says of how it came about; of one that cannot be read, nothing."""
    try:
        card = read_card(entry.path)
    except WeightsError:
        card = {}
    retrained = card.get("retrained")
    verdict = retrained.get("verdict") if isinstance(retrained, Mapping) else None
    said = verdict.get("sentence", "") if isinstance(verdict, Mapping) else ""
    return ModelVersion(
        entry=entry,
        parents=parents_of(card),
        written=_written(entry.path),
        data=_line(card.get("data", "")),
        verdict=_line(said),
    )


def list_versions() -> tuple[ModelVersion, ...]:
    """Return every model that ships and every one of the user's own, with where it comes from. Reads cards alone."""
    return tuple(map(version_of, list_models()))


def readers_of(name: str) -> tuple[str, ...]:
    """Return the user's own models that read the features of a model, and cannot scan without it."""
    found = []
    for entry in list_models():
        with suppress(WeightsError):
            if not entry.shipped and read_task(entry.path)[1].get("encoder") == name:
                found.append(entry.name)
    return tuple(found)


def export_model(name: str | Path, folder: Path) -> tuple[Path, ...]:
    """Copy a model into a new folder, which :func:`~napari_metastasis.models.add_model` takes on another workstation.

    Parameters
    ----------
    name
        Of a model, or the path of its weights.
    folder
        It is made, and appears with all its files or not at all.

    Returns
    -------
    The files: weights, card, and the patches that retraining does not forget, where there are any.

    Raises
    ------
    UnknownModelError
        If there is no such model.
    WeightsError
        If its files are damaged.
    StorageError
        If the folder is there, or cannot be written.
    """
    path = _path_of(name)
    # Damaged files are refused here, not on the other workstation.
    stem = str(read_weights(path).spec.get("name", path.stem))
    if Path(stem).name != stem:
        stem = path.stem
    if os.path.lexists(folder):
        raise _is_there(folder)
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f".{folder.name}.{os.getpid()}")
        part.mkdir()
        try:
            for suffix in _SUFFIXES:
                own = path.with_suffix(suffix)
                if own.exists():
                    shutil.copyfile(own, part / f"{stem}{suffix}")
            part.rename(folder)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            if os.path.lexists(folder):
                raise _is_there(folder) from error
            raise
    return tuple(sorted(folder.iterdir()))


def remove_model(name: str) -> ZooEntry:
    """Delete one of the user's own models; cards of others that were made from it go on naming it.

    Parameters
    ----------
    name
        As the command line takes it.

    Returns
    -------
    What was removed.

    Raises
    ------
    ModelError
        If it ships with the program.
    UnknownModelError
        If the user has no such model.
    StorageError
        If its files cannot be deleted.
    """
    entries = {entry.name: entry for entry in list_models()}
    entry = entries.get(name)
    if entry is None:
        own = ", ".join(one.name for one in entries.values() if not one.shipped) or "none"
        raise UnknownModelError(f"expected the name of a model of your own ({own}), got {name!r}; see 'models list'")
    if entry.shipped:
        raise ModelError(f"expected a model of your own, got {name}, which ships with the program; it stays")
    for suffix in _SUFFIXES:
        path = entry.path.with_suffix(suffix)
        with storage_errors(path):
            path.unlink(missing_ok=True)
    return entry


def _path_of(name: str | Path) -> Path:
    path = weights_of(name)
    if path.suffix != ".safetensors" or not path.exists():
        known = ", ".join(one.name for one in list_models())
        raise UnknownModelError(
            f"expected the name of a model ({known}) or a .safetensors file, got {str(name)!r}; "
            "see 'napari-metastasis models list'"
        )
    return path


def _is_there(folder: Path) -> StorageError:
    return storage_error(FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)), folder)


def _written(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).astimezone()
    except (OSError, ValueError, OverflowError):
        return None


def _line(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
