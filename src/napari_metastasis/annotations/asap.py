"""ASAP's XML, as CAMELYON16 and CAMELYON17 use it (https://github.com/computationalpathologygroup/ASAP)."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse
from numpy.typing import NDArray

from napari_metastasis.annotations.polygons import Annotation, AnnotationSet, means_something
from napari_metastasis.annotations.reading import Tell, ToldStream, part_of, silent, told
from napari_metastasis.errors import AnnotationError
from napari_metastasis.storage import atomic_write

__all__ = ["POINT_KINDS", "asap_coordinates", "asap_root", "read_asap_xml", "write_asap_xml"]

#: Shapes that enclose an area. Splines are closed curves whose stored corners lie close together.
_AREAS = frozenset({"Polygon", "Spline", "Rectangle"})
#: How points are counted among what is no area.
POINT_KINDS = ("dots", "point sets")
_PLURALS = {"Dot": "dots", "PointSet": "point sets", "Measurement": "measurements", "None": "annotations of no type"}
#: Where cut-outs go when they are written.
_CUT_OUT = "_2"
#: The share of the time that parsing takes.
_PARSED = 0.7
_TUMOUR_COLOUR = "#F4FA58"
_CUT_OUT_COLOUR = "#64FE2E"
#: Characters that no XML file can hold, not even escaped.
_NEVER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_asap_xml(path: str | os.PathLike[str], *, tell: Tell = silent) -> AnnotationSet:
    """Read the areas of an ASAP file; cut-outs become holes of the areas that they touch.

    Dots, point sets, measurements, and areas of fewer than three corners enclose nothing; they are counted. A group
    within a group whose name says nothing by itself is the group that it lies in.

    Parameters
    ----------
    path
        An XML file with coordinates in level-0 pixels.
    tell
        Takes the share that is read.

    Raises
    ------
    AnnotationError
        If the file cannot be opened, is no ASAP file, or has a coordinate that is no number.
    """
    path = Path(path)
    root = asap_root(path, tell=part_of(tell, 0.0, _PARSED))
    groups = _Groups(root)
    areas: list[Annotation] = []
    omitted: Counter[str] = Counter()
    for element in told(root.findall("Annotations/Annotation"), part_of(tell, _PARSED, 1.0)):
        kind, ring = element.get("Type", "Polygon"), asap_coordinates(element, path)
        if kind not in _AREAS:
            omitted[_PLURALS.get(kind, f"annotations of type {kind!r}")] += 1
        elif len(np.unique(ring, axis=0)) < 3:
            omitted["outlines of fewer than three corners"] += 1
        else:
            areas.append(_area(element, groups.of(element.get("PartOfGroup", "None")), ring, path))
    return AnnotationSet.of_file(areas, omitted)


class _Groups:
    """The groups of a file, some of which lie in others."""

    def __init__(self, root: ET.Element) -> None:
        self._parents = {
            group.get("Name", ""): group.get("PartOfGroup", "None") for group in root.iterfind("AnnotationGroups/Group")
        }

    def of(self, name: str) -> str:
        """Return the group that says what an annotation is: its own, or the nearest around it whose name does."""
        seen, group = set(), name
        while group not in seen and not means_something(group) and self._parents.get(group, "None") != "None":
            seen.add(group)
            group = self._parents[group]
        return group if means_something(group) else name


def asap_root(path: Path, *, tell: Tell = silent) -> ET.Element:
    """Return the file's root element, checked to be ASAP's; ``tell`` takes the share that is read."""
    remedy = "choose the XML file that ASAP saved for this slide"
    try:
        with path.open("rb") as stream:
            root: ET.Element = parse(ToldStream(stream, path.stat().st_size, tell)).getroot()
    except OSError as error:
        raise AnnotationError(
            f"expected a readable ASAP XML file, got {path} ({error.strerror}); check the path"
        ) from error
    except (ET.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise AnnotationError(
            f"expected an ASAP XML file, got {path}, which does not parse ({error}); {remedy}"
        ) from error
    if root.tag != "ASAP_Annotations":
        raise AnnotationError(f"expected <ASAP_Annotations> at the top of {path}, got <{root.tag}>; {remedy}")
    return root


def _area(element: ET.Element, group: str, ring: NDArray[np.float64], path: Path) -> Annotation:
    """Return one area, its corners in the order of their ``Order``."""
    try:
        return Annotation.of_rings(element.get("Name", ""), group, ring)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error


def asap_coordinates(element: ET.Element, path: Path) -> NDArray[np.float64]:
    """Return the (n, 2) coordinates of one annotation in the order of their ``Order``."""
    name = element.get("Name", "")
    try:
        corners = [
            (int(corner.attrib["Order"]), float(corner.attrib["X"]), float(corner.attrib["Y"]))
            for corner in element.iterfind("Coordinates/Coordinate")
        ]
    except KeyError as error:
        raise AnnotationError(
            f"expected Order, X and Y in every coordinate of {name!r} in {path}, got one without {error}; "
            "save the file again from ASAP"
        ) from error
    except ValueError as error:
        raise AnnotationError(
            f"expected numbers as the coordinates of {name!r} in {path}, got something else ({error}); "
            "save the file again from ASAP"
        ) from error
    # Only Order is compared: equal numbers keep their places in the file.
    corners.sort(key=lambda corner: corner[0])
    return np.array([(x, y) for _, x, y in corners], dtype=np.float64).reshape(-1, 2)


def write_asap_xml(
    path: str | os.PathLike[str], annotations: AnnotationSet, *, dots: Sequence[tuple[tuple[float, float], str]] = ()
) -> None:
    """Write an ASAP file in one step: the old file stays whole until the new one is.

    Holes are written as polygons of group ``_2``. Every group in use is declared, without which ASAP discards the file.

    Parameters
    ----------
    path
        File to write; an existing one is replaced.
    annotations
        Areas in level-0 pixels.
    dots
        Points as (x, y) in level-0 pixels, each with its group.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    data = ET.tostring(_document(annotations, dots), encoding="utf-8", xml_declaration=True)
    with atomic_write(path) as file:
        file.write(data)


