"""Mined places on the slide that they were mined on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_metastasis._napari import app
from napari_metastasis.sampling.hard_negatives import HardNegative, write_hard_negatives

pytestmark = pytest.mark.gui


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | str], None]:
    """Answer the file dialog."""

    def answer(path: Path | str) -> None:
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))

    return answer


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what the person is told."""
    lines: list[str] = []
    for module in ("app", "slide_controller"):
        monkeypatch.setattr(
            f"napari_metastasis._napari.{module}.tell", lambda error: (lines.append(str(error)), str(error))[1]
        )
    return lines


@pytest.mark.unseen
@pytest.mark.parametrize("mpp", [0.243, 0.486, 0.972])
def test_a_mined_place_lies_where_the_disc_is(
    window, make_disc: Callable, choose: Callable, tmp_path: Path, mpp: float
) -> None:
    path, phantom = make_disc(mpp)
    center = phantom.center
    file = tmp_path / "hard_negatives.csv"
    mined = (
        HardNegative("disc", center.x, center.y, 0.75),
        HardNegative("disc", 10.5, 20.5, 0.5),
        HardNegative("other", 1.0, 1.0, 1.0),
    )
    write_hard_negatives(file, mined)
    window.open(path)
    choose(file)
    app.show_mined_command(window.viewer)
    layers = window.controller.layers
    window.until(lambda: layers.mined is not None)
    layer = layers.mined
    expected = center.to_um(mpp)
    # The strongest comes last: it is drawn on top.
    assert layer.features["probability"].tolist() == [0.5, 0.75]
    assert layer.data_to_world(layer.data[1])[-2:] == pytest.approx((expected.y, expected.x))
    assert {str(unit) for unit in layer.units} == {"micrometer"}
    # Its pixel on the slide is drawn there too, and the disc's own pixels have their middle there.
    np.testing.assert_allclose(layer.data_to_world(layer.data[0])[-2:], layers.slide.data_to_world((20, 10))[-2:])
    y, x, reach = int(center.y), int(center.x), int(phantom.radius_px * 1.2)
    pixels = np.asarray(layers.slide.data[0][y - reach : y + reach, x - reach : x + reach])
    rows, columns = np.nonzero(pixels[..., 1] < 128)
    on_slide = layers.slide.data_to_world((rows.mean() + y - reach, columns.mean() + x - reach))
    assert on_slide[-2:] == pytest.approx(layer.data_to_world(layer.data[1])[-2:], abs=0.5 * mpp)


def test_mined_places_come_and_go_with_their_slide(
    window, make_disc: Callable, choose: Callable, told: list[str], tmp_path: Path
) -> None:
    path, _ = make_disc(0.972)
    file = tmp_path / "hard_negatives.csv"
    choose(file)
    app.show_mined_command(window.viewer)
    assert told == ["expected a slide to show mined places on, got none that is open; open it first"]
    assert window.panel.results_part.error.text() == told[0]
    window.open(path)
    app.show_mined_command(window.viewer)
    window.until(lambda: len(told) == 2)
    assert "got none to read (No such file or directory)" in told[1]
    assert window.panel.scan_part.error.text() == told[1]
    window.panel.scan_part.error.close_button.click()
    app.show_mined_command(window.viewer)
    window.until(window.panel.scan_part.error.isVisible)
    told.pop()
    write_hard_negatives(file, [HardNegative("other", 1.0, 1.0, 1.0)])
    app.show_mined_command(window.viewer)
    window.until(lambda: len(told) == 3)
    assert told[2].endswith("got 1 on 1 other slides; open one of those, such as other")
    first = window.controller
    active = window.viewer.layers.selection.active
    for count in (3, 2):
        write_hard_negatives(file, [HardNegative("disc", 10.0 * k, 5.0, 0.9) for k in range(count)])
        app.show_mined_command(window.viewer)
        window.until(lambda count=count: first.layers.mined is not None and len(first.layers.mined.data) == count)
    assert window.viewer.layers.selection.active is active
    assert window.panel.scan_part.status.text() == "2 mined places, as squares on the slide"
    assert not window.panel.scan_part.error.isVisible()
    assert [layer.name for layer in window.viewer.layers].count("Mined places") == 1
    assert len(told) == 3
    choose("")
    app.show_mined_command(window.viewer)
    layer = first.layers.mined
    other, _ = make_disc(0.972, "another")
    window.open(other)
    assert not layer.visible
    window.workspace.show(first)
    assert layer.visible
    window.viewer.layers.remove(layer)
    assert first.layers.mined is None
    app.show_mined_command(window.viewer)
    choose(file)
    app.show_mined_command(window.viewer)
    window.until(lambda: first.layers.mined is not None)
    layer = first.layers.mined
    window.viewer.layers.remove(first.layers.slide)
    assert layer not in window.viewer.layers
