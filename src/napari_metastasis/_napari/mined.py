"""Reads beside the window what a training run mined on a slide."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from napari_metastasis._napari.worker import ShouldStop, Work
from napari_metastasis.errors import StorageError

__all__ = ["mined_work"]


def mined_work(path: Path, slide: str) -> Work:
    """Return the work that reads the locations of one slide from ``hard_negatives.csv``, the strongest first.

    Parameters
    ----------
    path
        The file.
    slide
        Name of the slide.
    """

    def work(_: ShouldStop) -> Generator[Any, None, Any]:
        yield from ()
        from napari_metastasis.sampling.hard_negatives import read_hard_negatives, strongest_first

        mined = read_hard_negatives(path)
        here = strongest_first(one for one in mined if one.slide == slide)
        if not here:
            others = sorted({one.slide for one in mined})
            remedy = f"open one of those, such as {others[0]}" if others else "choose another run's file"
            raise StorageError(
                f"expected places mined on {slide} in {path}, got {len(mined)} on {len(others)} other slides; {remedy}"
            )
        return here

    return work