def _document(annotations: AnnotationSet, dots: Sequence[tuple[tuple[float, float], str]]) -> ET.Element:
    """Return the file's tree."""
    root = ET.Element("ASAP_Annotations")
    listing = ET.SubElement(root, "Annotations")
    for annotation in annotations:
        _add(listing, annotation.name, annotation.group, annotation.exterior, _TUMOUR_COLOUR)
    for annotation in annotations:
        for number, hole in enumerate(annotation.holes):
            _add(listing, f"{annotation.name} cut-out {number}", _CUT_OUT, hole, _CUT_OUT_COLOUR)
    for number, (place, name) in enumerate(dots, 1):
        _add(listing, f"{name} {number}", name, np.array([place], np.float64), _TUMOUR_COLOUR, kind="Dot")
    used = {annotation.group for annotation in annotations if annotation.group != "None"}
    used.update(_CUT_OUT for annotation in annotations if annotation.holes)
    used.update(name for _, name in dots)
    groups = ET.SubElement(root, "AnnotationGroups")
    for name in sorted(used):
        colour = _CUT_OUT_COLOUR if name == _CUT_OUT else _TUMOUR_COLOUR
        group = ET.SubElement(groups, "Group", Name=_plain(name), PartOfGroup="None", Color=colour)
        ET.SubElement(group, "Attributes")
    ET.indent(root, "\t")
    return root


def _plain(name: str) -> str:
    """Return a name without what XML cannot hold."""
    return _NEVER.sub("\ufffd", name)


def _add(listing: ET.Element, name: str, group: str, ring: np.ndarray, colour: str, *, kind: str = "Polygon") -> None:
    """Add one polygon, or dot, whose ``Order`` counts 0, 1, 2 …: ASAP takes it for an index."""
    shape = ET.SubElement(listing, "Annotation", Name=_plain(name), Type=kind, PartOfGroup=_plain(group), Color=colour)
    coordinates = ET.SubElement(shape, "Coordinates")
    for order, (x, y) in enumerate(ring.tolist()):
        # repr is the shortest text that reads back as the same float64.
        ET.SubElement(coordinates, "Coordinate", Order=str(order), X=repr(x), Y=repr(y))
