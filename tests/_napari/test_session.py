"""A session without a window: what it keeps, and whom it tells."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest

from napari_metastasis._napari.session import SlideSession
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size
from napari_metastasis.lesions import LesionIndex
from napari_metastasis.scanning import PROBABILITY, MapValues
from napari_metastasis.settings import DetectionSettings

FRAME = HeatmapFrame(model=ModelFrame(scale=2.0, mpp=0.5, size=Size(320, 240)), patch_px=96, stride_px=8)


@pytest.fixture
def session() -> SlideSession:
    session = SlideSession(SimpleNamespace(name="slide", mpp=0.5))
    empty = MapValues(PROBABILITY, FRAME, np.full(FRAME.cells.shape, np.nan, np.float32))
    session.show_maps([empty], model_name="m", folder=None)
    return session


def test_cells_that_were_not_answered_keep_what_they_had(session: SlideSession) -> None:
    heard: list[tuple[Region, ...]] = []
    session.cells_written.connect(lambda _, cells: heard.append(cells))
    cells = Region(2, 3, 4, 2)
    session.write_cells("probability", [(cells, np.full((2, 4), 0.25, np.float32))])
    part = np.full((2, 4), np.nan, np.float32)
    part[0, 0] = 0.75
    session.write_cells("probability", [(cells, part)])
    assert heard == [(cells,), (cells,)]
    written = session.probabilities[cells.slices]
    assert written[0, 0] == 0.75
    assert (written.ravel()[1:] == 0.25).all()
    assert np.isnan(session.probabilities).sum() == FRAME.cells.area - 8


def test_lesions_follow_the_threshold_when_asked(session: SlideSession) -> None:
    session.write_cells("probability", [(Region(5, 5, 6, 6), np.full((6, 6), 0.6, np.float32))])
    session.show_lesions(LesionIndex(session.probabilities, FRAME, DetectionSettings()))
    assert len(session.found.lesions) == 1
    told: list[float] = []
    session.threshold_changed.connect(told.append)
    session.set_threshold(0.8)
    session.set_threshold(0.8)
    assert told == [0.8]
    assert session.found.threshold == 0.5
    session.follow_threshold()
    assert session.found.lesions == ()
    session.set_threshold(0.0)
    assert session.threshold == session.floor == session.detection.floor
    lower = DetectionSettings(threshold=0.04, floor=0.1)
    session.show_lesions(LesionIndex(session.probabilities, FRAME, lower))
    session.set_threshold(0.0)
    assert session.threshold == session.floor == 0.04


def test_a_models_own_threshold_is_taken_however_low_with_room_below(session: SlideSession) -> None:
    session.write_cells("probability", [(Region(5, 5, 6, 6), np.full((6, 6), 0.06, np.float32))])
    session.show_lesions(LesionIndex(session.probabilities, FRAME, session.detection))
    told: list[float] = []
    session.threshold_changed.connect(told.append)
    session.suggest_threshold(0.04)
    assert told == [session.threshold] == [0.04]
    assert session.floor == 0.01
    # Those of before were not searched for so far down.
    assert session.found is None
    session.show_lesions(LesionIndex(session.probabilities, FRAME, session.detection))
    assert len(session.found.lesions) == 1
    session.set_threshold(0.02)
    session.suggest_threshold(0.04)
    assert session.threshold == 0.02


def test_copy_of_a_layer_shares_the_session(session: SlideSession) -> None:
    assert copy.deepcopy({"session": session})["session"] is session


@pytest.mark.gui
@pytest.mark.parametrize("visible", [True, False])
def test_points_may_become_fewer_and_more(make_napari_viewer, session: SlideSession, visible: bool) -> None:
    """Under asynchronous slicing napari itself would draw fewer points by the indices of more."""
    from napari_metastasis._napari.async_slicing import slice_off_the_gui_thread
    from napari_metastasis._napari.slide_layers import SlideLayers

    viewer = make_napari_viewer(show=True)
    slice_off_the_gui_thread()
    slide = viewer.add_image(np.zeros((240, 320)), units=("um", "um"))
    layers = SlideLayers(viewer, session, slide)
    rng = np.random.default_rng(1)
    for peaks in (30, 3, 0, 12, 1):
        heat = np.full(FRAME.cells.shape, 0.01, np.float32)
        heat.ravel()[rng.choice(heat.size, peaks, replace=False)] = rng.uniform(0.5, 1, peaks)
        settings = DetectionSettings(opening_um=0, nms_radius_um=1)
        session.show_lesions(LesionIndex(heat, FRAME, settings))
        layers.detections.visible = visible
        assert len(layers.detections.data) == len(session.found.detections)
        for threshold in (0.9, 0.2, 0.5):
            session.set_threshold(threshold)
            session.follow_threshold()
            assert layers.detections.shown.sum() == len(session.found.detections)
    assert (layers.detections.face_color[:, 3] == 0).all()
