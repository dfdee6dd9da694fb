"""What others wrote is quoted in messages as one short line."""

from __future__ import annotations

import numpy as np
import pytest

from napari_metastasis.errors import brief


@pytest.mark.parametrize(
    "value", [np.zeros((9, 9)), "a\nb\0\ud800\x1b", "x" * 10**6, ["\n"] * 100, None, {"a": 10**50}]
)
def test_any_value_is_quoted_as_one_short_printable_line(value):
    text = brief(value)
    assert text.isprintable()
    assert len(text) <= 81
