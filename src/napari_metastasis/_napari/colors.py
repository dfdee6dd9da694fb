"""The colours of the layers, which stand out from the pink and violet of H&E."""

from __future__ import annotations

import numpy as np
from napari.utils.colormaps import Colormap, CyclicLabelColormap

__all__ = [
    "SCANNED_TINT",
    "lesion_colormap",
    "map_colormap",
    "tissue_colormap",
]

#: What was scanned and lies below the threshold, while a scan is running: faint, so that its growth can be followed.
SCANNED_TINT = (0.0, 0.35, 0.55, 0.10)

_TRANSPARENT = (0.0, 0.0, 0.0, 0.0)

#: Colours of maps, by the name that their kind gives.
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
}


def map_colormap(colors: str, *, scanning: bool) -> Colormap:
    """Return the colours of a map from the threshold up to 1.

    Nothing is drawn below the threshold and where nothing was scanned. While ``scanning``, cells below the threshold
    carry a faint tint.

    Parameters
    ----------
    colors
        Their name, from the kind of map; an unknown name gives the colours of probabilities.
    scanning
        Whether a scan is running.
    """
    return Colormap(
        _MAP_COLORS.get(colors, _MAP_COLORS["probability"]),
        name=f"tumour {colors}" + (" (scanning)" if scanning else ""),
        nan_color=_TRANSPARENT,
        low_color=SCANNED_TINT if scanning else _TRANSPARENT,
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
