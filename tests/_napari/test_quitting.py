"""The window goes away with several slides open, in whatever order: nothing is said about it on standard error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from napari import Viewer

from napari_metastasis._napari.workspace import Workspace

pytestmark = pytest.mark.gui

#: Opens two slides of different sizes in one window after the other, and ends each otherwise: the last one with the
#: program. Whatever is raised in a slot, in a thread or while something is taken away is printed.
DRIVER = """
import sys, threading, time, traceback

import napari
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_metastasis._napari.app import make_viewer
from napari_metastasis._napari.workspace import Workspace

WAYS = {
    "the window is closed": lambda viewer, slides: viewer.window._qt_window.close(),
    "the viewer is closed": lambda viewer, slides: viewer.close(),
    "the first is removed, and the viewer closed": lambda viewer, slides: (
        viewer.layers.remove(slides[0]), viewer.close()),
    "the last is removed, and the window closed": lambda viewer, slides: (
        viewer.layers.remove(slides[1]), viewer.window._qt_window.close()),
    "all layers are removed": lambda viewer, slides: (viewer.layers.clear(), viewer.window._qt_window.close()),
    "the program quits": lambda viewer, slides: QTimer.singleShot(0, QApplication.instance().quit),
}


def tell(note):
    if getattr(note, "exception", None) is not None:
        traceback.print_exception(note.exception)


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        QApplication.processEvents()
        time.sleep(0.005)
        if time.monotonic() > end:
            raise TimeoutError


def end(way, paths):
    viewer = make_viewer()
    workspace = Workspace.of(viewer)
    # As other plugins do: they look at what is left.
    viewer.layers.events.removed.connect(lambda event: [layer.refresh() for layer in viewer.layers])
    workspace.open(paths)
    until(lambda: len(workspace.controllers) == 2)
    slides = [controller.layers.slide for controller in workspace.controllers]
    for slide in slides:
        slide.visible = True  # both have tiles under way
    WAYS[way](viewer, slides)
    if way == "the program quits":
        napari.run()
    until(lambda: not any(thread.name.startswith("close-slide") for thread in threading.enumerate()))


notification_manager.notification_ready.connect(tell)
for way in WAYS:
    end(way, sys.argv[1:])
    print(way, flush=True)
"""


def test_no_end_of_a_window_with_two_slides_is_told_as_a_failure(make_disc: Callable, tmp_path: Path) -> None:
    paths = [make_disc(0.5)[0], make_disc(0.972, name="second")[0]]
    environment = {**os.environ, "NAPARI_CATCH_ERRORS": "0", "NAPARI_CONFIG": str(tmp_path / "napari.yaml")}
    run = subprocess.run(
        [sys.executable, "-c", DRIVER, *map(str, paths)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "Traceback" not in run.stderr, run.stderr
    assert "cannot schedule" not in run.stderr, run.stderr
    assert run.stdout.count("\n") == 6, run.stdout + run.stderr
    assert run.returncode == 0, run.stderr


def test_what_a_closing_viewer_is_still_asked_to_show_is_not_shown(
    make_napari_viewer: Callable[..., Viewer], make_disc: Callable, qtbot
) -> None:
    viewer = make_napari_viewer(show=True)
    workspace = Workspace.of(viewer)
    workspace.open([make_disc(0.5)[0], make_disc(0.972, name="second")[0]])
    qtbot.waitUntil(lambda: len(workspace.controllers) == 2, timeout=60_000)

    def show_what_is_left(_: object) -> None:
        for layer in viewer.layers:
            layer.visible = False
            layer.visible = True
            layer.refresh()

    viewer.layers.events.removed.connect(show_what_is_left)
    viewer.close()
    assert not viewer.layers
    workspace.close()
