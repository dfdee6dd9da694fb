"""Magnification as at a microscope: 40x shows 0.25 µm on a pixel of the screen, 20x shows 0.5 µm, and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_metastasis._napari.compat import camera_of, canvas_size, canvas_widget, um_per_unit
from napari_metastasis._napari.regions import center_on, view_axes
from napari_metastasis.geometry import Region

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis.slides import Slide

__all__ = ["MAGNIFICATIONS", "fit_slide", "is_at", "magnification_of", "magnification_text", "set_magnification"]

#: The objectives of a microscope for slides.
MAGNIFICATIONS = (1.25, 2.5, 5.0, 10.0, 20.0, 40.0)

#: µm on a pixel of the screen, times the magnification: what scanners call 40x has 0.25 µm on a pixel.
_UM_TIMES_MAGNIFICATION = 10.0
#: A view that differs from a magnification by less is at it.
_TOLERANCE = 0.03
#: Share of the canvas that is left around a slide shown whole.
_MARGIN = 0.03


def _per_zoom(viewer: Viewer) -> float:
    """Return the magnification at zoom 1: a unit of the window on each pixel that napari counts."""
    # napari counts the pixels of Qt, several of the screen's on a dense one.
    return _UM_TIMES_MAGNIFICATION * float(canvas_widget(viewer).devicePixelRatioF()) / float(um_per_unit(viewer)[0])


def magnification_of(viewer: Viewer) -> float:
    """Return the magnification that the window shows now."""
    return float(camera_of(viewer).zoom) * _per_zoom(viewer)


def set_magnification(viewer: Viewer, magnification: float) -> None:
    """Show a magnification; what lies in the middle of the window stays there."""
    camera = camera_of(viewer)
    center = camera.center
    camera.zoom = magnification / _per_zoom(viewer)
    camera.center = center


def is_at(shown: float, magnification: float) -> bool:
    """Return whether a view is at a magnification, as far as a person sees."""
    return abs(shown / magnification - 1) <= _TOLERANCE


def magnification_text(magnification: float) -> str:
    """Return a magnification with three digits that mean something: "0.83×", "12.4×", "40×"."""
    nearest = next((value for value in MAGNIFICATIONS if abs(magnification / value - 1) < 1e-3), None)
    if nearest is not None:
        return f"{nearest:g}×"
    digits = 2 if magnification < 10 else 1 if magnification < 100 else 0
    return f"{magnification:.{digits}f}×"


def fit_slide(viewer: Viewer, slide: Slide) -> None:
    """Show all of a slide that holds an image, in the middle of the window, with a small margin."""
    whole = Region.of(slide.size) if slide.bounds is None else slide.bounds
    canvas = canvas_size(viewer)
    width, height = (whole.height, whole.width) if view_axes(viewer) == (1, 0) else (whole.width, whole.height)
    um = float(um_per_unit(viewer)[0])
    camera = camera_of(viewer)
    sides = ((canvas[0], width), (canvas[1], height))
    camera.zoom = min(side / (max(pixels, 1) * slide.mpp / um) for side, pixels in sides) * (1 - 2 * _MARGIN)
    camera.center = center_on(viewer, whole.center, slide)
