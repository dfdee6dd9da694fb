"""How the outline of a lesion looks: its size class by its colour, what was said of it by the kind of its line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_metastasis._napari.drawn_looks import TAKEN_AWAY_RGB
from napari_metastasis._napari.outline_visual import LineStyle

if TYPE_CHECKING:
    from napari_metastasis.annotations import Corrections
    from napari_metastasis.annotations.corrections import State
    from napari_metastasis.lesions import Findings, Reviewed

__all__ = ["DOT_PX", "LINE_PX", "casings", "style_of_lesions", "styles"]

#: Widths in screen pixels: of an outline, of one that is confirmed, rejected or ignored, of the chosen one; diameters
#: of dots.
LINE_PX, DOT_PX = (2.0, 3.0, 1.4, 3.5), (4.0, 5.0, 5.0, 7.0)
#: Light lines are bordered dark and dark ones light; lightness is that of the classes in between, 0 to 1.
_LIGHT, _DARK, _MIDDLE = (1.0, 1.0, 1.0), (0.08, 0.08, 0.10), 0.55


def styles(widths: tuple[float, float, float, float]) -> list[LineStyle]:
    """Return how outlines look, or dots: of each size class pending, confirmed and chosen, then what was taken away.

    Parameters
    ----------
    widths
        In screen pixels: pending, confirmed, taken away, chosen.
    """
    from napari_metastasis.lesions import SIZE_CLASSES

    pending, confirmed, away, chosen = widths
    colors = [tuple(value / 255 for value in style.rgb) for style in SIZE_CLASSES.values()]
    shown = [
        LineStyle(width, (red, green, blue)) for width in (pending, confirmed, chosen) for red, green, blue in colors
    ]
    # What a person took away is broken as well: seen without colours, too.
    grey = (TAKEN_AWAY_RGB[0] / 255, TAKEN_AWAY_RGB[1] / 255, TAKEN_AWAY_RGB[2] / 255)
    return [*shown, LineStyle(away, grey, dashed=True), LineStyle(chosen, grey, dashed=True)]


def style_of_lesions(
    found: Findings, reviewed: Reviewed | None, selected: int | None, corrections: Corrections, *, most: int
) -> npt.NDArray[np.intp]:
    """Return which of the :func:`styles` each lesion has, by its id; -1 of ids that no lesion has.

    Parameters
    ----------
    found
        The lesions.
    reviewed
        What was said of them.
    selected
        Id of the chosen one.
    corrections
        All of the slide: where a person drew another outline of a finding, the model's own steps back.
    most
        The largest id that is asked for.
    """
    from napari_metastasis.lesions import SIZE_CLASSES

    names, rows = list(SIZE_CLASSES), found.rows
    count, away = len(names), 3 * len(names)
    style = np.full(max(most, *(row.id for row in rows), 0) + 1, -1)
    states: dict[int, State] = {}
    if reviewed is not None:
        for lesion, review in reviewed.of_lesion.items():
            said = (corrections.by_key.get(key) for key in review.about)
            redrawn = any(one.found is not None and one.shape_px is not one.found.outline_px for one in said if one)
            states[lesion] = "ignored" if redrawn and review.state == "confirmed" else review.state
    for row in rows:
        of_class, state = names.index(row.size_class), states.get(row.id, "pending")
        if state in ("rejected", "ignored"):
            style[row.id] = away + (row.id == selected)
        elif row.id == selected:
            style[row.id] = 2 * count + of_class
        else:
            style[row.id] = of_class + count * (state == "confirmed")
    return style


def casings(drawn: Sequence[LineStyle]) -> list[LineStyle]:
    """Return what lies beneath each style: light beneath dark colours, dark beneath light ones."""
    return [
        LineStyle(style.width_px, _DARK if _lightness(style.color) > _MIDDLE else _LIGHT, style.dashed)
        for style in drawn
    ]


def _lightness(color: tuple[float, float, float]) -> float:
    """Return about how light a colour is, 0 to 1 (luma, Rec. 601)."""
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue
