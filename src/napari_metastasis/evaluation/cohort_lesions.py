"""The lesions of a cohort's slides as they are scored, at each slide's own pixel size."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_metastasis.annotations import MaskFile, mask_downsample, read_mask, tumour_pixels
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import is_mask, read_outlines
from napari_metastasis.errors import AnnotationError
from napari_metastasis.evaluation import SlideReference, reference_from_annotations, reference_from_mask
from napari_metastasis.geometry import Size
from napari_metastasis.settings import EvaluationSettings
from napari_metastasis.slides import open_slide

__all__ = ["slide_reference"]


def slide_reference(
    slide: CohortSlide, settings: EvaluationSettings, *, tumour_value: int, own_mpp: bool
) -> SlideReference:
    """Return the lesions of a slide.

    The challenge's distances are lengths, and its masks have a pixel for every 7.8 µm: level 5 of its slides. Other
    slides are scored at the power of two that comes nearest to that, or at the multiple of a mask's pixel that does.

    Parameters
    ----------
    slide
        Of a cohort; its header is read.
    settings
        Distances, and the pixel size and downsample of the challenge's slides.
    tumour_value
        The value that means tumour in masks, from :func:`~napari_metastasis.annotations.detect_tumour_value`.
    own_mpp
        Whether the slide's own pixel size turns distances into pixels, or that of the settings, as in the challenge.

    Raises
    ------
    MetastasisError
        If the slide or its annotation cannot be read.
    """
    with open_slide(slide.path, slide.mpp) as opened:
        size, bounds = opened.size, opened.bounds
        if own_mpp:
            step = settings.downsample * settings.mpp / opened.mpp
            settings = replace(settings, mpp=opened.mpp, downsample=2 ** max(0, round(math.log2(step))))
    if slide.annotation is None:
        return SlideReference(slide=slide.name, is_tumour=False, downsample=settings.downsample, mpp=settings.mpp)
    if is_mask(slide.annotation):
        return _from_mask(slide.name, slide.annotation, size, settings, tumour_value)
    shift = (0.0, 0.0) if bounds is None else (float(bounds.x), float(bounds.y))
    return reference_from_annotations(slide.name, read_outlines(slide.annotation, shift=shift), settings)


def _from_mask(name: str, path: Path, size: Size, settings: EvaluationSettings, tumour_value: int) -> SlideReference:
    with MaskFile(path) as file:
        stored = mask_downsample(file.size, size)
        held = file.values()
    if stored is None or stored != int(stored):
        raise AnnotationError(
            f"expected a mask of the slide's shape, {size.width} x {size.height} px or a whole fraction of it, got "
            f"{path}; choose the slide's own mask"
        )
    whole = int(stored)
    settings = replace(settings, downsample=whole * max(1, round(settings.downsample / whole)))
    mask = read_mask(path, downsample=settings.downsample, stored_downsample=whole, pyramid_downsample=whole)
    truth = reference_from_mask(name, tumour_pixels(mask.values, mask.stored_values | held, tumour_value), settings)
    # Tumour between the pixels of the scored mask makes no lesion; the slide holds tumour all the same.
    anywhere = tumour_pixels(np.array(sorted(held), dtype=np.uint8), held, tumour_value).any()
    return replace(truth, is_tumour=truth.is_tumour or bool(anywhere))
