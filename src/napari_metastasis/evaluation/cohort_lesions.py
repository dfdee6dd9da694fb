"""The lesions of a cohort's slides as they are scored, at each slide's own pixel size."""

from __future__ import annotations

import math
from dataclasses import replace

from napari_metastasis.annotations import MaskFile, mask_downsample
from napari_metastasis.cohorts.survey import SlideSurvey
from napari_metastasis.errors import AnnotationError
from napari_metastasis.evaluation.reference_lesions import SlideReference, reference_from_areas
from napari_metastasis.settings import EvaluationSettings

__all__ = ["slide_reference"]


def slide_reference(survey: SlideSurvey, settings: EvaluationSettings, *, own_mpp: bool) -> SlideReference:
    """Return the lesions of a slide.

    The challenge's distances are lengths, and its masks have a pixel for every 7.8 µm: level 5 of its slides. Other
    slides are scored at the power of two that comes nearest to that, or at the multiple of a mask's pixel that does.

    Parameters
    ----------
    survey
        Of the slide, with its annotation.
    settings
        Distances, the pixel size and downsample of the challenge's slides, and the tumour value of masks (not 0).
    own_mpp
        Whether the slide's own pixel size turns distances into pixels, or that of the settings, as in the challenge.

    Raises
    ------
    MetastasisError
        If the slide or its annotation cannot be read.
    """
    header, areas = survey.opened(), survey.annotated()
    if own_mpp:
        step = settings.downsample * settings.mpp / header.mpp
        settings = replace(settings, mpp=header.mpp, downsample=2 ** max(0, round(math.log2(step))))
    if not isinstance(areas, MaskFile):
        return reference_from_areas(survey.slide.name, areas, settings)
    stored = mask_downsample(areas.size, header.size)
    if stored is None or stored != int(stored):
        raise AnnotationError(
            f"expected a mask of the slide's shape, {header.size.width} x {header.size.height} px or a whole fraction "
            f"of it, got {areas.path}; choose the slide's own mask"
        )
    downsample = int(stored) * max(1, round(settings.downsample / stored))
    settings = replace(settings, downsample=downsample, mask_downsample=stored)
    reference = reference_from_areas(survey.slide.name, areas, settings, pyramid_downsample=stored)
    # A mask's sides are rounded; the slide's own scan finds nothing off the slide.
    return replace(reference, extent=None)
