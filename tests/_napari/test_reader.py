"""Slides through napari's own door: dropped on the window, opened by a script, or from the samples menu."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from napari.utils.notifications import Notification, notification_manager
from npe2 import PluginManifest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_metastasis import slides
from napari_metastasis._napari.pixel_size import PixelSizeDialog
from napari_metastasis._napari.reader import may_be_slide, napari_get_reader, read_slides
from napari_metastasis._napari.session import METADATA_KEY, SlideSession
from napari_metastasis.errors import MissingPixelSizeError, SlideError
from napari_metastasis.slide_suffixes import SLIDE_SUFFIXES

MANIFEST = Path(__file__).parents[2] / "src" / "napari_metastasis" / "napari.yaml"


@pytest.fixture
def without_mpp(tmp_path: Path) -> Path:
    path = tmp_path / "nompp.tif"
    tifffile.imwrite(path, np.full((600, 800, 3), 220, np.uint8), tile=(256, 256), photometric="rgb")
    return path


def test_manifest_names_what_the_reader_takes() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    patterns = {pattern for reader in manifest.contributions.readers for pattern in reader.filename_patterns}
    assert patterns == {f"*{suffix}" for suffix in SLIDE_SUFFIXES}
    assert manifest.name == "napari-metastasis"
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    link = MANIFEST.parents[2] / "napari.yaml"
    assert yaml.safe_load(link.read_text()) == yaml.safe_load(MANIFEST.read_text())


@pytest.mark.parametrize("name", ["a.png", "a.lif", "notes.txt", "tif", "a.svs.zip"])
def test_other_files_are_left_alone(name: str) -> None:
    assert napari_get_reader(name) is None
    assert napari_get_reader(["slide.svs", name]) is None


def test_folder_needs_dicom(tmp_path: Path) -> None:
    assert napari_get_reader(str(tmp_path)) is None
    (tmp_path / "1.dcm").touch()
    assert napari_get_reader(str(tmp_path)) is read_slides


@pytest.mark.parametrize("name", ["a.czi", "a.ome.zarr", "a.isyntax", "a.vsi", "a.zarr.zip"])
def test_slides_are_known_by_their_names_and_others_of_that_name_left_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.mkdir() if name.endswith(".zarr") else path.write_bytes(b"no slide" * 99)
    assert may_be_slide(path)
    # Programs for other images write CZI and OME-Zarr, too; a VSI file without its folder is told to be one.
    assert (napari_get_reader(str(path)) is read_slides) == (name in {"a.isyntax", "a.vsi"})


def test_no_slide_is_one_clear_line(tmp_path: Path, without_mpp: Path) -> None:
    path = tmp_path / "random.svs"
    path.write_bytes(bytes(range(256)) * 64)
    with pytest.raises(SlideError) as caught:
        read_slides(str(path))
    assert re.match(r"expected .*; .*", str(caught.value))
    assert "\n" not in str(caught.value)
    with pytest.raises(MissingPixelSizeError, match="Set pixel size"):
        read_slides(str(without_mpp))


def test_a_failure_leaves_no_slide_open(make_disc: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = make_disc(0.5)
    empty = tmp_path / "empty.svs"
    empty.touch()
    opened = []

    def open_noted(path: Path, *given: object, **options: bool) -> slides.Slide:
        opened.append(open_slide(path, *given, **options))
        return opened[-1]

    open_slide = slides.open_slide
    monkeypatch.setattr(slides, "open_slide", open_noted)
    with pytest.raises(SlideError):
        read_slides([str(path), str(empty)])
    assert [slide.closed for slide in opened] == [True]


@pytest.mark.gui
def test_opened_through_napari(window, make_disc: Callable) -> None:
    path, _ = make_disc(0.5)
    (layer,) = window.viewer.open(str(path), plugin="napari-metastasis")
    assert layer.multiscale
    assert layer.rgb
    assert tuple(layer.contrast_limits) == (0, 255)
    session = layer.metadata[METADATA_KEY]
    assert isinstance(session, SlideSession)
    assert window.session is session
    assert window.panel.slide_part.name.text() == "disc"
    window.until(lambda: session.tissue is not None)
    window.panel.slide_part.show_tissue.setChecked(True)
    assert window.controller.layers.tissue.visible


@pytest.mark.gui
def test_missing_pixel_size_is_asked_for(window, without_mpp: Path, qtbot: QtBot) -> None:
    assert window.viewer.open(str(without_mpp), plugin="napari-metastasis") == []

    def dialogs() -> list[PixelSizeDialog]:
        return [each for each in window.workspace.parent().findChildren(PixelSizeDialog) if each.isVisible()]

    window.until(lambda: bool(dialogs()))
    assert not window.workspace.controllers
    dialog = dialogs()[0]
    # Nothing is chosen, and a habitual Enter decides nothing.
    qtbot.keyClick(dialog, Qt.Key.Key_Return)
    assert dialog.isVisible()
    dialog._value.setValue(0.5)
    qtbot.keyClick(dialog, Qt.Key.Key_Return)
    window.until(lambda: bool(window.workspace.controllers))
    assert window.session.slide.mpp == 0.5
    assert "set by you" in window.panel.slide_part.resolution.text()


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What napari tells in notifications."""
    lines: list[str] = []

    def tell(notification: Notification) -> None:
        lines.append(notification.message)

    notification_manager.notification_ready.connect(tell)
    yield lines
    notification_manager.notification_ready.disconnect(tell)


@pytest.mark.gui
def test_failure_is_one_line_in_the_panel(window, tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "empty.svs"
    path.touch()
    window.workspace.open([path])
    error = window.panel.results_part.error
    window.until(error.isVisible)
    assert "empty.svs is empty" in error.text()
    assert "\n" not in error.text()
    assert not window.workspace.controllers
    # What a person can mend is told once; where no panel is in sight, by napari.
    assert told == []
    window.panel.hide()
    window.workspace.open([path])
    window.until(lambda: bool(told))
    assert told == [error.text()]


@pytest.mark.gui
def test_a_dropped_file_that_is_no_slide_is_told_in_the_panel_and_the_others_open(
    window, make_disc: Callable, tmp_path: Path, told: list[str]
) -> None:
    broken = tmp_path / "broken.svs"
    broken.write_text("no slide at all")
    path, _ = make_disc(0.5)
    (layer,) = window.viewer.open([str(broken), str(path)], plugin="napari-metastasis")
    assert layer.name == "disc"
    assert window.viewer.open(str(broken), plugin="napari-metastasis") == []
    error = window.panel.results_part.error
    assert "broken.svs" in error.text()
    assert "expected" not in error.text().lower()
    assert told == []


@pytest.mark.gui
@pytest.mark.usefixtures("window")
def test_settings_file_stays_as_it_is(tmp_path: Path) -> None:
    from napari.settings import get_settings

    settings = get_settings()
    assert settings.experimental.async_
    saved = tmp_path / "settings.yaml"
    settings.save(saved)
    assert "async_: true" not in saved.read_text().lower()


@pytest.mark.gui
def test_the_palettes_entry_asks_for_slides(window, monkeypatch: pytest.MonkeyPatch) -> None:
    """It calls the reader without a path."""
    asked = []
    monkeypatch.setattr("napari_metastasis._napari.app.choose_slides", asked.append)
    monkeypatch.setattr("napari_metastasis._napari.reader._viewer_here", lambda: window.viewer)
    assert napari_get_reader() is None
    assert asked == [window.viewer]
