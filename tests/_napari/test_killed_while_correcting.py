"""A window that is killed at any moment loses at most the stroke that was under the mouse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_metastasis.annotations import CorrectionStore, read_corrections

#: Forked once all is imported: ten windows in the time of one. A hand takes longer for a stroke than a disk for a save.
_SCRIPT = """
import os, random, signal, sys, time
from pathlib import Path
from types import SimpleNamespace

import shapely
from qtpy.QtCore import QCoreApplication, QObject, QTimer
from napari_metastasis._napari.corrections_keeper import CorrectionsKeeper
from napari_metastasis._napari.session import SlideSession
from napari_metastasis.annotations.drawing import Drawing
from napari_metastasis.annotations.editing import stroke

slide = Path(sys.argv[1])


def draw(to):
    app = QCoreApplication([])
    session = SlideSession(SimpleNamespace(name="slide", path=slide, bounds=None, fingerprint="f"))
    said, parent = session.corrections, QObject()
    keeper = CorrectionsKeeper(session, parent)
    hand = random.Random(os.getpid())

    def go_on():
        if keeper.settled:
            if hand.random() < 0.2 and said.undo_text:
                said.undo()
            else:
                start, way = hand.uniform(0, 1e5), [(x, hand.uniform(0, 50)) for x in range(0, 400, 10)]
                area = stroke([(start + x, y) for x, y in way], 10)
                done = Drawing(said.present, reviewer="A").paint(area, "tumour")
                said.do(done.what, done.corrections)
            os.write(to, f"{len(said.present)} {len(said.undo_text)}\\n".encode())
            QTimer.singleShot(hand.randrange(5, 40), go_on)
        else:
            QTimer.singleShot(1, go_on)

    session.looking_changed.emit(False)
    go_on()
    app.exec()


for number in range(10):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        draw(writing)
    os.close(writing)
    first = os.read(reading, 100).decode()
    time.sleep(random.Random(number).uniform(0.05, 0.6))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = first
    while more := os.read(reading, 65536):
        told += more.decode()
    os.close(reading)
    counts = [int(line.split()[0]) for line in told.splitlines()]
    held = (slide.parent / "slide.metastasis" / "annotations.geojson").read_text().count('"Feature"')
    print(held, counts[-1], counts[-2] if len(counts) > 1 else -1, len(counts), flush=True)
"""


@pytest.mark.gui
@pytest.mark.skipif(not hasattr(os, "fork"), reason="windows are forked")
def test_a_window_that_is_killed_loses_at_most_the_last_stroke(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path / "slide.tif")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rounds = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(rounds) == 10
    # The file holds what was said last, or all but that.
    for held, last, before, _ in rounds:
        assert held in (last, before) or before == -1
    assert sum(steps for *_, steps in rounds) > 30
    # It is whole, goes on from window to window, and so are the backups.
    folder = tmp_path / "slide.metastasis"
    assert len(CorrectionStore(folder).read()) == rounds[-1][0] > 3
    for path in (folder / "annotations.backups").glob("*.geojson"):
        read_corrections(path)
