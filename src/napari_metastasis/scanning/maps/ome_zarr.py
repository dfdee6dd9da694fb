"""How a map lies on disk: names, attributes and levels of its OME-Zarr folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from napari_metastasis.errors import MetastasisError, StorageError, brief, first_line
from napari_metastasis.geometry import CHUNK_CELLS, Affine1D, ChunkedCells, HeatmapFrame, ModelFrame, Size
from napari_metastasis.partials import partial_folder
from napari_metastasis.plain_json import read_json
from napari_metastasis.scanning.maps.kinds import PROBABILITY, MapKind
from napari_metastasis.storage import storage_errors

__all__ = [
    "DAMAGED",
    "HEATMAP_VERSION",
    "MapHeader",
    "create",
    "digest",
    "holds_chunk",
    "journal_path",
    "last_written",
    "level_path",
    "like",
    "lock_path",
    "open_answers",
    "precision_of",
    "read_header",
    "remove",
    "write_header",
    "write_pyramid",
]

#: Version of the answers: to be raised when a change of this program changes a probability by more than rounding.
HEATMAP_VERSION = 1

#: What zarr and its codecs raise for what was cut short or altered.
DAMAGED = (ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError, AssertionError, OverflowError)

#: The coarsest level is at most this long: one chunk.
_COARSEST_CELLS = CHUNK_CELLS

#: Side of a slide, in its own pixels or a model's, and cells of a map: several times those of the largest slides.
_MOST_PX, _MOST_CELLS = 1 << 24, 1 << 30

#: Name under which the group keeps what OME-Zarr has no place for.
_OWN = "napari_metastasis"

#: Key of an identity under which the number format of the answers stands.
_PRECISION = "precision"

#: Maps of earlier versions do not say what they are: those with this key in their identity are refined ones.
_REFINED_KEY = "refined_version"
_REFINED = MapKind(name="refined", title="Refined probability", stem="refined")


@dataclass(frozen=True, slots=True)
class MapHeader:
    """What is known of a stored map before its values are read.

    Attributes
    ----------
    kind
        What it is.
    frame
        Where its cells lie.
    identity
        Everything that decides its values, as plain values.
    """

    kind: MapKind
    frame: HeatmapFrame
    identity: Mapping[str, Any]


def level_path(path: Path, level: int) -> Path:
    """Return the folder of one resolution; 0 holds the answers."""
    return path / str(level)


def holds_chunk(path: Path, row: int, column: int) -> bool:
    """Return whether anything was written into a chunk of the finest level."""
    return (level_path(path, 0) / "c" / str(row) / str(column)).exists()


# Both files lie inside the finest array, because zarr warns of strange files in a group but not in an array.
def journal_path(path: Path) -> Path:
    """Return the file that lists the finished ROIs."""
    return level_path(path, 0) / "journal.jsonl"


def last_written(path: Path) -> float:
    """Return when the last answers were added to a map, in seconds; 0 where there are none."""
    try:
        return journal_path(path).stat().st_mtime
    except OSError:
        return 0.0


def lock_path(path: Path) -> Path:
    """Return the file whose lock the writer holds."""
    return level_path(path, 0) / "writer.lock"


def digest(identity: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an identity, the same for every order of its keys."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    # Names need not be UTF-8.
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def like(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether two identities say the same, but for the number format of the answers."""
    return _PRECISION in known and digest({**known, _PRECISION: None}) == digest({**wanted, _PRECISION: None})


