"""A pass that the window has never heard of has its switch, its layer and its share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_pass
from napari import Viewer
from pytestqt.qtbot import QtBot

from napari_metastasis import tasks
from napari_metastasis.models import save_model

pytestmark = pytest.mark.gui


def test_a_toy_pass_has_switch_layer_and_share(
    make_napari_viewer: Callable[..., Viewer], qtbot: QtBot, window_class: type, make_disc: Callable,
    darkness_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tasks, "TASKS", (*tasks.TASKS, toy_pass.TOY))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    network = torch.nn.Conv2d(1, 1, 3, bias=False)
    torch.nn.init.constant_(network.weight, 1 / 9)
    path = tmp_path / "data" / "napari-metastasis" / "models" / "averager.safetensors"
    path.parent.mkdir(parents=True)
    save_model(path, network, toy_pass.ToySpec("averager"), {})
    window = window_class(make_napari_viewer(show=True), qtbot)
    slide, phantom = make_disc(0.5)
    window.open(slide)
    window.use(darkness_model)
    window.panel.scan_part.switches["toy"].widgets["toy"].value = True
    window.scan("slide")
    window.finish()
    layer = window.controller.layers.maps["averaged"]
    assert layer.name.startswith("Averaged probability")
    rows, columns = np.nonzero(np.nan_to_num(layer.data) >= 0.5)
    expected = phantom.center.to_um(0.5)
    middle = layer.data_to_world((rows.mean(), columns.mean()))[-2:]
    assert middle == pytest.approx((expected.y, expected.x), abs=window.session.maps["averaged"].frame.cell_um / 2)
    assert window.panel.scan_part.shares["averaged"].isEnabled()
    assert {lesion.map for lesion in window.session.found.lesions} == {"averaged"}
    window.workspace.close()
