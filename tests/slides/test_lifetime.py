"""Closing under readers, and reading at positions."""

from __future__ import annotations

import threading

import pytest

from napari_metastasis.errors import CorruptSlideError, SlideError
from napari_metastasis.slides.lifetime import Gate, PositionedFile


def test_close_waits_for_those_inside():
    gate = Gate("slide.svs")
    inside, leave, closed = threading.Event(), threading.Event(), threading.Event()

    def reader():
        with gate.reading():
            inside.set()
            leave.wait(10)

    def closer():
        gate.close()
        closed.set()

    threads = [threading.Thread(target=reader), threading.Thread(target=closer)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    assert not closed.wait(0.05)
    leave.set()
    assert closed.wait(10)
    for thread in threads:
        thread.join(10)


def test_closed_turns_away_and_closes_once():
    gate = Gate("slide.svs")
    assert gate.close()
    assert not gate.close()
    with pytest.raises(SlideError, match=r"slide\.svs was closed; open it again"), gate.reading():
        pass


def test_positions_and_the_end(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(100)))
    file = PositionedFile(path)
    assert file.read(10, 3) == b"\x0a\x0b\x0c"
    with pytest.raises(CorruptSlideError, match="the file ends after 5"):
        file.read(95, 10)
    file.close()
