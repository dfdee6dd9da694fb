"""What the attributes of an OME-Zarr say: versions 0.1 to 0.5 of its description of images (NGFF)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_metastasis.errors import CorruptSlideError, MetastasisError, NotASlideError, brief
from napari_metastasis.plain_json import PlainJsonError, parse_json
from napari_metastasis.slides.backend import PixelSize
from napari_metastasis.slides.metadata import plausible
from napari_metastasis.slides.zarr_files import ZarrFiles

__all__ = ["OWN", "Multiscale", "Node", "find_image", "multiscale_of", "read_node"]

#: What a description may take: those of plates have some megabytes.
_MOST_BYTES = 1 << 24
_MOST_LEVELS, _MOST_SERIES = 64, 64
#: Where this program keeps what OME-Zarr has no place for.
OWN = "napari_metastasis"
#: Axes of versions that did not name them.
_UNNAMED = ("t", "c", "z", "y", "x")

_UM = {
    "meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0, "nanometer": 1e-3, "picometer": 1e-6,
    "angstrom": 1e-4, "inch": 25400.0,
    # What others write, against the specification.
    "micron": 1.0, "um": 1.0, "µm": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """A group or an array: its attributes, its description where it is an array, and whether of Zarr's third format."""

    attributes: Mapping[str, Any]
    array: Mapping[str, Any] | None
    is_third: bool


@dataclass(frozen=True, slots=True)
class Multiscale:
    """The levels of an image.

    Attributes
    ----------
    axes
        Their names, in the order of the arrays' axes.
    paths
        Of the levels, as they are listed.
    scales
        What a level's own transformation says, along y and x, one a level; ``None`` where it says nothing.
    pixel_size
        Of the first level; ``None`` where none is stated, or one without a unit.
    notes
        What has to be said of it.
    """

    axes: tuple[str, ...]
    paths: tuple[str, ...]
    scales: tuple[tuple[float, float] | None, ...]
    pixel_size: PixelSize | None
    notes: tuple[str, ...]


def read_node(files: ZarrFiles, path: str, *, inside: Node | None = None) -> Node | None:
    """Return what a hierarchy says of a group or an array; ``None`` where there is none.

    Parameters
    ----------
    files
        Of the hierarchy.
    path
        In it.
    inside
        What it lies in: of the same format, so that no file of the other is asked for.

    Raises
    ------
    CorruptSlideError
        If it is no JSON, or no description.
    NetworkError
        If the network fails.
    """
    third = _json(files, _join(path, "zarr.json")) if inside is None or inside.is_third else None
    if third is not None:
        is_array = third.get("node_type") == "array"
        return Node(_mapping(third.get("attributes")), third if is_array else None, is_third=True)
    if inside is not None and inside.is_third:
        return None
    array = None if inside is None else _json(files, _join(path, ".zarray"))
    if array is not None:
        # Attributes of a level say nothing that is needed.
        return Node({}, array, is_third=False)
    attributes = _json(files, _join(path, ".zattrs"))
    if attributes is None and inside is None:
        array = _json(files, _join(path, ".zarray"))
    if attributes is None and array is None and _json(files, _join(path, ".zgroup")) is None:
        return None
    return Node({} if attributes is None else attributes, array, is_third=False)


def find_image(files: ZarrFiles) -> tuple[dict[str, Node], str]:
    """Return the images of a hierarchy by their paths, and why there is none where there is none.

    Raises
    ------
    CorruptSlideError, NetworkError
        As :func:`read_node` does.
    """
    root = read_node(files, "")
    if root is None:
        return {}, "a folder without a description"
    about = _ome(root.attributes)
    if about.get("multiscales"):
        if "image-label" in about:
            return {}, "labels of a segmentation"
        return {"": root, **_own_images(files, root)}, ""
    if "plate" in about or "well" in about:
        return {}, "a plate of many images; name one of them, such as A/1/0 in it"
    if "bioformats2raw.layout" in about:
        return _series(files), "a collection without images"
    if root.array is not None:
        return {}, "one array, without a description of an image"
    if "labels" in about:
        return {}, "labels alone"
    return {}, "a group without an image (multiscales)"


def _series(files: ZarrFiles) -> dict[str, Node]:
    """Return the images of a collection as Bio-Formats writes it."""
    own = read_node(files, "OME")
    listed = _ome(own.attributes).get("series") if own is not None else None
    named = isinstance(listed, list) and all(isinstance(one, str) for one in listed)
    paths = [str(one) for one in listed] if named and listed else [str(number) for number in range(_MOST_SERIES)]
    found: dict[str, Node] = {}
    for path in paths[:_MOST_SERIES]:
        node = read_node(files, _safe(path, files.name))
        if node is None and not named:
            break
        if node is not None and _ome(node.attributes).get("multiscales"):
            found[path] = node
    return found


