"""Which slides a run began with, kept beside its settings: a disk that is away must not make it another run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from napari_metastasis.sampling.batches import BatchSource, MixedBatches
from napari_metastasis.sampling.slide_batches import SlideBatchSource
from napari_metastasis.sampling.slide_index import SeenSlide
from napari_metastasis.storage import atomic_text

__all__ = ["resume_slides", "write_slides"]


def write_slides(path: Path, streams: Mapping[str, BatchSource]) -> None:
    """Write down what was seen of every slide that streams were asked for; nothing where none is of slides.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    seen = {name: [[asdict(one) for one in part.seen] for part in _parts(stream)] for name, stream in streams.items()}
    if any(seen.values()):
        with atomic_text(path) as file:
            json.dump(seen, file, indent=2)


def resume_slides(path: Path, streams: Mapping[str, BatchSource]) -> None:
    """Let streams go on with the slides that :func:`write_slides` wrote down, before they are compared with a run.

    A file that is missing or damaged changes nothing: the streams' fingerprints say whether they are the run's.
    """
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        for name, stream in streams.items():
            for part, seen in zip(_parts(stream), before[name], strict=False):
                part.hold_to([SeenSlide(one["slide"], one["sha256"], tuple(one["gives"])) for one in seen])
    except (OSError, ValueError, KeyError, TypeError):
        return


def _parts(stream: BatchSource) -> Iterator[SlideBatchSource]:
    """Yield the streams of slides within a stream."""
    if isinstance(stream, MixedBatches):
        for part in stream.parts:
            yield from _parts(part)
    elif isinstance(stream, SlideBatchSource):
        yield stream
