"""Lesions that a map shows as outlines that a person may correct, and outlines as lesions in the same table."""

from __future__ import annotations

import shapely

from napari_metastasis.annotations import Annotation, covered
from napari_metastasis.lesions.lesion import Lesion
from napari_metastasis.lesions.measure import longest_diameter
from napari_metastasis.lesions.size_classes import SIZE_CLASSES

__all__ = ["annotations_of", "lesion_of"]


def annotations_of(lesion: Lesion) -> tuple[Annotation, ...]:
    """Return a lesion as annotations of its size class, one for each of its polygons, as our GeoJSON is read back."""
    group = SIZE_CLASSES[lesion.size_class].label
    return tuple(Annotation(lesion.name, group, polygon) for polygon in shapely.get_parts(lesion.outline_px).tolist())


def lesion_of(annotation: Annotation, *, number: int, mpp: float) -> Lesion:
    """Return an outline as a lesion that was read from no map.

    Parameters
    ----------
    annotation
        The outline, which is kept as it was drawn; its area goes by the even-odd rule.
    number
        Id of the lesion.
    mpp
        Pixel size of the slide's level 0, in µm.
    """
    area, outline = covered(annotation), annotation.outline_px
    inside = shapely.point_on_surface(outline.exterior if area.is_empty else area)
    return Lesion(
        id=number,
        x=inside.x,
        y=inside.y,
        probability=None,
        area_mm2=area.area * (mpp / 1000) ** 2,
        length_mm=longest_diameter(annotation.exterior) * mpp / 1000,
        detections=0,
        map=None,
        outline_px=outline,
    )
