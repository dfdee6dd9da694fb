"""The one road to the window: what commands, tests, pictures and benchmarks open is the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari import Viewer
from pytestqt.qtbot import QtBot

from napari_metastasis._napari import app
from napari_metastasis._napari.panel import MetastasisPanel
from napari_metastasis._napari.workspace import Workspace
from napari_metastasis.cli import main

pytestmark = pytest.mark.gui


@pytest.fixture
def made(make_napari_viewer: Callable[..., Viewer], monkeypatch: pytest.MonkeyPatch) -> list[Viewer]:
    """The windows that the program opens, which do not wait until they are closed."""
    made: list[Viewer] = []

    def viewer(**options: object) -> Viewer:
        options.pop("title")
        made.append(make_napari_viewer(**options))
        return made[-1]

    monkeypatch.setattr(app.napari, "Viewer", viewer)
    monkeypatch.setattr(app.napari, "run", lambda: None)
    monkeypatch.setattr("napari_metastasis._napari.display.can_open", lambda: True)
    return made


def panel_of(viewer: Viewer) -> MetastasisPanel:
    """Return the panel that is docked in a window."""
    return viewer.window._qt_window.findChild(MetastasisPanel)


def status_of(*command: object) -> int:
    """Run the command line, and return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in command])
    return ended.value.code


def test_view_shows_slides_with_panel_and_scale_bar(made: list[Viewer], make_disc: Callable, qtbot: QtBot) -> None:
    path, _ = make_disc(0.5)
    app.view([path], None)
    workspace = Workspace.of(made[0])
    qtbot.waitUntil(lambda: len(workspace.controllers) == 1, timeout=60_000)
    assert made[0].canvas.overlays.scale_bar.visible
    assert any("Metastasis" in name for name in made[0].window.dock_widgets)
    workspace.close()


def test_view_of_a_slide_without_a_pixel_size_asks_in_the_window(
    made: list[Viewer], tmp_path: Path, qtbot: QtBot, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bare.tif"
    picture = np.full((600, 700, 3), 241, np.uint8)
    tifffile.imwrite(path, picture, tile=(256, 256), photometric="rgb", compression="jpeg")
    assert status_of("view", path) == 0
    workspace = Workspace.of(made[0])
    qtbot.waitUntil(lambda: workspace._dialog is not None and workspace._dialog.isVisible(), timeout=60_000)
    assert not workspace.controllers
    workspace._dialog.reject()
    assert not panel_of(made[0]).results_part.error.text()
    assert "Traceback" not in capsys.readouterr().err
    workspace.close()


def test_view_without_a_slide_opens_the_window_and_says_how_to_begin(
    made: list[Viewer], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("view") == 0
    part = panel_of(made[0]).slide_part
    assert not part.empty.isHidden()
    assert "Open one" in part.empty.text()
    assert "Traceback" not in capsys.readouterr().err
    Workspace.of(made[0]).close()
