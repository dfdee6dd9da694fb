"""Lesions that a map shows as outlines that a person may correct, and outlines as lesions in the same table."""

from __future__ import annotations

import numpy as np
import shapely

from napari_metastasis.annotations import Annotation, covered
from napari_metastasis.annotations.corrections_file import CLASSES
from napari_metastasis.lesions.lesion import Lesion, LesionRow
from napari_metastasis.lesions.measure import longest_diameter
from napari_metastasis.lesions.size_classes import SIZE_CLASSES, estimated_nuclei
from napari_metastasis.settings import DetectionSettings, setting_of

__all__ = ["annotations_of", "class_in_files", "lesion_of"]


def annotations_of(lesion: Lesion) -> tuple[Annotation, ...]:
    """Return a lesion as annotations of its class, one for each of its polygons, as our GeoJSON is read back."""
    group, _ = class_in_files(lesion)
    return tuple(Annotation(lesion.name, group, polygon) for polygon in shapely.get_parts(lesion.outline_px).tolist())


def class_in_files(lesion: LesionRow) -> tuple[str, tuple[int, int, int]]:
    """Return the class of a lesion in files for other programs, and its colour.

    That of its size; of one that somebody took away, the class that says so, or it would count as tumour there.
    """
    state = None if lesion.review is None else lesion.review.state
    if state in ("rejected", "normal"):
        return CLASSES["normal"]
    if state == "ignored":
        return CLASSES["ignore"]
    style = SIZE_CLASSES[lesion.size_class]
    return CLASSES["tumour"] if lesion.is_point else (style.label, style.rgb)


def lesion_of(
    outline_px: shapely.Polygon | shapely.MultiPolygon, *, number: int, mpp: float, nuclei_per_mm2: float | None = None
) -> Lesion:
    """Return an outline as a lesion that was read from no map.

    Parameters
    ----------
    outline_px
        The outline, which is kept as it was drawn, in level-0 pixels; its area goes by the even-odd rule.
    number
        Id of the lesion.
    mpp
        Pixel size of the slide's level 0, in µm.
    nuclei_per_mm2
        By which nuclei are estimated; ``None`` takes the setting's default.
    """
    density = setting_of(DetectionSettings, "nuclei_per_mm2")[0] if nuclei_per_mm2 is None else nuclei_per_mm2
    parts = [Annotation("", "", part) for part in shapely.get_parts(outline_px).tolist()]
    area = shapely.union_all([covered(part) for part in parts])
    inside = shapely.point_on_surface(shapely.boundary(outline_px) if area.is_empty else area)
    area_mm2 = area.area * (mpp / 1000) ** 2
    return Lesion(
        id=number,
        x=inside.x,
        y=inside.y,
        probability=None,
        area_mm2=area_mm2,
        length_mm=longest_diameter(np.concatenate([part.exterior for part in parts])) * mpp / 1000,
        detections=0,
        map=None,
        nuclei=estimated_nuclei(area_mm2, density),
        outline_px=outline_px,
    )
