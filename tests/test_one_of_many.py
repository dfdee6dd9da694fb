"""A slide of many may raise anything; a stop and a disk that takes nothing are no slide's fault."""

from __future__ import annotations

import struct

import pytest

from napari_metastasis.errors import ScanCancelledError, SlideError, StorageError, in_one_line, one_of_many


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("odd\nthing"), "unexpected RuntimeError: odd"),
        (MemoryError(), "unexpected MemoryError"),
        (RecursionError("deep"), "unexpected RecursionError: deep"),
        (struct.error("unpack requires"), "unexpected error: unpack requires"),
        (OSError(5, "Input/output error"), "unexpected OSError: [Errno 5] Input/output error"),
        (SlideError("expected a slide, got none; choose one"), "expected a slide, got none; choose one"),
    ],
)
def test_whatever_a_slide_raises_is_one_line(error, told):
    left_out = []
    with one_of_many(left_out.append):
        raise error
    assert left_out == [told] == [in_one_line(error)]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit(), ScanCancelledError("stop"), StorageError("full")]
)
def test_stops_and_the_disk_pass(error):
    with pytest.raises(type(error)), one_of_many(pytest.fail):
        raise error
