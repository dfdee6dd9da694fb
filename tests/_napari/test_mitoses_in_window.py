"""Mitoses in the window, from the search to the count: in the view, in the tumour, at other thresholds, and again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dark_model import dark_spots
from napari.layers import Shapes
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from shapely import Polygon
from spotted_slide import SPOT_MPP, SPOTS, write_spotted_slide

from napari_metastasis._napari import mitosis_map
from napari_metastasis._napari.compat import camera_of, canvas_widget
from napari_metastasis._napari.regions import view_region
from napari_metastasis._napari.view_transform import view_transform
from napari_metastasis.annotations import read_points
from napari_metastasis.geometry import Point
from napari_metastasis.models import add_model, save_model

pytestmark = [pytest.mark.gui]


@pytest.fixture
def mitosis_model(tmp_path, monkeypatch):
    """Keep a mitosis model that answers how dark a spot is, among the user's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    made = dark_spots()
    save_model(tmp_path / "spots.safetensors", made.network, made.spec, {})
    add_model(tmp_path / "spots.safetensors")


def counted(house, many):
    """Wait until so many mitoses are shown, and nothing is left to do for them."""
    state, search = house.session.mitoses, house.controller.mitoses
    house.until(lambda: not house.controller.busy and not search.running)
    assert not house.session.activity.error
    assert state.found is not None
    assert len(state.found) == many
    points = house.controller.layers.mitoses.points
    assert points.shown.sum() == many
    return state.found


def table(session):
    return (session.folder / "mitoses.csv").read_text()


def in_tables(session):
    record = json.loads((session.folder / "run.json").read_text())
    read = read_points(session.folder / "mitoses.csv")
    return record["mitoses"]["count"], len(read) + len(read.unreviewed)


