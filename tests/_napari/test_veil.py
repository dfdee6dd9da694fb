"""Tissue that was not scanned is hatched, and nothing else is; and the window says how much it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_metastasis._napari import slide_controller
from napari_metastasis._napari.compat import camera_of, redraw_image
from napari_metastasis._napari.lesion_search import LesionSearch
from napari_metastasis._napari.session import SlideSession
from napari_metastasis._napari.slide_layers import SlideLayers
from napari_metastasis._napari.slide_work import index_work
from napari_metastasis.errors import SlideError
from napari_metastasis.geometry import HeatmapFrame, LevelFrame, ModelFrame, Region, Size
from napari_metastasis.scanning import PROBABILITY, Coverage, MapKind, MapValues
from napari_metastasis.settings import ScanSettings, TissueSettings
from napari_metastasis.slides import TissueMask
from napari_metastasis.workflows.scan import ScanJob, scan_slide

pytestmark = pytest.mark.gui

FRAME = HeatmapFrame(model=ModelFrame(scale=2.0, mpp=0.5, size=Size(320, 240)), patch_px=96, stride_px=8)
LEFT = Region(0, 0, 15, FRAME.cells.height)
WHOLE = Region.of(FRAME.cells)
REFINED = MapKind(name="refined", title="refined", stem="refined")


def empty_map(kind: MapKind = PROBABILITY) -> MapValues:
    return MapValues(kind, FRAME, np.full(FRAME.cells.shape, np.nan, np.float32))


def tissue() -> TissueMask:
    mask = np.zeros((60, 80), bool)
    mask[10:50, 5:60] = True
    return TissueMask(mask=mask, frame=LevelFrame(downsample=8.0, mpp=0.5), fraction=float(mask.mean()))


@pytest.fixture
def session() -> SlideSession:
    return SlideSession(SimpleNamespace(name="slide", path=Path("slide.tif"), mpp=0.5))


@pytest.fixture
def layers(make_napari_viewer, session: SlideSession) -> SlideLayers:
    viewer = make_napari_viewer(show=True)
    slide = viewer.add_image(np.full((480, 640), 0.5), scale=(0.5, 0.5), units=("um", "um"), contrast_limits=(0, 1))
    layers = SlideLayers(viewer, session, slide)
    session.show_maps([empty_map(), empty_map(REFINED)], model_name="m", folder=None)
    session.show_tissue(tissue())
    return layers


def look(session: SlideSession) -> None:
    """Do at once what is done beside the window."""
    shares = [session.share_of(later.kind.name) for later in session.later_maps]
    looked = index_work(
        tuple(session.maps.values()), shares, session.detection, session.tissue, session.tissue_cells, lambda: False
    )
    session.show_coverage(looked.coverage, looked.tissue_cells)
    session.show_lesions(looked.index)


def scan(session: SlideSession, cells: Region, name: str = PROBABILITY.name) -> None:
    session.write_cells(name, [(cells, np.full(cells.size.shape, 0.75, np.float32))])


def left_over(session: SlideSession) -> np.ndarray:
    return session.tissue.over(FRAME) & np.isnan(session.probabilities)


def test_nothing_is_veiled_before_something_is_scanned_nor_once_all_is(layers, session):
    look(session)
    assert session.coverage == Coverage(int(tissue().over(FRAME).sum()), 0)
    assert layers.veil is None
    scan(session, LEFT)
    veil = layers.veil
    np.testing.assert_array_equal(veil.data > 0, left_over(session))
    assert veil.data.any()
    scan(session, Region(15, 0, 3, 10))
    assert layers.veil is veil
    np.testing.assert_array_equal(veil.data > 0, left_over(session))
    scan(session, WHOLE)
    assert layers.veil is None
    assert veil not in layers._viewer.layers


def test_coverage_is_not_known_before_the_tissue_and_the_map_are(session):
    changes = []
    session.coverage_changed.connect(lambda: changes.append(session.coverage))
    session.show_maps([empty_map()], model_name="m", folder=None)
    look(session)
    assert session.coverage is None
    session.show_tissue(tissue())
    scan(session, LEFT)
    look(session)
    known = session.coverage
    assert 0 < known.share < 1
    look(session)
    assert changes == [known]
    session.show_tissue(tissue())
    assert session.coverage is None, "other tissue"
    look(session)
    session.show_maps([empty_map()], model_name="m", folder=None)
    assert session.coverage is None, "another map"
    look(session)
    assert session.coverage.answered_cells == 0


def test_lesions_at_the_edge_are_cut_and_their_rows_say_so(session):
    session.show_maps([empty_map()], model_name="m", folder=None)
    session.show_tissue(tissue())
    scan(session, LEFT)
    look(session)
    assert [row.cut_by_edge for row in session.found.rows] == [True]
    scan(session, WHOLE)
    look(session)
    assert [row.cut_by_edge for row in session.found.rows] == [False]


def test_the_veil_lies_over_the_slide_and_under_the_heat_cell_by_cell(layers, session):
    scan(session, LEFT)
    look(session)
    order = list(layers._viewer.layers)
    assert order.index(layers.slide) < order.index(layers.veil) < order.index(layers.heatmap)
    assert order.index(layers.veil) < order.index(layers.maps["refined"])
    for row, column in ((0, 0), (7, 11)):
        center = FRAME.cell_center(column, row).to_um(0.5)
        there = layers.veil.data_to_world((row, column))[-2:]
        assert there == pytest.approx((center.y, center.x), abs=FRAME.cell_um / 2)
        assert there == pytest.approx(layers.heatmap.data_to_world((row, column))[-2:])
    # A later map counts for nothing where the scan has answered.
    before, covered = session.coverage, layers.veil.data.copy()
    scan(session, Region(0, 0, 5, 5), "refined")
    look(session)
    assert session.coverage == before
    np.testing.assert_array_equal(layers.veil.data, covered)
    layers.veil.translate = (40, 40)
    assert layers.veil.data_to_world((0, 0))[-2:] == pytest.approx(layers.heatmap.data_to_world((0, 0))[-2:])


def test_the_veil_is_switched_and_stays_as_it_was_switched(layers, session):
    layers.show_veil(False)
    scan(session, LEFT)
    look(session)
    assert not layers.veil.visible
    layers.show_veil(True)
    assert layers.veil.visible
    layers.set_visible(False)
    assert not layers.veil.visible
    layers.show_veil(True)
    assert not layers.veil.visible, "its slide is hidden"
    layers.set_visible(True)
    assert layers.veil.visible
    layers.set_visible(False)
    layers.show_veil(False)
    layers.set_visible(True)
    assert not layers.veil.visible
    layers.show_veil(True)
    layers.show_overlay(not layers.overlay_shown)
    assert not layers.veil.visible
    layers.show_overlay(not layers.overlay_shown)
    assert layers.veil.visible


def test_a_veil_that_the_user_hides_or_removes_stays_so(layers, session):
    scan(session, LEFT)
    look(session)
    layers.veil.visible = False
    own = empty_map()
    own.values[:, :20] = 0.2
    session.show_maps([own], model_name="m", folder=None)
    look(session)
    np.testing.assert_array_equal(layers.veil.data > 0, left_over(session))
    assert not layers.veil.visible
    layers._viewer.layers.remove(layers.veil)
    scan(session, Region(20, 0, 2, 10))
    look(session)
    assert layers.veil is None
    layers.show_veil(True)
    np.testing.assert_array_equal(layers.veil.data > 0, left_over(session))
    layers.close(remove=True)
    assert list(layers._viewer.layers) == [layers.slide]


def test_pieces_are_redrawn_in_place_and_stripes_tell_the_veil_from_anything_else(layers, session, qtbot):
    scan(session, LEFT)
    look(session)
    viewer = layers._viewer
    for layer in (*layers.maps.values(), layers.lesions, layers.detections):
        layer.visible = False
    camera_of(viewer).center = tuple(layers.veil.data_to_world((FRAME.cells.height // 2, 20))[-2:])
    camera_of(viewer).zoom *= 20
    plain = np.array((128, 128, 128))

    def middle() -> np.ndarray:
        qtbot.wait(50)
        picture = viewer.screenshot(flash=False)[..., :3].astype(int)
        y, x = (side // 2 for side in picture.shape[:2])
        return picture[y - 20 : y + 20, x - 20 : x + 20].reshape(-1, 3)

    def share(of: np.ndarray, lighter: bool) -> float:
        apart = (of - plain).mean(axis=1)
        return float((apart > 25).mean() if lighter else (apart < -5).mean())

    striped = middle()
    assert 0.1 < share(striped, lighter=True) < 0.6
    assert share(striped, lighter=False) > 0.3
    assert redraw_image(viewer, layers.veil, [LEFT])
    scan(session, Region(15, 0, 10, FRAME.cells.height))
    assert layers.veil is not None
    assert abs(middle() - plain).max() <= 3


def test_a_part_of_a_slide_says_so_at_its_end_and_when_it_is_opened_again(
    window, make_disc: Callable, darkness_model: Path
) -> None:
    path, phantom = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    assert window.session.coverage is None
    center = phantom.center.to_um(0.5)
    window.viewer.add_shapes([[[center.y - 300, center.x - 300], [center.y + 300, center.x]]], shape_type="rectangle")
    window.viewer.layers.selection.active.selected_data = {0}
    window.scan("shape")
    window.finish()
    session = window.session
    coverage = session.coverage
    assert 0.2 < coverage.share < 0.8
    stage = f"Only {coverage.percent} of the tissue scanned: not a result for the slide"
    assert session.activity.stage == stage
    assert [row.class_text for row in session.found.rows] == ["Micro or larger, cut by the scanned area"]
    # The right half of the disc, by the phantom and not by the frames under test.
    veil, frame = window.controller.layers.veil, session.heatmap.frame
    half_a_cell = frame.cell_um / 2
    np.testing.assert_array_equal(veil.data > 0, session.tissue.over(frame) & np.isnan(session.probabilities))
    _, columns = np.nonzero(veil.data)
    assert veil.data_to_world((0, columns.min()))[-1] - half_a_cell == pytest.approx(center.x, abs=2 * half_a_cell)

    window.viewer.layers.remove(window.controller.layers.slide)
    window.open(path)
    session = window.session
    window.until(lambda: session.coverage is not None)
    assert session.coverage == coverage
    assert session.activity.stage.startswith("Earlier result of ")
    said = window.panel.results_part.state.text.text()
    assert said == f"{session.origin}: {stage[:1].lower()}{stage[1:]}"
    window.until(lambda: not window.controller.looking_for_lesions)
    np.testing.assert_array_equal(window.controller.layers.veil.data > 0, veil.data > 0)

    window.scan("slide")
    window.finish()
    assert session.activity.stage == "Whole slide scanned"
    assert session.coverage.whole
    assert window.controller.layers.veil is None
    assert [row.class_text for row in session.found.rows] == ["Micro-metastasis"]


def test_an_earlier_result_is_measured_by_the_tissue_that_it_was_scanned_with(
    window, make_disc: Callable, darkness_model: Path
) -> None:
    path, _ = make_disc(0.5)
    job = ScanJob(
        slide=path, model=str(darkness_model), tissue=TissueSettings(margin_um=0.0),
        scan=ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=512),
    )  # fmt: skip
    result = scan_slide(job)
    assert result.coverage.whole
    window.open(path)
    session = window.session
    window.until(lambda: session.coverage == result.coverage)
    window.until(lambda: not window.controller.looking_for_lesions)
    assert session.coverage.whole
    assert window.controller.layers.veil is None
    assert window.panel.results_part.state.text.text() == f"{session.origin}: whole slide scanned"
    # A scan with the usual settings has more to look at.
    window.use(darkness_model)
    window.scan("slide")
    window.finish()
    assert session.coverage.whole
    assert session.coverage.tissue_cells > result.coverage.tissue_cells


def test_lesions_wait_for_the_tissue_that_says_which_of_them_are_cut(layers, session, qtbot):
    search = LesionSearch(session, layers._viewer.window._qt_window)
    session.tissue = None
    search.awaits_tissue = True
    scan(session, LEFT)
    search.start()
    assert not search.running
    session.show_tissue(tissue())
    assert search.running
    qtbot.waitUntil(lambda: session.found is not None)
    assert session.coverage is not None
    assert [row.cut_by_edge for row in session.found.rows] == [True]
    qtbot.waitUntil(lambda: not search.running)


def test_where_tissue_cannot_be_found_lesions_are_not_said_to_end_at_what_was_not_scanned(
    window, make_disc: Callable, darkness_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = make_disc(0.5)
    scan_slide(
        ScanJob(
            slide=path, model=str(darkness_model), region=Region(0, 0, 1100, 2000),
            scan=ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=512),
        )
    )  # fmt: skip

    def fail(*_: object) -> None:
        raise SlideError("expected a level that can be read, got none; copy the slide again")

    monkeypatch.setattr(slide_controller, "tissue_work", fail)
    window.workspace.open([path])
    window.until(lambda: bool(window.workspace.controllers) and window.session.found is not None)
    assert window.session.coverage is None
    assert [row.cut_by_edge for row in window.session.found.rows] == [True]
    assert window.controller.layers.veil is None
