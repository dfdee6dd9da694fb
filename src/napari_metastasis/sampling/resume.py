"""Which slides a run began with, kept beside its settings: a disk that is away must not make it another run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from napari_metastasis.plain_json import read_json
from napari_metastasis.sampling.batches import BatchSource, MixedBatches
from napari_metastasis.sampling.boosting import WeightedCrops
from napari_metastasis.sampling.slide_batches import SlideBatchSource
from napari_metastasis.sampling.slide_index import SeenSlide
from napari_metastasis.storage import atomic_text

__all__ = ["resume_slides", "slide_parts", "write_slides"]


def write_slides(path: Path, sources: Mapping[str, BatchSource]) -> None:
    """Write down what was seen of every slide that batches are taken from; nothing where there are no slides.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    seen = {
        name: [[asdict(one) for one in part.seen] for part in slide_parts(source)] for name, source in sources.items()
    }
    if any(seen.values()):
        with atomic_text(path) as file:
            json.dump(seen, file, indent=2)


def resume_slides(path: Path, sources: Mapping[str, BatchSource]) -> None:
    """Go on with the slides that :func:`write_slides` wrote down, before the batches are compared with the run's.

    A file that is missing or damaged changes nothing: the fingerprints say whether the batches are the run's.
    """
    try:
        before = read_json(path)
        for name, source in sources.items():
            for part, seen in zip(slide_parts(source), before[name], strict=False):
                part.resume_with([_seen(one) for one in seen])
    except (OSError, ValueError, KeyError, TypeError):
        return


def _seen(one: Mapping[str, Any]) -> SeenSlide:
    slide, sha256, gives = one["slide"], one["sha256"], one["gives"]
    if not (isinstance(slide, str) and isinstance(sha256, str) and set(gives) <= {0, 1}):
        raise ValueError("a slide of another kind")
    return SeenSlide(slide, sha256, tuple(gives))


def slide_parts(source: BatchSource) -> Iterator[SlideBatchSource]:
    """Yield the parts of a source whose patches come from slides."""
    if isinstance(source, MixedBatches):
        for part in source.parts:
            yield from slide_parts(part)
    elif isinstance(source, WeightedCrops):
        yield source.pool.crops
    elif isinstance(source, SlideBatchSource):
        yield source
