"""The one road to the window: what commands, tests, pictures and benchmarks open is the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from napari import Viewer
from pytestqt.qtbot import QtBot

from napari_metastasis._napari import app
from napari_metastasis._napari.workspace import Workspace

pytestmark = pytest.mark.gui


def test_view_shows_slides_with_panel_and_scale_bar(
    make_napari_viewer: Callable[..., Viewer], make_disc: Callable, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Viewer] = []

    def viewer(**options: object) -> Viewer:
        options.pop("title")
        made.append(make_napari_viewer(**options))
        return made[-1]

    monkeypatch.setattr(app.napari, "Viewer", viewer)
    monkeypatch.setattr(app.napari, "run", lambda: None)
    path, _ = make_disc(0.5)
    app.view([path], None)
    workspace = Workspace.of(made[0])
    qtbot.waitUntil(lambda: len(workspace.controllers) == 1, timeout=60_000)
    assert made[0].canvas.overlays.scale_bar.visible
    assert any("Metastasis" in name for name in made[0].window.dock_widgets)
    workspace.close()
