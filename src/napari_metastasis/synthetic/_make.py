"""Synthetic slides as files, and the sample slide."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from napari_metastasis import lesions
from napari_metastasis.annotations import Annotation, AnnotationSet, write_asap_xml
from napari_metastasis.geometry import Region
from napari_metastasis.settings import SyntheticSettings
from napari_metastasis.slides import write_pyramid
from napari_metastasis.storage import storage_errors
from napari_metastasis.synthetic._slide import CHUNK_PX, SyntheticSlide

__all__ = ["make_slide", "sample_slide_path", "size_class"]

#: The sample slide of a source tree; a wheel does not carry it.
SAMPLE_FOLDER = Path(__file__).resolve().parents[3] / "sample_data"
_SAMPLE = "lymph-node.tif"


def size_class(annotation: Annotation, mpp: float) -> lesions.SizeClass:
    """Return ``itc``, ``micro`` or ``macro`` by the longest diameter of the outline (AJCC)."""
    return lesions.size_class(lesions.longest_diameter(annotation.exterior) * mpp / 1000)


def make_slide(
    path: str | os.PathLike[str],
    settings: SyntheticSettings | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> AnnotationSet:
    """Write a synthetic slide as a pyramidal TIFF, and its outlines as ASAP XML of the same name beside it.

    Parameters
    ----------
    path
        TIFF to write; it and the XML are replaced if they exist.
    settings
        What the slide shows; ``None`` for the sample slide's.
    progress
        Called with (squares drawn, squares in all).

    Returns
    -------
    annotations
        The exact outlines of the metastases, in level-0 pixels.

    Raises
    ------
    SettingsError
        If the slide has no room for what was asked.
    StorageError
        If a file cannot be written.
    """
    path = Path(path)
    slide = SyntheticSlide(settings or SyntheticSettings())
    total = -(-slide.size.width // CHUNK_PX) * -(-slide.size.height // CHUNK_PX)
    done = 0

    def read(region: Region) -> NDArray[np.uint8]:
        nonlocal done
        pixels = slide.read(region)
        done += 1
        if progress is not None:
            progress(min(done, total), total)
        return pixels

    write_pyramid(path, read, mpp=slide.mpp, size=slide.size, tile_px=CHUNK_PX, quality=slide.settings.jpeg_quality)
    annotations = slide.annotations
    write_asap_xml(path.with_suffix(".xml"), annotations)
    return annotations


def sample_slide_path(*, progress: Callable[[int, int], None] | None = None) -> Path:
    """Return the sample slide: the one of the source tree, else one that is drawn once into the user's cache.

    Its outlines lie beside it, with the suffix ``.xml``. A version of this package that draws another slide draws it
    into a folder of its own: the results of the old one, which lie beside it, would otherwise be taken for the new's.

    Parameters
    ----------
    progress
        Called with (squares drawn, squares in all) where the slide has to be drawn.

    Raises
    ------
    StorageError
        If the slide has to be drawn and the cache cannot be written.
    """
    in_tree = SAMPLE_FOLDER / _SAMPLE
    if in_tree.is_file():
        return in_tree
    cache = Path(platformdirs.user_cache_dir("napari-metastasis", appauthor=False))
    cached = cache / f"sample-{_recipe()}" / _SAMPLE
    # The XML is written last: where it is, the slide is whole.
    if not (cached.is_file() and cached.with_suffix(".xml").is_file()):
        with storage_errors(cached):
            cached.parent.mkdir(parents=True, exist_ok=True)
        make_slide(cached, progress=progress)
    return cached


def _recipe() -> str:
    """Return a short hash of what the sample slide is made from: the code that draws it, and its settings."""
    recipe = hashlib.sha256(json.dumps(SyntheticSettings().told()).encode())
    for module in sorted(Path(__file__).parent.glob("*.py")):
        recipe.update(module.read_bytes())
    return recipe.hexdigest()[:12]
