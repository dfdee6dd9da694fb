"""Lesions that a map shows as outlines that a person may correct, and outlines as lesions in the same table."""

from __future__ import annotations

import shapely

from napari_metastasis.annotations import Annotation, covered
from napari_metastasis.lesions.lesion import Lesion
from napari_metastasis.lesions.measure import longest_diameter
from napari_metastasis.lesions.size_classes import SIZE_CLASSES, estimated_nuclei
from napari_metastasis.settings import DetectionSettings, setting_of

__all__ = ["annotations_of", "lesion_of"]


def annotations_of(lesion: Lesion) -> tuple[Annotation, ...]:
    """Return a lesion as annotations of its size class, one for each of its polygons, as our GeoJSON is read back."""
    group = SIZE_CLASSES[lesion.size_class].label
    return tuple(Annotation(lesion.name, group, polygon) for polygon in shapely.get_parts(lesion.outline_px).tolist())


def lesion_of(annotation: Annotation, *, number: int, mpp: float, nuclei_per_mm2: float | None = None) -> Lesion:
    """Return an outline as a lesion that was read from no map.

    Parameters
    ----------
    annotation
        The outline, which is kept as it was drawn; its area goes by the even-odd rule.
    number
        Id of the lesion.
    mpp
        Pixel size of the slide's level 0, in µm.
    nuclei_per_mm2
        By which nuclei are estimated; ``None`` takes the setting's default.
    """
    density = setting_of(DetectionSettings, "nuclei_per_mm2")[0] if nuclei_per_mm2 is None else nuclei_per_mm2
    area, outline = covered(annotation), annotation.outline_px
    inside = shapely.point_on_surface(outline.exterior if area.is_empty else area)
    area_mm2 = area.area * (mpp / 1000) ** 2
    return Lesion(
        id=number,
        x=inside.x,
        y=inside.y,
        probability=None,
        area_mm2=area_mm2,
        length_mm=longest_diameter(annotation.exterior) * mpp / 1000,
        detections=0,
        map=None,
        nuclei=estimated_nuclei(area_mm2, density),
        outline_px=outline,
    )
