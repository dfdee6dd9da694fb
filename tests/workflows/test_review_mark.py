"""Whether a person has looked through a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_metastasis.errors import StorageError
from napari_metastasis.workflows.scan import ReviewMark, read_review, write_review

MARK = ReviewMark(threshold=0.5, answered_cells=12, findings=3)


def test_a_mark_is_kept_and_taken_away(tmp_path: Path) -> None:
    assert read_review(tmp_path) is None
    write_review(tmp_path, MARK)
    assert read_review(tmp_path) == MARK
    write_review(tmp_path, None)
    write_review(tmp_path, None)
    assert read_review(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"threshold": "x"}', '{"threshold": 1, "answered_cells": null}'])
def test_a_mark_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "review.json").write_text(text)
    assert read_review(tmp_path) is None


def test_a_folder_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_review(tmp_path / "gone", MARK)
