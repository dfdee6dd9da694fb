"""What a map is: its name, its unit, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import ChunkedCells, HeatmapFrame
from napari_metastasis.storage import holds_control_characters

__all__ = ["CHANGE", "MITOSES", "PROBABILITY", "SEGMENTED", "AnsweredMap", "MapKind", "MapValues"]

_PROBABILITY = "probability"
_BLENDED, _ALONE = "blended", "alone"

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapKind:
    """A kind of map. Its values are float32, and NaN where a cell is not answered: not answered is not 0.

    Attributes
    ----------
    name
        Its name in passes, results and the window.
    title
        Its name for a person.
    stem
        Of its file in the result folder: ``<stem>.ome.zarr``.
    unit
        Of its values.
    colors
        Name of the window's colours that it is shown in.
    reading
        How lesions are read from it: "blended", on the scan's cells and together with the maps before it, or "alone",
        on its own cells, which need not fit the scan's.
    """

    name: str
    title: str
    stem: str
    unit: str = _PROBABILITY
    colors: str = "probability"
    reading: str = _BLENDED

    @property
    def is_probability(self) -> bool:
        """Return whether lesions may be read from it."""
        return self.unit == _PROBABILITY

    @property
    def stands_alone(self) -> bool:
        """Return whether lesions are read from it alone, on its own cells."""
        return self.reading == _ALONE

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON can hold, as earlier versions wrote them where they could."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("reading", _BLENDED)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MapKind:
        """Return what :meth:`to_json` wrote.

        Raises
        ------
        ValueError, TypeError
            If it is anything else.
        """
        kind = cls(**values)
        if not all(isinstance(value, str) and not holds_control_characters(value) for value in asdict(kind).values()):
            raise ValueError("a kind of map without a name")
        return kind


@dataclass(frozen=True, slots=True, eq=False)
class MapValues:
    """A map in memory.

    Attributes
    ----------
    kind
        What it is.
    frame
        Where its cells lie.
    values
        float32, (rows, columns), NaN where there is no answer.
    """

    kind: MapKind
    frame: HeatmapFrame
    values: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredMap:
    """A map in memory, of which only chunks with answers are held.

    Attributes
    ----------
    kind
        What it is.
    frame
        Where its cells lie.
    cells
        Its values.
    """

    kind: MapKind
    frame: HeatmapFrame
    cells: ChunkedCells

    def whole(self) -> MapValues:
        """Return the map with every cell of the slide, as a window shows it."""
        return MapValues(self.kind, self.frame, self.cells.whole())


#: The map that a segmenter writes, whose lesions have outlines of their own.
SEGMENTED = MapKind(name="segmented", title="Segmented tumour", stem="segmentation", reading=_ALONE)

#: The map that the scan itself writes.
PROBABILITY = MapKind(name="probability", title="Tumour probability", stem="heatmap")

#: The map of mitoses: points are read from it, and never lesions.
MITOSES = MapKind(name="mitoses", title="Mitoses", stem="mitoses", unit="probability of a mitosis")

#: What another model makes of the same tissue; it is shown, and never stored.
CHANGE = MapKind(name="change", title="What changed", stem="change", unit="difference", colors="change")
