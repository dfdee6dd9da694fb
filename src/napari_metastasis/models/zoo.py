"""Models by name: those that ship with the program, and any that a path points to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_metastasis.errors import UnknownModelError
from napari_metastasis.models.checkpoint import Model, load_checkpoint

__all__ = ["ZooEntry", "list_models", "load_model"]

#: Where the weights that ship lie.
_SHIPPED = Path(__file__).parent / "weights"


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """A model that can be asked for by name."""

    name: str
    path: Path


def list_models() -> tuple[ZooEntry, ...]:
    """Return every model that ships, sorted by name. Reads no weights."""
    return tuple(ZooEntry(path.stem, path) for path in sorted(_SHIPPED.glob("*.safetensors")))


def load_model(name: str | Path) -> Model:
    """Return a model by its name in the zoo, or by the path of its weights.

    Raises
    ------
    UnknownModelError
        If no model has this name and no weights lie at this path.
    WeightsError
        If its files are damaged.
    """
    entries = {entry.name: entry.path for entry in list_models()}
    if str(name) in entries:
        return load_checkpoint(entries[str(name)])
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" and path.exists():
        return load_checkpoint(path)
    known = ", ".join(entries) or "none"
    raise UnknownModelError(
        f"expected the name of a model ({known}) or a .safetensors file, got {str(name)!r}; "
        "see 'napari-metastasis models list'"
    )