def _own_images(files: ZarrFiles, root: Node) -> dict[str, Node]:
    """Return the images beside a slide that this program wrote: label, macro, thumbnail."""
    own = _mapping(root.attributes.get(OWN)).get("associated")
    found: dict[str, Node] = {}
    for path in own[:_MOST_SERIES] if isinstance(own, list) else ():
        if isinstance(path, str) and (node := read_node(files, _safe(path, files.name))) is not None:
            found[path] = node
    return found


def multiscale_of(attributes: Mapping[str, Any], name: str) -> Multiscale:
    """Return the levels of an image from the attributes of its group.

    Raises
    ------
    CorruptSlideError
        If they are no description of levels.
    NotASlideError
        If its axes are none of an image.
    """
    described = _ome(attributes).get("multiscales")
    try:
        first = described[0]  # type: ignore[index]
        axes, units = _axes(first, name)
        datasets = first["datasets"]
        if not isinstance(datasets, list) or not 0 < len(datasets) <= _MOST_LEVELS:
            raise ValueError("no levels, or too many")
        paths = tuple(_safe(str(one["path"]), name) for one in datasets)
        around = _scale(first.get("coordinateTransformations"), axes)
        scales = tuple(_product(_scale(one.get("coordinateTransformations"), axes), around) for one in datasets)
    except MetastasisError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise CorruptSlideError(
            f"expected the levels of an image in the description of {name}, got a damaged one; copy the slide again "
            "from its source"
        ) from error
    notes = []
    if len(described) > 1:  # type: ignore[arg-type]
        notes.append(f"expected one image in {name}, got {len(described)} of one group; only the first is read")  # type: ignore[arg-type]
    return Multiscale(axes, paths, scales, _pixel_size(scales[0], units), tuple(notes))


def _axes(described: Mapping[str, Any], name: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names of the axes, and their units where they are stated."""
    listed = described.get("axes")
    if listed is None:
        return _UNNAMED, {}
    axes = tuple(str(one if isinstance(one, str) else one["name"]).lower() for one in listed)
    units = {
        axis: str(one["unit"])
        for axis, one in zip(axes, listed, strict=True)
        if isinstance(one, dict) and one.get("unit") is not None
    }
    if len(set(axes)) < len(axes) or not {"y", "x"} <= set(axes) <= set(_UNNAMED):
        raise NotASlideError(
            f"expected the axes of an image (y and x; c, z and t) in {name}, got {brief(' '.join(axes))}; export the "
            "slide again"
        )
    return axes, units


def _scale(transformations: Any, axes: Sequence[str]) -> tuple[float, float] | None:
    """Return the scale along y and x, and ``None`` where there is none."""
    for one in transformations or ():
        if one.get("type") == "scale" and isinstance(one.get("scale"), list):
            found = one["scale"][axes.index("y")], one["scale"][axes.index("x")]
            if not all(type(value) in (int, float) and math.isfinite(value) and value > 0 for value in found):
                raise ValueError("a scale that is none")
            return float(found[0]), float(found[1])
    return None


def _product(own: tuple[float, float] | None, around: tuple[float, float] | None) -> tuple[float, float] | None:
    if own is None or around is None:
        return around if own is None else own
    return own[0] * around[0], own[1] * around[1]


def _pixel_size(scale: tuple[float, float] | None, units: Mapping[str, str]) -> PixelSize | None:
    """Return the pixel size in µm; a number without a unit is none."""
    um_y, um_x = (_UM.get(units.get(axis, "").strip()) for axis in "yx")
    if scale is None or um_y is None or um_x is None:
        return None
    return plausible(scale[1] * um_x, scale[0] * um_y)


def _ome(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what OME says: since 0.5 it stands under a name of its own."""
    return _mapping(attributes["ome"]) if "ome" in attributes else attributes


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _join(path: str, key: str) -> str:
    return f"{path}/{key}" if path else key


def _safe(path: str, name: str) -> str:
    """Return a path in a hierarchy, if it does not lead out of it."""
    parts = path.strip("/").split("/")
    if (
        path.startswith("/")
        or "\\" in path
        or "\0" in path
        or ":" in path
        or any(one in ("", ".", "..") for one in parts)
    ):
        raise CorruptSlideError(
            f"expected the path of a level inside {name}, got {brief(path)}; export the slide again"
        )
    return "/".join(parts)


def _json(files: ZarrFiles, key: str) -> Mapping[str, Any] | None:
    data = files.read(key, most_bytes=_MOST_BYTES)
    if data is None:
        return None
    try:
        found = parse_json(data, nan_as_null=True)
    except PlainJsonError as error:
        raise CorruptSlideError(
            f"expected {key} of {files.name} to be JSON, got {error}; copy the slide again from its source"
        ) from error
    if not isinstance(found, dict):
        raise CorruptSlideError(
            f"expected a description as {key} of {files.name}, got something else; copy the slide again from its source"
        )
    return found
