"""Label and macro image are shown on request, by a click, and only those of the slide that is shown."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QToolButton

from napari_metastasis._napari.associated_images import AssociatedImages
from napari_metastasis.slides import associated

pytestmark = [pytest.mark.gui, pytest.mark.unseen]


def click(button) -> None:
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def dialog_of(window) -> AssociatedImages | None:
    shown = window.viewer.window._qt_window.findChildren(AssociatedImages)
    return next((dialog for dialog in shown if dialog.isVisible()), None)


def write_labelled(path):
    rng = np.random.default_rng(2)
    with tifffile.TiffWriter(path) as tiff:
        plain = {"photometric": "rgb", "metadata": None}
        pixels = rng.integers(120, 250, (700, 900, 3), np.uint8)
        label = np.full((90, 80, 3), (10, 200, 30), np.uint8)
        macro = np.full((900, 2400, 3), (200, 10, 30), np.uint8)
        tiff.write(pixels, tile=(256, 256), resolution=(20000, 20000), resolutionunit="CENTIMETER", **plain)
        tiff.write(label, description="Scanner\nlabel 80x90", subfiletype=1, **plain)
        tiff.write(macro, description="Scanner\nmacro 2400x900", subfiletype=9, **plain)
    return path


def test_a_click_shows_label_and_macro_and_another_slide_takes_them_away(window, make_disc, tmp_path) -> None:
    bar = window.workspace.microscope.bar
    assert not bar.label.isEnabled()
    plain, _ = make_disc(0.5)
    window.open(plain)
    assert not bar.label.isEnabled()
    assert "no label" in bar.label.toolTip()
    window.open(write_labelled(tmp_path / "labelled.tif"))
    assert bar.label.isEnabled()
    assert dialog_of(window) is None
    files = sorted(tmp_path.rglob("*"))
    click(bar.label)
    dialog = dialog_of(window)
    assert set(dialog.images) == {"label", "macro"}
    window.until(lambda: all(not image.pixmap().isNull() for image in dialog.images.values()))
    label, macro = (dialog.images[name].pixmap() for name in ("label", "macro"))
    assert (label.width(), label.height()) == (80, 90)
    assert macro.width() == 520
    assert macro.toImage().pixelColor(100, 50).getRgb()[:3] == (200, 10, 30)
    # A label that lies on its side is turned.
    click(dialog.images["label"].parentWidget().findChild(QToolButton))
    assert (dialog.images["label"].pixmap().width(), dialog.images["label"].pixmap().height()) == (90, 80)
    assert sorted(tmp_path.rglob("*")) == files
    # Closed by hand and shown again.
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert dialog_of(window) is None
    for _ in range(2):
        click(bar.label)
    assert dialog_of(window) is not None
    dialog_of(window).close()
    assert dialog_of(window) is None
    click(bar.label)
    window.workspace.show(window.workspace.controllers[0])
    assert dialog_of(window) is None
    assert not bar.label.isEnabled()


def test_an_enormous_macro_says_why_it_is_not_shown(window, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(associated, "MOST_PX", 100_000)
    window.open(write_labelled(tmp_path / "labelled.tif"))
    click(window.workspace.microscope.bar.label)
    dialog = dialog_of(window)
    window.until(lambda: "at most" in dialog.images["macro"].text())
    window.until(lambda: not dialog.images["label"].pixmap().isNull())
