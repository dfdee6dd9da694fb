"""The colours of the layers, which stand out from the pink and violet of H&E."""

from __future__ import annotations

import numpy as np
from napari.utils.colormaps import Colormap, CyclicLabelColormap

__all__ = [
    "SCANNED_TINT",
    "change_colormap",
    "lesion_colormap",
    "map_colormap",
    "shown_limits",
    "tissue_colormap",
]

#: What was scanned and lies below the threshold, while a scan is running: faint, so that its growth can be followed.
SCANNED_TINT = (0.0, 0.35, 0.55, 0.10)

_TRANSPARENT = (0.0, 0.0, 0.0, 0.0)
#: A map is drawn from this value at the latest; and how many colours are told apart.
_HIGHEST_LIMIT, _STEPS = 0.999, 64

#: Colours of maps from 0 to 1, by the name that their kind gives.
_MAP_COLORS = {
    "probability": np.array(
        [
            # Alpha rises with the probability, so that the tissue stays visible where the network is unsure.
            (0.13, 0.40, 0.95, 0.30),
            (0.00, 0.75, 0.75, 0.42),
            (0.45, 0.85, 0.20, 0.50),
            (1.00, 0.85, 0.00, 0.56),
            (1.00, 0.35, 0.00, 0.62),
        ],
        np.float32,
    ),
    # The hue of the rings, and none of those above: it says nothing of tumour.
    "mitoses": np.array(
        [
            (0.00, 0.35, 0.25, 0.10),
            (0.05, 0.65, 0.40, 0.45),
            (0.12, 1.00, 0.56, 0.80),
        ],
        np.float32,
    ),
}


def shown_limits(threshold: float) -> tuple[float, float]:
    """Return the values that a map is drawn between; napari wants the first one to be lower."""
    return min(threshold, _HIGHEST_LIMIT), 1.0


def map_colormap(colors: str, threshold: float, *, scanning: bool) -> Colormap:
    """Return the colours of a map between its :func:`shown_limits`: a probability has one colour at every threshold.

    Nothing is drawn below the threshold and where nothing was scanned. While ``scanning``, cells below the threshold
    carry a faint tint.

    Parameters
    ----------
    colors
        Their name, from the kind of map; an unknown name gives the colours of probabilities.
    threshold
        Probability from which cells are drawn.
    scanning
        Whether a scan is running.
    """
    fixed = _MAP_COLORS.get(colors, _MAP_COLORS["probability"])
    at = np.linspace(*shown_limits(threshold), _STEPS)
    places = np.linspace(0, 1, len(fixed))
    return Colormap(
        np.column_stack([np.interp(at, places, channel) for channel in fixed.T]).astype(np.float32),
        name=f"tumour {colors}" + (" (scanning)" if scanning else ""),
        nan_color=_TRANSPARENT,
        low_color=SCANNED_TINT if scanning else _TRANSPARENT,
    )


#: Less tumour, as before, more tumour: blue and orange are told apart by every eye, and by none taken for pink.
_CHANGE_COLORS = np.array(
    [
        (0.00, 0.20, 0.70, 0.85),
        (0.20, 0.45, 0.90, 0.55),
        (0.95, 0.95, 0.95, 0.00),
        (0.95, 0.55, 0.10, 0.55),
        (0.75, 0.30, 0.00, 0.85),
    ],
    np.float32,
)


def change_colormap() -> Colormap:
    """Return the colours of a change from -1 to 1: nothing is drawn where there is none, or none is known."""
    at, places = np.linspace(0, 1, 2 * _STEPS + 1), np.linspace(0, 1, len(_CHANGE_COLORS))
    return Colormap(
        np.column_stack([np.interp(at, places, channel) for channel in _CHANGE_COLORS.T]).astype(np.float32),
        name="change of the tumour probability",
        nan_color=_TRANSPARENT,
    )


def tissue_colormap() -> Colormap:
    """Return the colours of the tissue mask: a tint on tissue, nothing on glass."""
    return Colormap(np.array([_TRANSPARENT, (0.0, 0.60, 0.45, 0.30)], np.float32), name="tissue")


def lesion_colormap() -> CyclicLabelColormap:
    """Return colours whose hues tell neighbouring lesions apart."""
    colors = np.array(
        [
            _TRANSPARENT,  # the first colour is the background's
            (0.00, 0.45, 1.00, 1.0),
            (0.00, 0.70, 0.30, 1.0),
            (1.00, 0.55, 0.00, 1.0),
            (0.00, 0.70, 0.85, 1.0),
            (0.75, 0.75, 0.00, 1.0),
            (0.55, 0.25, 1.00, 1.0),
        ],
        np.float32,
    )
    return CyclicLabelColormap(colors=colors, name="lesions")
