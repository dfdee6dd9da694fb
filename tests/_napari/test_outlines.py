"""Outlines over the slide: in their place, in view, in the colour of their class, the chosen one marked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.colormaps import Colormap

from napari_metastasis._napari import outline_painter
from napari_metastasis._napari.compat import camera_of
from napari_metastasis._napari.outline_source import contours_in
from napari_metastasis._napari.session import SlideSession
from napari_metastasis._napari.slide_layers import SlideLayers
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size
from napari_metastasis.lesions import SIZE_CLASSES, LesionIndex
from napari_metastasis.scanning import PROBABILITY, MapKind, MapValues
from napari_metastasis.settings import DetectionSettings

pytestmark = pytest.mark.gui

MPP = 0.5
SIZE = Size(6400, 4800)
FRAME = HeatmapFrame(model=ModelFrame(scale=2.0, mpp=MPP, size=Size(3200, 2400)), patch_px=96, stride_px=8)
REFINED = MapKind(name="refined", title="Refined probability", stem="refined")
#: Two lesions: one of 100 µm, one of 800 µm.
SMALL, LARGE = (slice(20, 32), slice(30, 42)), (slice(100, 200), slice(200, 300))


def probabilities() -> np.ndarray:
    values = np.zeros(FRAME.cells.shape, np.float32)
    values[SMALL], values[LARGE] = 0.7, 0.9
    return values


class Shown:
    """A white slide with two lesions in a window."""

    def __init__(self, viewer, qtbot) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.session = SlideSession(SimpleNamespace(name="slide", path=Path("slide.tif"), mpp=MPP, size=SIZE))
        slide = viewer.add_image(
            [np.full((SIZE.height // side, SIZE.width // side), 255, np.uint8) for side in (1, 4, 16)],
            multiscale=True, contrast_limits=(0, 255), scale=(MPP, MPP), units=("um", "um"),
        )  # fmt: skip
        self.layers = SlideLayers(viewer, self.session, slide)
        self.show(probabilities())

    def show(self, values: np.ndarray) -> None:
        self.session.show_maps([MapValues(PROBABILITY, FRAME, values)], model_name="m", folder=None)
        self.session.set_threshold(0.5)
        self.session.show_lesions(LesionIndex(values, FRAME, DetectionSettings(threshold=0.1)))

    def look(self, x_px: float, y_px: float, zoom: float) -> None:
        """Look at a level-0 location with so many screen pixels per µm, and wait until all is drawn."""
        camera_of(self.viewer).center = ((y_px - 0.5) * MPP, (x_px - 0.5) * MPP)
        camera_of(self.viewer).zoom = zoom
        self.settle()

    def settle(self) -> None:
        self.qtbot.waitUntil(lambda: self.layers.outlines.done, timeout=20_000)

    def id_at(self, cells: tuple[slice, slice]) -> int:
        return int(self.session.found.labels[cells].max())

    def picture(self) -> np.ndarray:
        return self.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)

    def near(self, picture: np.ndarray, name: str) -> np.ndarray:
        """Return which pixels have a class's colour."""
        return np.abs(picture - SIZE_CLASSES[name].rgb).max(axis=-1) < 12


@pytest.fixture
def shown(make_napari_viewer, qtbot):
    shown = Shown(make_napari_viewer(show=True), qtbot)
    yield shown
    shown.layers.close(remove=False)


