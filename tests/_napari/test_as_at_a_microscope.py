"""Two slides as a person looks at them at a microscope: magnified, turned, measured, and gone over in the overview."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from hands import click, drag, painted_by
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget

from napari_metastasis._napari.compat import camera_of, canvas_size, canvas_widget, window_of
from napari_metastasis._napari.regions import view_focus
from napari_metastasis._napari.rotation import Orientation, orientation_of
from napari_metastasis._napari.view_transform import view_transform
from napari_metastasis.geometry import HeatmapFrame, Point, Region
from napari_metastasis.lesions import SIZE_CLASSES
from napari_metastasis.scanning import PROBABILITY, MapValues

pytestmark = pytest.mark.gui


class Eyepiece:
    """What a person sees of the slide that is shown, and does to it."""

    def __init__(self, house) -> None:
        self.house = house
        self.microscope = house.workspace.microscope
        self.bar = self.microscope.bar
        self.overview = self.microscope.overview.widget
        self.canvas = canvas_widget(house.viewer)

    @property
    def um_per_pixel(self) -> float:
        """What a pixel of the screen shows, by the camera."""
        return 1 / camera_of(self.house.viewer).zoom / self.canvas.devicePixelRatioF()

    @property
    def focus(self) -> Point:
        return view_focus(self.house.viewer, self.house.session.slide)

    def press(self, key: Qt.Key) -> None:
        QTest.keyClick(self.canvas, key)

    def is_at(self, magnification: float) -> bool:
        """Whether the window shows a magnification, and says so."""
        pressed = [each for each, button in self.bar.magnifications.items() if button.isChecked()]
        shown = self.bar.shown.text() == f"{magnification:g}×"
        return shown and pressed == [magnification] and np.isclose(self.um_per_pixel, 10 / magnification)

    def go_to(self, place: Point) -> None:
        """Click a level-0 location in the overview."""
        at = self.overview.place_of(place)
        QTest.mouseClick(self.overview, Qt.MouseButton.LeftButton, pos=at.toPoint())
        self.house.qtbot.wait(20)

    def read(self, right: int, down: int) -> str:
        """Return what is said of what lies so many pixels from the middle of the canvas."""
        width, height = canvas_size(self.house.viewer)
        QTest.mouseMove(self.canvas, QPoint(round(width / 2) + right, round(height / 2) + down))
        label = self.microscope.cursor
        assert label.isVisible()
        assert self.canvas.rect().contains(label.geometry())
        return label.text()

    def is_in_sight(self, widget: QWidget) -> bool:
        window = window_of(self.house.viewer)
        corner = widget.mapTo(window, QPoint(0, 0))
        return widget.isVisible() and window.rect().contains(widget.rect().translated(corner))


def place_in(text: str) -> tuple[float, float]:
    """Return where the readout says that the mouse is, in µm."""
    x, y = re.match(r"x (\d+\.\d+) mm, y (\d+\.\d+) mm", text).groups()
    return float(x) * 1000, float(y) * 1000


@pytest.mark.both_screens
def test_two_slides_are_magnified_turned_and_measured_as_at_a_microscope(house, make_disc: Callable) -> None:
    # One slide has twice the other's pixel: both are magnified alike.
    for mpp, name in ((0.5, "fine"), (0.972, "coarse")):
        path, _ = make_disc(mpp, name)
        house.open(path)
    house.choose(0)
    viewer, slide, eye = house.viewer, house.session.slide, Eyepiece(house)
    frame = HeatmapFrame(model=slide.frame(1.0), patch_px=32, stride_px=16)
    shape = frame.cells.shape
    # Each cell has its own probability, below the threshold: nothing covers the slide.
    values = (0.45 * np.arange(shape[0] * shape[1]) / (shape[0] * shape[1])).reshape(shape).astype(np.float32)
    house.session.show_maps([MapValues(PROBABILITY, frame, values)], model_name="", folder=None)

    # Magnifications, by buttons and by keys, always shown.
    eye.go_to(Point(700.0, 1500.0))
    before = eye.focus
    for value, button in eye.bar.magnifications.items():
        assert eye.is_in_sight(button)
        click(button)
        assert eye.is_at(value)
        assert eye.focus.distance(before) < 1e-6, "the middle stays"
    assert eye.is_in_sight(eye.bar.shown)
    mine = viewer.add_points([[1.0, 2.0]], units=("um", "um"))
    mine.selected_data = {0}
    layers = (house.controller.layers.slide, house.controller.layers.heatmap, mine, None)
    for selected in layers:
        viewer.layers.selection.active = selected
        for number, value in enumerate((1.25, 2.5, 5, 10, 20, 40), start=1):
            eye.press(Qt.Key(Qt.Key.Key_0 + number))
            assert eye.is_at(value)
    assert len(mine.data) == 1
    assert {str(each.mode) for each in viewer.layers} == {"pan_zoom"}
    # Also from the panel, where no field takes the key.
    QTest.keyClick(window_of(viewer), Qt.Key.Key_2)
    assert eye.is_at(2.5)
    eye.press(Qt.Key.Key_Home)
    assert not any(button.isChecked() for button in eye.bar.magnifications.values())

    # The overview goes where it is clicked, and its frame goes along.
    assert eye.canvas.rect().contains(eye.overview.geometry())
    click(eye.bar.magnifications[20.0])
    step = slide.size.width / eye.overview.width()
    for target in (Point(600.0, 500.0), Point(1700.0, 1300.0), Point(1100.0, 800.0)):
        eye.go_to(target)
        assert eye.focus.distance(target) <= 2 * step
        assert eye.is_at(20)
        width, height = canvas_size(viewer)
        drawn, middle = eye.overview.frame.boundingRect(), eye.overview.place_of(eye.focus)
        assert (drawn.center().x(), drawn.center().y()) == pytest.approx((middle.x(), middle.y()), abs=0.5)
        shown = width * 0.5 / (slide.size.width * 0.5), height * 0.5 / (slide.size.height * 0.5)
        whole = eye.overview.place_of(Region.of(slide.size).center) - eye.overview.place_of(Point(0, 0))
        expected = shown[0] * 2 * whole.x(), shown[1] * 2 * whole.y()
        assert (drawn.width(), drawn.height()) == pytest.approx(expected, abs=0.5)

    # What lies under the mouse is said, whichever layer is selected.
    for selected in layers:
        viewer.layers.selection.active = selected
        text = eye.read(60, -40)
        under = Point(eye.focus.x + 60, eye.focus.y - 40)
        assert place_in(text) == pytest.approx((under.x * 0.5, under.y * 0.5), abs=6)
        cell = frame.cell_at(under)
        assert text.endswith(f"probability {values[round(cell.y), round(cell.x)]:.2f}")

    # A quarter turn by its button: what lay to the right lies below.
    before = eye.focus
    click(eye.bar.right)
    assert eye.focus.distance(before) < 1e-6
    assert eye.is_at(20)
    assert place_in(eye.read(0, 100)) == pytest.approx(((before.x + 100) * 0.5, before.y * 0.5), abs=6)
    click(eye.bar.left)
    assert place_in(eye.read(100, 0)) == pytest.approx(((before.x + 100) * 0.5, before.y * 0.5), abs=6)

    # The ruler: the line stays where it was drawn, whatever the view does, until its × is clicked.
    eye.press(Qt.Key.Key_4)
    eye.press(Qt.Key.Key_M)
    x, y = (round(side / 2) for side in canvas_size(viewer))
    drag(eye.canvas, (x - 150, y), (x + 150, y))
    ruler = eye.microscope.ruler
    (line,) = ruler.lines
    assert line.length_um == pytest.approx(300.0, abs=0.01)
    assert line.text == "300 µm  (≤ 2 mm)"
    assert eye.focus.distance(before) < 1e-6, "the slide did not move with the mouse"
    eye.press(Qt.Key.Key_Escape)
    drag(eye.canvas, (x, y), (x - 80, y - 60))
    house.until(lambda: eye.focus.distance(before) > 50)
    click(eye.bar.right)
    click(eye.bar.home)
    assert ruler.lines == (line,)
    view = view_transform(viewer, slide)
    start, end = view.to_canvas(line.start), view.to_canvas(line.end)
    assert start[0] == pytest.approx(end[0], abs=0.01), "it turned with the slide"
    drawn = painted_by(ruler.overlay)
    column, rows = round(start[0]), slice(round(start[1]) + 12, round(end[1]) - 12)
    seen = drawn[rows, column - 1 : column + 2, :3].astype(int)
    assert (np.abs(seen - SIZE_CLASSES["micro"].rgb).max(axis=-1) < 12).any(axis=1).mean() > 0.9

    # The other slide: upright, whole, without lines, with its own pixels.
    eye.press(Qt.Key.Key_3)
    turned = orientation_of(viewer)
    small = eye.overview.frame.boundingRect().width()
    house.choose(1)
    assert orientation_of(viewer) == Orientation() != turned
    assert ruler.lines == ()
    assert not ruler.overlay.isVisible()
    assert "probability" not in eye.read(0, 0)
    house.qtbot.wait(20)
    assert eye.overview.frame.boundingRect().width() > eye.overview.width() - 10
    eye.press(Qt.Key.Key_4)
    assert eye.is_at(10)
    eye.press(Qt.Key.Key_M)
    drag(eye.canvas, (x - 120, y + 10), (x + 80, y + 10))
    assert [one.text for one in ruler.lines] == ["200 µm  (≤ 0.2 mm)"]
    # The first as it was left.
    house.choose(0)
    assert orientation_of(viewer) == turned
    house.until(lambda: eye.is_at(5))
    assert ruler.lines == (line,)
    assert ruler.overlay.isVisible()
    assert eye.overview.frame.boundingRect().width() == pytest.approx(small)
    cross = ruler.overlay.cross_rect(line).center().toPoint()
    QTest.mouseClick(eye.canvas, Qt.MouseButton.LeftButton, pos=cross)
    assert ruler.lines == ()
    house.choose(1)
    assert len(ruler.lines) == 1