@pytest.mark.usefixtures("mitosis_model")
def test_from_the_search_to_the_count(house, darkness_model, tmp_path, monkeypatch):
    # The map of this small slide has levels, as that of a large one.
    monkeypatch.setattr(mitosis_map, "_COARSE", 128)
    slide = write_spotted_slide(tmp_path / "node.tif")
    house.open(slide)
    house.use(darkness_model, roi_px=512)
    part, session, layers = house.panel.mitosis_part, house.session, house.controller.layers
    house.until(lambda: part.view_button.isEnabled())
    # Before a scan nobody knows where tumour is.
    assert not part.tumour_button.isEnabled()
    assert "not been looked for" in part.count.text()

    # Shapes: an ellipse around one of them, and a freehand line around none, whose rectangle would hold another.
    round_one = np.array([(300, 1001), (300, 1201), (500, 1201), (500, 1001)])
    line = np.array([(700, 900), (700, 1150), (730, 1150), (730, 930), (900, 930), (900, 900)])
    drawn = house.viewer.add_shapes([(round_one - 0.5) * SPOT_MPP], shape_type="ellipse", units=("um", "um"))
    drawn.add([(line - 0.5) * SPOT_MPP], shape_type="path")
    drawn.selected_data = {0, 1}
    part.shape_button.click()
    house.until(lambda: house.controller.busy)
    found = counted(house, 1)
    np.testing.assert_allclose(found.xy[0], SPOTS[1], atol=2)
    area_px = np.pi * 100**2 + Polygon(line).area
    assert found.searched_mm2 == pytest.approx(area_px * (SPOT_MPP / 1000) ** 2, rel=0.03)
    assert part.count.text() == f"1 mitosis, {1 / found.searched_mm2:.2g} per mm²"
    house.viewer.layers.remove(drawn)

    # The view: its right side, where four of them lie.
    camera = camera_of(house.viewer)
    camera.zoom *= 2.2
    camera.center = (620 * SPOT_MPP, 1350 * SPOT_MPP)
    region = view_region(house.viewer, session.slide)
    inside = [region.x <= x < region.right and region.y <= y < region.bottom for x, y in SPOTS]
    assert 0 < sum(inside) < len(SPOTS)
    part.view_button.click()
    house.until(lambda: house.controller.busy)
    found = counted(house, sum(inside))
    distance = np.linalg.norm(found.xy[:, None] - SPOTS[inside][None], axis=2).min(axis=0)
    assert (distance * SPOT_MPP < 2).all()
    # Rings lie where the spots are drawn, in µm.
    rings = layers.mitoses.points
    np.testing.assert_allclose(
        np.sort(rings.data * rings.scale + rings.translate, axis=0),
        np.sort((found.xy[:, ::-1] - 0.5) * SPOT_MPP, axis=0),
    )
    assert part.count.text() == found.text
    assert "looked at" in part.searched.text()
    # Nobody looked for metastases: the window does not say that there are none.
    assert session.found is None
    assert session.heatmap is None
    assert in_tables(session) == (sum(inside), sum(inside))

    # A scan, and then the tumour: the left half, which was not in the view.
    house.scan("slide")
    house.until(lambda: house.controller.busy)
    house.finish()
    lesions = (session.folder / "lesions.csv").read_bytes()
    assert len(session.mitoses.found) == sum(inside)
    part.tumour_button.click()
    house.until(lambda: house.controller.busy)
    near_tumour = SPOTS[:, 0] < 800
    found = counted(house, sum(inside | near_tumour))
    assert found.searched_mm2 < found.tissue_mm2
    assert (session.folder / "lesions.csv").read_bytes() == lesions
    assert session.found is not None

    # The densest area has a shape of its own, which no scan takes for one that was drawn.
    (spot,) = [layer for layer in house.viewer.layers if isinstance(layer, Shapes)]
    assert spot is layers.mitoses.spot
    corners = spot.data[0] * spot.scale + spot.translate
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    np.testing.assert_allclose(middle, (np.array([found.spot.center.y, found.spot.center.x]) - 0.5) * SPOT_MPP)
    assert np.ptp(corners, axis=0) == pytest.approx(found.spot.width * SPOT_MPP)
    assert str(found.spot.count) in part.spot.text()
    house.panel.scan_part.scan("shape")
    assert "selected shape" in house.panel.scan_part.error.text()
    # The map itself is there, hidden at first; shown, it lies where the spots are drawn, at every level.
    shown = layers.mitosis_map
    assert not shown.visible
    assert not part.show_map.isChecked()
    assert list(house.viewer.layers).index(shown) < list(house.viewer.layers).index(rings)
    part.show_map.click()
    house.until(lambda: (np.nan_to_num(shown.data[-1]) > 0.9).any())
    assert [values.shape for values in shown.data] == [(300, 452), (150, 226), (75, 113)]
    for level, values in enumerate(shown.data):
        at = ((SPOTS[:, ::-1] - 0.5) * SPOT_MPP - shown.translate) / shown.scale
        rows, columns = np.rint((at + 0.5) / 2**level - 0.5).astype(int).T
        assert (np.asarray(values)[rows, columns] > 0.85).all(), level
    house.viewer.layers.remove(shown)
    assert layers.mitosis_map is None
    assert not part.show_map.isChecked()
    part.show_map.click()
    assert layers.mitosis_map.visible
    part.show_map.click()
    part.spot_button.click()
    part.on_button.click()
    assert part.position.text() == f"1 of {len(found)}, {found.probability[0]:.2f}"
    where = np.array(camera.center[-2:])
    np.testing.assert_allclose(where, (found.xy[0, ::-1] - 0.5) * SPOT_MPP, atol=1)

    # What a person says counts, is drawn and written, and can be taken back.
    part.no_button.click()
    listed = counted(house, len(found))
    assert listed.count == len(found) - 1
    assert listed.reviews[0].state == "rejected"
    assert part.position.text().startswith("2 of")
    rejected, ring = layers.mitoses.points.border_color[:2]
    assert len({tuple(rejected), tuple(ring)}) == 2
    assert "1 rejected, not counted" in part.said.text()
    house.until(lambda: in_tables(session)[1] == len(found) and "rejected" in table(session))
    # Its model can learn from that.
    retrain = house.panel.retrain_part
    (source,) = retrain.sources.chosen
    assert source.text == "node: 1 no mitosis"
    house.until(lambda: retrain.base.findData("dark-spots") >= 0)
    assert retrain.base.findText("Mitoses, H&E (mitosis-lite)") >= 0
    # Findings are shown, too, but nothing was said of them.
    assert retrain.base.currentData() == "dark-spots"
    assert retrain.start_button.isEnabled()
    part.add_button.click()
    place = view_transform(house.viewer, session.slide).to_canvas(Point(*(found.xy[1] + 120).tolist()))
    canvas = canvas_widget(house.viewer)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(*np.round(place).astype(int).tolist()))
    listed = counted(house, len(found) + 1)
    assert listed.reviews[-1].state == "added"
    assert np.linalg.norm(listed.xy[-1] - found.xy[1] - 120) * SPOT_MPP < 1
    # A second click, as near to it as another one's half, is the same one: it is said, and nothing is kept.
    assert not part.refused.text()
    place = view_transform(house.viewer, session.slide).to_canvas(Point(*(found.xy[1] + 136).tolist()))
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(*np.round(place).astype(int).tolist()))
    assert "known there already" in part.refused.text()
    assert len(session.corrections.present.mitoses) == 2
    assert not session.corrections.present.of_lesions
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert not part.add_button.isChecked()
    for _ in range(2):
        session.corrections.undo()
    assert counted(house, len(found)).count == len(found)

    # Points that were set in a layer of napari's own, in µm of its own scale.
    missed = np.array([[650.0, 1200.0], [700.0, 1250.0]])
    layer = house.viewer.add_points(missed[:, ::-1] / 4, scale=(4 * SPOT_MPP,) * 2, units=("um", "um"))
    house.until(lambda: not part.take_button.isHidden())
    for _ in range(2):
        part.take_button.click()
        # They lie beside the tissue, where nobody looked: no part of the rate.
        listed = counted(house, len(found) + 2)
        assert (listed.count, listed.outside, listed.per_mm2) == (len(found), 2, found.per_mm2)
    assert part.count.text().endswith("per mm²; 2 more outside of what was looked at")
    part.back_button.click()
    part.back_button.click()
    assert part.position.text() == f"{len(listed)} of {len(listed)}, added, outside"
    # Where napari draws them: its places are of the middles of pixels.
    np.testing.assert_allclose(session.corrections.present.mitoses_px, missed + 0.5, atol=0.01)
    session.corrections.undo()
    house.viewer.layers.remove(layer)
    house.until(part.take_button.isHidden)
    assert counted(house, len(found)).count == len(found)

    # The slider: rings, counts and files follow.
    surest = float(found.probability[0])
    part.threshold.setValue(round(surest, 2) + 0.01 if round(surest, 2) <= surest else round(surest, 2))
    fewer = counted(house, int((found.probability >= part.threshold.value()).sum()))
    assert len(fewer) < len(found)
    assert part.count.text() == fewer.text
    house.until(lambda: in_tables(session) == (len(fewer), len(fewer)))

    # Closed and opened again, it is as it was left.
    threshold = session.mitoses.threshold
    house.workspace.close_slide(house.controller)
    house.open(slide)
    again = house.session
    house.until(lambda: again.mitoses.found is not None and not house.controller.mitoses.running)
    assert again.mitoses.threshold == threshold
    assert len(again.mitoses.found) == len(fewer)
    assert again.mitoses.found.searched_mm2 == pytest.approx(found.searched_mm2)
    assert part.count.text() == again.mitoses.found.text

    # A map that is damaged is told, and does not read as if nobody had looked; what a scan found is still there.
    house.workspace.close_slide(house.controller)
    (again.folder / "mitoses.ome.zarr" / "zarr.json").write_text("{}")
    house.open(slide)
    house.until(lambda: house.session.found is not None)
    assert part.count.text() == "The map of mitoses, mitoses.ome.zarr, cannot be read. Look for them again."
    assert table(house.session) == table(again)