def test_outlines_lie_on_the_contour_two_pixels_wide_at_every_zoom(shown: Shown) -> None:
    shown.layers.strength = 0.0
    shown.layers.detections.visible = False
    # The middle of the left edge of the large lesion: the line lies 4/9 of a cell out from the outermost centres.
    rows, columns = LARGE
    edge = FRAME.cell_center(columns.start - 4 / 9, (rows.start + rows.stop) / 2)
    for zoom in (0.3, 2.0, 8.0):
        shown.look(edge.x, edge.y, zoom)
        picture = shown.picture()
        line = shown.near(picture, "micro")
        height, width = line.shape
        row = np.flatnonzero(line[height // 2, width // 2 - 6 : width // 2 + 7]) - 6
        assert 1 <= len(row) <= 3, zoom
        assert abs(row.mean()) <= 1.5, zoom


def test_a_lesion_of_a_few_screen_pixels_is_a_dot_in_its_middle(shown: Shown) -> None:
    shown.layers.strength = 0.0
    shown.layers.detections.visible = False
    rows, columns = SMALL
    middle = FRAME.cell_center((columns.start + columns.stop - 1) / 2, (rows.start + rows.stop - 1) / 2)
    for selected, widths in ((False, (3, 5)), (True, (5, 7))):
        if selected:
            shown.session.select(shown.id_at(SMALL))
        shown.look(middle.x, middle.y, 0.03)
        dot = shown.near(shown.picture(), "itc")
        rows_of, columns_of = np.nonzero(dot)
        assert widths[0] <= np.ptp(columns_of) + 1 <= widths[1]
        assert widths[0] <= np.ptp(rows_of) + 1 <= widths[1]
        assert abs(columns_of.mean() - (dot.shape[1] - 1) / 2) <= 1
        assert abs(rows_of.mean() - (dot.shape[0] - 1) / 2) <= 1


def test_each_lesion_has_the_colour_of_its_class_and_the_chosen_one_a_wider_line(shown: Shown) -> None:
    shown.layers.strength = 0.0
    shown.layers.detections.visible = False
    shown.look(SIZE.width / 2, SIZE.height / 2, 0.2)
    before = shown.picture()
    counts = {name: int(shown.near(before, name).sum()) for name in SIZE_CLASSES}
    assert counts["itc"] > 20
    assert counts["micro"] > 200
    assert counts["macro"] == 0
    shown.session.select(shown.id_at(LARGE))
    shown.settle()
    after = shown.picture()
    assert shown.near(after, "micro").sum() > 1.4 * counts["micro"]
    assert shown.near(after, "itc").sum() == counts["itc"]


def test_outlines_stay_opaque_while_the_maps_fade(shown: Shown) -> None:
    shown.look(SIZE.width / 2, SIZE.height / 2, 0.2)
    shown.layers.strength = 0.0
    assert shown.layers.heatmap.opacity == 0
    assert shown.near(shown.picture(), "micro").sum() > 200
    # Kept for what is scanned later.
    shown.layers.strength = 0.3
    shown.show(probabilities())
    assert shown.layers.heatmap.opacity == 0.3


def test_only_what_is_in_view_is_drawn(shown: Shown) -> None:
    values = np.zeros(FRAME.cells.shape, np.float32)
    values[5:-5:8, 5:-5:8] = values[6:-5:8, 5:-5:8] = 0.9
    values[5:-5:8, 6:-5:8] = values[6:-5:8, 6:-5:8] = 0.9
    index = LesionIndex(values, FRAME, DetectionSettings(threshold=0.5, opening_um=0))
    shown.session.show_maps([MapValues(PROBABILITY, FRAME, values)], model_name="m", folder=None)
    shown.session.show_lesions(index)
    shown.look(SIZE.width / 2, SIZE.height / 2, 0.2)
    every = shown.layers.outlines.count
    assert every >= 1800
    corner = FRAME.cell_center(5, 5)
    shown.look(corner.x, corner.y, 8.0)
    assert 0 < shown.layers.outlines.count < 60


def test_lines_are_simplified_to_what_the_screen_shows(shown: Shown) -> None:
    y, x = np.mgrid[: FRAME.cells.height, : FRAME.cells.width]
    shown.show(np.clip(0.5 + (80 - np.hypot(y - 150, x - 200)) / 20, 0, 1).astype(np.float32))
    shown.look(SIZE.width / 2, SIZE.height / 2, 0.02)
    far = shown.layers.outlines.count
    shown.look(SIZE.width / 2, SIZE.height / 2, 0.5)
    assert 4 <= far < shown.layers.outlines.count / 2


def test_outlines_follow_the_threshold(shown: Shown) -> None:
    shown.look(SIZE.width / 2, SIZE.height / 2, 0.2)
    shown.layers.strength = 0.0
    shown.layers.detections.visible = False
    shown.session.set_threshold(0.8)
    shown.session.follow_threshold()
    shown.settle()
    picture = shown.picture()
    assert shown.near(picture, "itc").sum() == 0
    assert shown.near(picture, "micro").sum() > 200


def test_nothing_is_found_or_drawn_while_outlines_are_hidden(shown: Shown, monkeypatch) -> None:
    shown.layers.set_visible(False)
    calls = []
    monkeypatch.setattr(outline_painter, "contours_in", lambda *a: calls.append(a) or contours_in(*a))
    shown.session.set_threshold(0.6)
    shown.session.follow_threshold()
    shown.look(3000, 2000, 0.5)
    assert not calls
    assert shown.layers.outlines.count == 0
    shown.layers.set_visible(True)
    shown.settle()
    assert calls
    assert shown.layers.outlines.count


def test_outlines_follow_transposed_axes_and_are_gone_in_3d(shown: Shown) -> None:
    shown.layers.strength = 0.0
    shown.layers.detections.visible = False
    shown.viewer.dims.transpose()
    rows, columns = LARGE
    edge = FRAME.cell_center(columns.start - 4 / 9, (rows.start + rows.stop) / 2)
    camera_of(shown.viewer).center = ((edge.x - 0.5) * MPP, (edge.y - 0.5) * MPP)
    camera_of(shown.viewer).zoom = 2.0
    shown.settle()
    line = shown.near(shown.picture(), "micro")
    height, width = line.shape
    # Columns of the slide run down the window now: so does the way across the line.
    assert line[height // 2 - 3 : height // 2 + 4, width // 2].any()
    assert not line[height // 2 - 40 : height // 2 - 5, width // 2].any()
    shown.viewer.dims.ndisplay = 3
    assert shown.layers.outlines.count == 0


def test_what_one_later_map_decides_alone_is_drawn_from_its_own_cells() -> None:
    blocks = FRAME.coarser(4)
    refined = np.zeros(blocks.cells.shape, np.float32)
    refined[4:9, 5:12] = 0.8
    own = MapValues(PROBABILITY, FRAME, np.full(FRAME.cells.shape, 0.6, np.float32))
    later = MapValues(REFINED, blocks, refined)
    seen = refined.repeat(4, axis=0).repeat(4, axis=1)[: FRAME.cells.height, : FRAME.cells.width]
    found = LesionIndex(seen, FRAME, DetectionSettings(threshold=0.4)).at(0.4)
    alone = contours_in(found, (own, later), (1.0,), (0, 0), 256)
    mixed = contours_in(found, (own, later), (0.5,), (0, 0), 256)
    # Four sides, each interpolated once a cell of the coarser map: half way between the centres.
    assert len(alone) == 2 * (5 + 7)
    assert len(mixed) == 2 * 4 * (5 + 7)
    corner = blocks.cell_center(4.5, 3.5)
    np.testing.assert_allclose(alone.ends.reshape(-1, 2).min(axis=0), (corner.x, corner.y))


def test_the_chosen_lesion_is_followed_by_id_and_by_place(shown: Shown) -> None:
    session, told = shown.session, []
    session.selected_changed.connect(lambda: told.append(session.selected))
    large = shown.id_at(LARGE)
    session.select(large)
    session.select(large)
    assert told == [large]
    session.set_threshold(0.8)
    session.follow_threshold()
    assert session.selected == large
    # Another search numbers lesions anew: the one in that place is meant.
    other = probabilities()
    other[220:280, 10:70] = 1.0
    shown.show(other)
    assert session.selected == shown.id_at(LARGE)
    # It is gone, and nothing is chosen.
    gone = probabilities()
    gone[LARGE] = 0.0
    shown.show(gone)
    assert session.selected is None
    session.select(12345)
    assert session.selected is None
    assert told[-1] is None


def test_labels_are_there_for_research_hidden_and_at_no_cost(shown: Shown) -> None:
    labels = shown.layers.lesions
    assert isinstance(labels, Labels)
    assert not labels.visible
    assert labels.data is shown.session.found.labels
    shown.session.set_threshold(0.8)
    shown.session.follow_threshold()
    assert not labels.data[SMALL].any()
    labels.visible = True
    assert labels.data is not shown.session.found.labels
    np.testing.assert_array_equal(labels.data, shown.session.found.labels)
    shown.session.set_threshold(0.5)
    shown.session.follow_threshold()
    shown.qtbot.waitUntil(lambda: bool(labels.data[SMALL].all()), timeout=20_000)
    np.testing.assert_array_equal(labels.data, shown.session.found.labels)
    labels.visible = False
    assert labels.data is shown.session.found.labels


def test_cells_beside_a_gap_are_drawn_up_to_it(shown: Shown) -> None:
    """The graphics card's own interpolation would leave out half of them, and one alone as a whole."""
    values = np.full(FRAME.cells.shape, np.nan, np.float32)
    values[100:110, 100:110] = 0.95
    values[150, 150] = 0.95
    shown.session.show_maps([MapValues(PROBABILITY, FRAME, values)], model_name="m", folder=None)
    shown.layers.heatmap.opacity = 1.0
    shown.layers.heatmap.colormap = Colormap(
        [(0, 0, 0, 1), (0, 0, 0, 1)], nan_color=(0, 0, 0, 0), low_color=(0, 0, 0, 1)
    )
    alone = FRAME.cell_center(150, 150)
    screen_px = 40  # a cell's side
    for (column, row), side in (((150, 150), 1), ((104.5, 104.5), 10)):
        at = FRAME.cell_center(column, row)
        shown.look(at.x, at.y, screen_px / side / FRAME.cell_um)
        dark = shown.picture().max(axis=-1) < 60
        height, width = dark.shape
        area = dark[height // 2 - 30 : height // 2 + 30, width // 2 - 30 : width // 2 + 30].sum()
        assert area == pytest.approx(screen_px**2, rel=0.15)
    # So is what is written while it is shown.
    shown.look(alone.x, alone.y, screen_px / 3 / FRAME.cell_um)
    patch = np.full((3, 3), 0.95, np.float32)
    shown.session.write_cells("probability", [(Region(149, 149, 3, 3), patch)])
    dark = shown.picture().max(axis=-1) < 60
    height, width = dark.shape
    area = dark[height // 2 - 30 : height // 2 + 30, width // 2 - 30 : width // 2 + 30].sum()
    assert area == pytest.approx(screen_px**2, rel=0.15)