def precision_of(wanted: Sequence[Mapping[str, Any]], stored: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the number format of the first stored map that is wanted in any; ``None`` without one.

    What is fastest depends on the machine, and on what it remembers of its measurements; a map that was begun in one
    format must not begin anew for that, nor go on in another.

    Parameters
    ----------
    wanted
        Identities, any of which will do.
    stored
        Identities of stored maps, the best first.
    """
    found = (known for known in stored if any(like(known, one) for one in wanted))
    return next((str(known[_PRECISION]) for known in found), None)


def _level_um(frame: HeatmapFrame, level: int) -> Affine1D:
    """Return where the cells of a level lie in µm: each is 2^level cells wide, around their common centre."""
    factor = 2**level
    finest = frame.um
    return Affine1D(finest.scale * factor, finest.translate + finest.scale * (factor - 1) / 2)


def _multiscales(frame: HeatmapFrame, levels: int) -> list[dict[str, Any]]:
    """Return the OME-Zarr 0.5 description of this many levels."""
    affines = [_level_um(frame, level) for level in range(levels)]
    return [
        {
            "name": "tumour probability",
            "type": "max",
            "axes": [{"name": name, "type": "space", "unit": "micrometer"} for name in ("y", "x")],
            "datasets": [
                {
                    "path": str(level),
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [affine.scale] * 2},
                        {"type": "translation", "translation": [affine.translate] * 2},
                    ],
                }
                for level, affine in enumerate(affines)
            ],
        }
    ]


def _attributes(header: MapHeader) -> dict[str, Any]:
    return {
        "ome": {"version": "0.5", "multiscales": _multiscales(header.frame, levels=1)},
        _OWN: {
            "heatmap_version": HEATMAP_VERSION,
            "map": header.kind.to_json(),
            "frame": asdict(header.frame),
            "identity": dict(header.identity),
        },
    }


def write_header(path: Path, header: MapHeader) -> None:
    """Change what decides the answers of a map that has none yet.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    with storage_errors(path):
        zarr.open_group(path, mode="r+", zarr_format=3).update_attributes({_OWN: _attributes(header)[_OWN]})


def _create_level(group: zarr.Group, level: int, shape: tuple[int, int]) -> zarr.Array[Any]:
    return group.create_array(
        str(level),
        shape=shape,
        chunks=(CHUNK_CELLS, CHUNK_CELLS),
        dtype="float32",
        fill_value=np.nan,
        # The checksum tells a chunk that a power cut left half-written from a whole one.
        compressors=ZstdCodec(level=3, checksum=True),
        dimension_names=("y", "x"),
        overwrite=level > 0,
    )


def create(path: Path, header: MapHeader) -> tuple[Path, ...]:
    """Make an empty map unless something lies at ``path`` already; it appears whole, or not at all.

    Returns
    -------
    The folders that this call made, the innermost first, for :func:`remove`.

    Raises
    ------
    StorageError
        If the disk refuses. No folder that this call made is left behind.
    """
    with storage_errors(path):
        if path.exists():
            return ()
        missing = tuple(folder for folder in path.parents if not folder.exists())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial_folder(path) as partial:
                group = zarr.create_group(store=partial, zarr_format=3, attributes=_attributes(header))
                _create_level(group, 0, header.frame.cells.shape)
        except BaseException as error:
            # Another scan may have been faster; the caller then meets its lock.
            was_made = isinstance(error, OSError) and path.exists()
            _remove_empty(missing)
            if not was_made:
                raise
            return ()
    return (path, *missing)


def remove(made: tuple[Path, ...]) -> None:
    """Delete what :func:`create` made: the map, and the folders around it that hold nothing else."""
    if made:
        shutil.rmtree(made[0], ignore_errors=True)
    _remove_empty(made[1:])


def _remove_empty(folders: tuple[Path, ...]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def read_header(path: Path) -> MapHeader:
    """Return what is known of a stored map.

    Raises
    ------
    StorageError
        If no heatmap of this program lies at ``path``.
    """
    try:
        with storage_errors(path):
            own = read_json(path / "zarr.json")["attributes"][_OWN]
        if own["heatmap_version"] != HEATMAP_VERSION:
            raise StorageError(
                f"expected a heatmap of version {HEATMAP_VERSION}, got {brief(own['heatmap_version'])} at {path}; "
                "update the program, or scan into another folder"
            )
        earlier = (_REFINED if _REFINED_KEY in own["identity"] else PROBABILITY).to_json()
        if not isinstance(own["identity"], dict):
            raise TypeError("the identity is no object")
        return MapHeader(MapKind.from_json(own.get("map", earlier)), _frame(own["frame"]), own["identity"])
    except MetastasisError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"expected a heatmap at {path}, got something else; choose another folder") from error


def _frame(stored: Mapping[str, Any]) -> HeatmapFrame:
    """Return a stored frame, if a slide can have it.

    Raises
    ------
    ValueError, TypeError, KeyError
        If it is anything else.
    """
    model, size = stored["model"], stored["model"]["size"]
    lengths = (size["width"], size["height"], stored["patch_px"], stored["stride_px"])
    if not all(type(length) is int and 0 < length <= _MOST_PX for length in lengths):
        raise ValueError("a size that no slide has")
    if not all(type(model[name]) in (int, float) and 0 < model[name] <= _MOST_PX for name in ("scale", "mpp")):
        raise ValueError("a scale that no slide has")
    frame = HeatmapFrame(ModelFrame(**{**model, "size": Size(**size)}), stored["patch_px"], stored["stride_px"])
    if frame.cells.area > _MOST_CELLS:
        raise ValueError("more cells than a slide has")
    return frame


def open_answers(path: Path, frame: HeatmapFrame, *, writable: bool) -> zarr.Array[Any]:
    """Return the finest level of a stored heatmap, float32, (rows, columns).

    Raises
    ------
    StorageError
        If it cannot be read, or is not as large as the frame says.
    """
    damaged = f"expected a readable heatmap, got damaged data in {path}; move it away, then scan again"
    try:
        with storage_errors(path):
            array: zarr.Array[Any] = zarr.open_array(level_path(path, 0), mode="r+" if writable else "r", zarr_format=3)
    except DAMAGED as error:
        raise StorageError(damaged) from error
    # Other chunks may be of any size, and are none of ours.
    if (array.shape, array.chunks) != (frame.cells.shape, (CHUNK_CELLS,) * 2) or array.dtype != np.float32:
        raise StorageError(damaged)
    return array


def write_pyramid(path: Path, frame: HeatmapFrame, values: ChunkedCells) -> None:
    """Write every level above the finest and say so in the group's attributes.

    Parameters
    ----------
    path, frame
        The heatmap.
    values
        Of the finest level.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    try:
        with storage_errors(path):
            group = zarr.open_group(path, mode="r+", zarr_format=3)
            levels = 1
            while max(values.shape) > _COARSEST_CELLS:
                values = values.max_pooled()
                level = _create_level(group, levels, values.shape)
                for cells, answers in values:
                    level[cells.slices] = answers
                levels += 1
            group.update_attributes({"ome": {"version": "0.5", "multiscales": _multiscales(frame, levels)}})
    except DAMAGED as error:
        raise StorageError(
            f"expected a heatmap to finish, got damaged data in {path} ({first_line(error)}); move it away, then scan "
            "again"
        ) from error
