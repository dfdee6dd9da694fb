"""The size classes of lesions (AJCC): limits, and the names and colours that tables and files have for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = [
    "ITC_CELLS",
    "LIMITS_MM",
    "SIZE_CLASSES",
    "SizeClass",
    "SizeClassStyle",
    "count_text",
    "estimated_nuclei",
    "size_class",
    "size_class_rule",
]

SizeClass = Literal["itc", "micro", "macro"]


@dataclass(frozen=True, slots=True)
class SizeClassStyle:
    """How a size class is named and drawn.

    Attributes
    ----------
    label, short
        Its name, and the same where there is little room.
    one, many
        What stands behind the number of its lesions.
    rgb
        Its colour in table, slide, pictures, report and files: red, green and blue, 0 to 255.
    """

    label: str
    short: str
    one: str
    many: str
    rgb: tuple[int, int, int]

    @property
    def color(self) -> str:
        """Return its colour as ``#rrggbb``."""
        return "#{:02x}{:02x}{:02x}".format(*self.rgb)


_CLUSTERS = ("cluster of isolated tumour cells", "clusters of isolated tumour cells")
#: The smallest first; the larger, the darker. Chosen by CIEDE2000: the classes lie 23 apart or more, and 16 from the
#: colours of H&E, glass, and light and dark tables, for normal eyes and for each kind of colour blindness.
SIZE_CLASSES: Mapping[SizeClass, SizeClassStyle] = MappingProxyType(
    {
        "itc": SizeClassStyle("Isolated tumour cells", "ITC", *_CLUSTERS, (187, 238, 0)),
        "micro": SizeClassStyle("Micro-metastasis", "Micro", "micro-metastasis", "micro-metastases", (0, 170, 119)),
        "macro": SizeClassStyle("Macro-metastasis", "Macro", "macro-metastasis", "macro-metastases", (170, 34, 17)),
    }
)

#: Longest diameters in mm, inclusive, of isolated tumour cells and of micro-metastases (AJCC).
LIMITS_MM = _ITC_MM, _MICRO_MM = 0.2, 2.0
#: Fewer cells than these are isolated tumour cells as well, however they lie (AJCC).
ITC_CELLS = 200


def size_class(length_mm: float, nuclei: int | None = None) -> SizeClass:
    """Return the AJCC class of a lesion by its longest diameter, in mm, and by its nuclei where their number is known.

    Fewer than 200 cells are isolated ones up to 2 mm; what is longer than that is no cluster of so few.
    """
    if length_mm <= _ITC_MM:
        return "itc"
    if length_mm > _MICRO_MM:
        return "macro"
    return "itc" if nuclei is not None and nuclei < ITC_CELLS else "micro"


def size_class_rule() -> str:
    """Return the classes and their limits in one line, for a person."""
    itc, micro, macro = (style.label.lower() for style in SIZE_CLASSES.values())
    return (
        f"By longest diameter (AJCC): {itc} up to {_ITC_MM:g} mm, or of fewer than {ITC_CELLS} nuclei, estimated from "
        f"the area; {micro} up to {_MICRO_MM:g} mm, {macro} above"
    )


def estimated_nuclei(area_mm2: float, nuclei_per_mm2: float) -> int | None:
    """Return about how many nuclei an area of tumour holds; ``None`` where the density is 0: not to be estimated."""
    return round(area_mm2 * nuclei_per_mm2) if nuclei_per_mm2 else None


def count_text(classes: Iterable[SizeClass]) -> str:
    """Return lesions counted by class, the largest first: "1 macro-metastasis, 3 micro-metastases"."""
    counts = Counter(classes)
    return ", ".join(
        f"{counts[key]} {style.one if counts[key] == 1 else style.many}"
        for key, style in reversed(list(SIZE_CLASSES.items()))
        if counts[key]
    )
