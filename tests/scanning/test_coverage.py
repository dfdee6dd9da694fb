"""How much of the tissue a result answers for, and what is said of it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, LevelFrame, ModelFrame, Size
from napari_metastasis.scanning import Coverage, answerable_cells, unanswered_cells
from napari_metastasis.slides import TissueMask

ROWS, COLUMNS = 300, 530


@pytest.mark.parametrize(
    ("answered", "tissue", "percent", "text"),
    [
        (36, 100, "36 %", "36 % of the tissue scanned: not a result for the slide"),
        (0, 100, "0 %", "0 % of the tissue scanned: not a result for the slide"),
        (99_999, 100_000, "99 %", "99 % of the tissue scanned: not a result for the slide"),
        (1, 100_000, "less than 1 %", "Less than 1 % of the tissue scanned: not a result for the slide"),
        (1, 100, "1 %", "1 % of the tissue scanned: not a result for the slide"),
        (100, 100, "100 %", "Whole slide scanned"),
        (0, 0, "", "No tissue found: nothing was scanned"),
    ],
)
def test_only_what_is_whole_says_so(answered: int, tissue: int, percent: str, text: str) -> None:
    coverage = Coverage(tissue, answered)
    assert (coverage.percent, coverage.text) == (percent, text)
    assert coverage.whole == (text == "Whole slide scanned")
    assert coverage.sentence == (f"Only {text}" if text[0].isdigit() else text)
    assert json.loads(json.dumps(coverage.to_json(), allow_nan=False))["whole"] == coverage.whole
    assert (coverage.to_json()["share"] == 1) == coverage.whole
    assert coverage.share == answered / tissue if tissue else math.isnan(coverage.share)


def a_map(rng: np.random.Generator) -> ChunkedCells:
    """Return a map of several chunks, one of which holds no answer and one of which is not there."""
    values = rng.random((ROWS, COLUMNS), np.float32)
    values[rng.random(values.shape) < 0.4] = np.nan
    values[:256, :256] = np.nan
    chunks = dict(ChunkedCells.of(values).chunks)
    del chunks[(1, 2)]
    return ChunkedCells(Size(COLUMNS, ROWS), chunks)


def test_cells_are_counted_chunk_by_chunk_as_in_one_piece(rng_of_seven: np.random.Generator) -> None:
    tissue = rng_of_seven.random((ROWS, COLUMNS)) < 0.5
    answered = a_map(rng_of_seven)
    missing = np.isnan(answered.whole())
    assert Coverage.of(answered, tissue) == Coverage(int(tissue.sum()), int((tissue & ~missing).sum()))
    np.testing.assert_array_equal(unanswered_cells(tissue, answered), tissue & missing)


@pytest.fixture
def rng_of_seven() -> np.random.Generator:
    return np.random.default_rng(7)


FRAME = HeatmapFrame(ModelFrame(scale=2.0, mpp=0.5, size=Size(320, 240)), patch_px=96, stride_px=8)


def tissue_of(mask: np.ndarray) -> TissueMask:
    return TissueMask(mask, LevelFrame(downsample=16.0, mpp=0.5), float(mask.mean()))


def test_what_has_to_be_answered_is_the_tissue_whether_or_not_a_scan_minds_it() -> None:
    mask = np.zeros((30, 40), bool)
    mask[5:9, 20:30] = True
    everything = ChunkedCells.of(np.ones(FRAME.cells.shape, np.float32))
    cells = answerable_cells(tissue_of(mask), FRAME, everything)
    np.testing.assert_array_equal(cells, tissue_of(mask).over(FRAME))
    assert Coverage.of(everything, cells).whole


def test_a_scan_without_any_tissue_answers_for_every_cell() -> None:
    none = tissue_of(np.zeros((30, 40), bool))
    values = np.full(FRAME.cells.shape, np.nan, np.float32)
    nothing = ChunkedCells.of(values.copy())
    assert Coverage.of(nothing, answerable_cells(none, FRAME, nothing)) == Coverage(0, 0)
    values[:10] = 0.5
    some = ChunkedCells.of(values)
    coverage = Coverage.of(some, answerable_cells(none, FRAME, some))
    assert coverage == Coverage(values.size, 10 * values.shape[1])
    assert not coverage.whole
