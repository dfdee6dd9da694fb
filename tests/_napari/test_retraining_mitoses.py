"""The pathologist teaches a model of mitoses by clicks: reject, add, retrain, keep, and look again with the new one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dark_model import dark_spots
from hands import click
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from spotted_slide import write_shaded_spots

from napari_metastasis._napari.compat import canvas_widget
from napari_metastasis._napari.view_transform import view_transform
from napari_metastasis.annotations import CorrectionStore
from napari_metastasis.geometry import Point
from napari_metastasis.models import add_model, list_models, save_model, version_of
from napari_metastasis.workflows.report import read_result

pytestmark = pytest.mark.gui

#: Spots that the model overlooks, and such as it finds, farther from each other than a crop shows.
FAINT = [(x, y, 0.7) for x in (200.0, 700.0, 1250.0) for y in (200.0, 1100.0)]
SURE = [(x, 650.0, 1.0) for x in (200.0, 560.0, 920.0, 1280.0)]


@pytest.fixture
def mitosis_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a mitosis model that answers how dark a spot is, among the user's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    made = dark_spots()
    save_model(tmp_path / "spots.safetensors", made.network, made.spec, {"data": "by hand", "licence": "CC0"})
    add_model(tmp_path / "spots.safetensors")


@pytest.mark.usefixtures("mitosis_model")
def test_mitoses_that_were_corrected_teach_a_new_version_that_is_used(house, darkness_model, tmp_path: Path) -> None:
    house.open(write_shaded_spots(tmp_path / "node.tif", [*FAINT, *SURE]))
    house.use(darkness_model, roi_px=512)
    part, retrain, session = house.panel.mitosis_part, house.panel.retrain_part, house.session
    state, search = session.mitoses, house.controller.mitoses

    def counted() -> None:
        house.until(lambda: not house.controller.busy and not search.running)
        assert not session.activity.error
        assert state.found is not None

    house.until(lambda: part.view_button.isEnabled() and retrain.base.findData("dark-spots") >= 0)
    click(part.fold.toggleButton())
    house.until(lambda: part.view_button.height() > 0)
    click(part.view_button)
    house.until(lambda: house.controller.busy)
    counted()
    assert len(state.found) == len(SURE)
    assert state.model_name == "dark-spots"
    # Whose mitoses are shown is offered, and learns once something was said of them.
    assert retrain.base.currentData() == "dark-spots"
    assert not retrain.start_button.isEnabled()

    # All that it found is none, and what it overlooked is one.
    click(part.on_button)
    for number in range(len(SURE)):
        assert part.position.text().startswith(f"{number + 1} of {len(SURE)}")
        click(part.no_button)
        counted()
    house.viewer.fit_to_view()
    click(part.add_button)
    canvas = canvas_widget(house.viewer)
    for x, y, _ in FAINT:
        at = view_transform(house.viewer, session.slide).to_canvas(Point(x, y))
        QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(*np.round(at).astype(int).tolist()))
        counted()
    click(part.add_button)
    assert state.found.count == len(FAINT)
    (source,) = retrain.sources.chosen
    assert source.text == f"node: {len(FAINT)} mitosis, {len(SURE)} no mitosis"
    assert retrain.start_button.isEnabled()
    # A detector learns nothing from mitoses.
    chosen = retrain.base.currentIndex()
    retrain.base.setCurrentIndex(retrain.base.findData("metastasis-lite"))
    assert not retrain.start_button.isEnabled()
    retrain.base.setCurrentIndex(chosen)

    # Retrain, in a process of its own, and keep what came out.
    retrain.budget.addItem("10 s", 10.0)
    retrain.budget.setCurrentIndex(retrain.budget.count() - 1)
    click(retrain.start_button)
    retrainer = house.workspace.retrainer
    house.until(lambda: retrainer.run is not None and not retrainer.busy)
    assert retrainer.run.kind == "ended", retrainer.run.failed
    run = retrainer.run
    assert retrain.curves.epochs
    assert retrain.verdict.sentence.text().endswith("Keep it?")
    assert not retrain.compare.button.isVisible()
    click(retrain.keep_button)
    house.until(lambda: retrainer.kept is not None)
    assert "Kept as dark-spots-v2" in retrain.kept.text()
    kept = next(one for one in list_models("mitosis") if one.name == "dark-spots-v2")
    assert version_of(kept).lineage == "dark-spots → dark-spots-v2"
    house.until(lambda: retrain.base.findData("dark-spots-v2") >= 0)

    # Look again: the new one is taken, and what was said of its parent's points is still said.
    said = CorrectionStore(session.folder).read()
    click(retrain.scan_button)
    house.until(lambda: house.controller.busy)
    counted()
    assert state.model_name == "dark-spots-v2"
    assert {one.name for one in read_result(session.folder).models} >= {"dark-spots-v2"}
    assert CorrectionStore(session.folder).read().by_key.keys() == said.by_key.keys()
    states = [one.state for one in state.found.reviews]
    assert states.count("rejected") <= len(SURE)
    assert sum(one in ("added", "confirmed") for one in states) == len(FAINT)
    assert run.state.ended is not None
