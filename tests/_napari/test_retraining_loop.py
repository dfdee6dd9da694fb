"""The pathologist teaches the model: scan, reject, draw, retrain, keep, scan again, and see what changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hands import click
from qtpy.QtCore import Qt
from two_textures import DOTTED, PLAIN, correction, mean_at, misled_model, two_textures_slide

from napari_metastasis._napari.compat import window_of
from napari_metastasis._napari.retrainer import Retrainer
from napari_metastasis.annotations import CorrectionStore
from napari_metastasis.models import add_model, list_models, load_model, version_of
from napari_metastasis.workflows.report import read_result
from napari_metastasis.workflows.retrain import open_runs, runs_folder
from napari_metastasis.workflows.retrain.run_log import read_run_log

pytestmark = pytest.mark.gui

#: Discs of each texture that a person speaks of; the others are neighbours that the new model never sees.
SAID = 6


@pytest.fixture
def misled(tmp_path: Path) -> Path:
    """A model of the user's own."""
    return add_model(misled_model(tmp_path / "misled.safetensors")).path


def test_what_was_rejected_falls_and_what_was_drawn_rises_where_nobody_corrected(
    misled: Path, house, tmp_path: Path
) -> None:
    before = hashlib.sha256(misled.read_bytes()).hexdigest()
    slide = two_textures_slide(tmp_path / "slide.tif")
    house.open(slide)
    scan, retrain = house.panel.scan_part, house.panel.retrain_part
    house.until(lambda: scan.model.choose("misled") and retrain.base.findData("misled") >= 0)
    for name, value in (("engine", "torch"), ("precision", "float32"), ("roi_px", 512)):
        scan.advanced.widgets[name].value = value
    scan.main.widgets["dense_coefficient"].value = 1
    house.scan()
    house.finish()
    session = house.session
    old, frame = session.probabilities.copy(), session.heatmap.frame
    assert len(session.found.rows) == len(DOTTED)
    assert not retrain.start_button.isEnabled()

    # Reject what is no tumour, and draw what was missed.
    part = house.panel.results_part
    for disc in DOTTED[:SAID]:
        part.go_to(min(part.table.rows.lesions, key=lambda row: abs(row.x - disc.x) + abs(row.y - disc.y)))
        part.decide("normal")
    drawn = session.corrections.present.with_(*map(correction, PLAIN[:SAID]))
    session.corrections.do("Draw", drawn)
    (source,) = retrain.sources.chosen
    assert (source.said["tumour"], source.said["normal"]) == (SAID, SAID)

    # Retrain, in a process of its own that another window finds.
    retrain.base.setCurrentIndex(retrain.base.findData("misled"))
    retrain.budget.addItem("10 s", 10.0)
    retrain.budget.setCurrentIndex(retrain.budget.count() - 1)
    click(retrain.start_button)
    retrainer = house.workspace.retrainer
    house.until(lambda: retrainer.run is not None and retrainer.run.state.step != "")
    assert retrain.stop_button.isVisible()
    assert CorrectionStore(session.folder).read() == drawn
    other = Retrainer(house.workspace)
    other.find()
    house.until(lambda: other.busy)
    other.close()
    house.until(lambda: retrainer.run.kind == "ended" and not retrainer.busy)
    run = retrainer.run
    assert retrain.curves.epochs
    assert retrain.verdict.sentence.text().startswith("Better on ")
    assert retrain.verdict.sentence.text().endswith("worse on 0. Keep it?")
    # Both are there until it is decided on.
    assert [one.folder for one in open_runs()] == [run.folder]
    assert "misled-v2" not in {one.name for one in list_models()}
    click(retrain.keep_button)
    house.until(lambda: retrainer.kept is not None)
    assert not open_runs()
    assert retrain.start_button.text() == "Retrain"

    # Scan again with it, all of it.
    house.workspace.home()
    click(retrain.scan_button)
    house.until(lambda: session.model_name == "misled-v2" and not house.controller.busy)
    house.finish()
    new = session.probabilities.copy()
    assert session.heatmap.frame == frame
    for discs, sign in ((DOTTED[SAID:], -1), (PLAIN[SAID:], 1)):
        assert len(discs) == 2
        assert sign * (mean_at(new, frame, discs) - mean_at(old, frame, discs)) > 0.2

    # Both on one view, and what changed between them.
    click(retrain.compare.button)
    comparison = house.controller.comparison
    house.until(lambda: comparison.kind == "ready")
    assert session.model_name == "misled-v2"
    np.testing.assert_array_equal(session.probabilities, new)
    heat = house.controller.layers.heatmap
    click(retrain.compare.sides["change"])
    change = house.controller.layers.change
    assert change.visible
    assert not heat.visible
    assert house.workspace.microscope.color_bar.title == "What changed"
    np.testing.assert_array_equal(change.scale, heat.scale)
    np.testing.assert_array_equal(change.translate, heat.translate)
    np.testing.assert_array_equal(change.data, new - old)
    house.qtbot.keyClick(window_of(house.viewer), Qt.Key.Key_X)
    assert session.model_name == "misled"
    np.testing.assert_array_equal(session.probabilities, old)
    assert house.controller.layers.change is None
    assert house.controller.layers.heatmap.visible
    house.qtbot.keyClick(window_of(house.viewer), Qt.Key.Key_X)
    assert session.model_name == "misled-v2"

    # The old one is as it was, and every file reads back.
    house.until(lambda: house.controller.corrections.settled and session.found is not None)
    assert hashlib.sha256(misled.read_bytes()).hexdigest() == before
    kept = next(one for one in list_models() if one.name == "misled-v2")
    assert version_of(kept).lineage == "misled → misled-v2"
    assert load_model("misled-v2").weights_sha256 == load_model(run.folder / "misled-v2.safetensors").weights_sha256
    assert read_run_log(run.folder).ended is not None
    root = tmp_path / "slide.metastasis"
    assert {read_result(one).models[0].name for one in (root, *root.glob("scan-*"))} == {"misled", "misled-v2"}
    assert CorrectionStore(root).read().by_key.keys() == drawn.by_key.keys()
    assert [one.name for one in runs_folder().iterdir()] == [run.folder.name]
