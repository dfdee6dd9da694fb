"""The smallest synthetic cohort that has every split and both classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_once import made_once

from napari_metastasis.settings import CohortSampleSettings
from napari_metastasis.synthetic import make_cohort

__all__ = ["TINY", "tiny_cohort"]

#: Isolated cells fit into a node of a millimetre. A normal slide and one with tumour for each split.
TINY = CohortSampleSettings(
    slides=6, seed=3, width_px=1100, height_px=1000, macro=0, micro=0, itc=1, test_share=0.34, validation_share=0.34
)


def tiny_cohort(factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the cohort, drawn once in a run."""
    return made_once(factory, "tiny-cohort", _draw)


def _draw(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    make_cohort(folder, TINY, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, TINY.slides) for done in range(TINY.slides + 1)]
