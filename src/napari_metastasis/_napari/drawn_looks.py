"""How what a person says of a slide looks: one table for lines, buttons and the legend. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["DRAWN", "TAKEN_AWAY_RGB", "DrawnLook", "line_look"]

#: Of findings that are rejected or ignored: the grey of what no longer counts.
TAKEN_AWAY_RGB = (107, 107, 107)


@dataclass(frozen=True, slots=True)
class DrawnLook:
    """How what was drawn looks.

    Attributes
    ----------
    rgb
        Its colour, 0 to 255.
    width_px
        Width of its lines, in screen pixels.
    is_broken
        Whether these are broken: told apart without colours, too.
    """

    rgb: tuple[int, int, int]
    width_px: float
    is_broken: bool


#: By label.
DRAWN: Mapping[str, DrawnLook] = {
    "tumour": DrawnLook((92, 38, 224), 2.6, is_broken=False),
    "normal": DrawnLook((0, 115, 191), 2.4, is_broken=True),
    "ignore": DrawnLook((204, 102, 0), 2.4, is_broken=True),
    "undecided": DrawnLook((64, 64, 64), 1.8, is_broken=False),
}


def line_look(mark: str) -> tuple[int, int, int, bool]:
    """Return the colour of a line, and whether it is broken: of a label, or of what was rejected."""
    if mark == "rejected":
        return (*TAKEN_AWAY_RGB, True)
    look = DRAWN[mark]
    return (*look.rgb, look.is_broken)
