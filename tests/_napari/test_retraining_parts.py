"""The parts around a retraining: what waits for what, the list of models, and runs that did not end well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hands import click
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QMessageBox, QWidget
from two_textures import misled_model

from napari_metastasis._napari import retrainer as module
from napari_metastasis._napari.models_dialog import ModelsDialog
from napari_metastasis._napari.retrain_patches import EarlierPatches
from napari_metastasis._napari.retrain_verdict import figure_text, question
from napari_metastasis._napari.retrainer import Retrainer
from napari_metastasis._napari.slide_corrections import Saving
from napari_metastasis.models import add_model, correct_card, list_models
from napari_metastasis.workflows.retrain import begin_run, decide_run, look_at_run
from napari_metastasis.workflows.retrain.run_log import RunLog

pytestmark = pytest.mark.gui


@pytest.fixture
def retrainer(qtbot: QtBot) -> Iterator[Retrainer]:
    del qtbot  # there is an application
    parent = QObject()
    made = Retrainer(parent)
    yield made
    made.close()
    parent.deleteLater()


class Slide:
    """What a retrainer asks of an open slide."""

    def __init__(self) -> None:
        self.busy, self.settled, self.failed = True, False, False
        corrections = SimpleNamespace(saving=Saving("failed", "Not saved: the disk is full."))
        self.session = SimpleNamespace(slide=SimpleNamespace(name="a"), closed=False, corrections=corrections)

    @property
    def corrections(self) -> Slide:
        return self


def test_it_begins_once_the_scan_ended_and_all_is_saved(
    retrainer: Retrainer, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun = []
    monkeypatch.setattr(module, "begin_work", lambda *how: begun.append(how[:5]) or iter(()))
    patches = EarlierPatches()
    qtbot.addWidget(patches)
    patches.choose(str(tmp_path / "earlier.zip"))
    assert "earlier.zip" in patches.button.text()
    slide, how = Slide(), {"model": "m", "name": "m", "budget_s": 60.0, "patches": patches.path}
    patches.choose("")
    assert patches.path is None
    retrainer.begin((tmp_path,), [slide], **how)
    assert retrainer.waits_for == "Waiting for the scan to end…"
    slide.busy = False
    qtbot.waitUntil(lambda: retrainer.waits_for == "Saving what you said…")
    assert not begun
    slide.settled = True
    qtbot.waitUntil(lambda: not retrainer.busy)
    assert begun == [((tmp_path,), "m", "m", 60.0, tmp_path / "earlier.zip")]
    # What cannot be saved cannot be learnt from: nothing begins, and it is said why.
    said: list[str] = []
    retrainer.failed.connect(said.append)
    slide.settled, slide.failed = False, True
    retrainer.begin((tmp_path,), [slide], **how)
    assert said == ["a: Not saved: the disk is full."]
    assert not retrainer.busy
    # Called off while it waits, nothing begins either.
    slide.failed = False
    retrainer.begin((tmp_path,), [slide], **how)
    retrainer.cancel()
    slide.settled = True
    qtbot.wait(120)
    assert len(begun) == 1


def test_a_window_that_opens_again_offers_what_ended_unseen(retrainer: Retrainer, qtbot: QtBot) -> None:
    folder, _ = begin_run((Path("a.metastasis"),), model="scannet-pcam", name="scannet-pcam", budget_s=60)
    log = RunLog(folder, lambda *_: None, lambda: False, 0.0)
    log.tell(step="Learning", done=1, total=2, left_s=3.0)
    retrainer.find()
    qtbot.waitUntil(lambda: retrainer.run is not None and retrainer.run.state.done == 1)
    assert retrainer.busy
    # It is killed, and whoever goes on with it is told so.
    log.close()
    qtbot.waitUntil(lambda: not retrainer.busy)
    assert retrainer.run.kind == "interrupted"
    retrainer.discard()
    qtbot.waitUntil(lambda: retrainer.run is None)
    assert look_at_run(folder).kind == "interrupted"
    decide_run(folder, kept=False)


def test_what_is_asked_names_places_and_figures_have_intervals() -> None:
    verdict = {"sentence": "Better on 3 of 4 places", "old_auc": 0.5, "old_auc_ci95": [0.25, 0.75], "new_auc": 1}
    assert question(verdict) == "Better on 3 of 4 places. Keep it?"
    assert question({}) == "Nothing is known of how good it is. Keep it?"
    assert figure_text(verdict, "old_auc") == "0.50\n0.25–0.75"
    assert figure_text(verdict, "new_auc") == "1.00"
    assert figure_text(verdict, "old_froc") == "–"


def test_models_are_listed_exported_taken_and_removed_when_asked(tmp_path: Path, qtbot: QtBot) -> None:
    path = misled_model(tmp_path / "misled.safetensors")
    said = {"sentence": "Better on 3 of 4 places that it did not see, worse on 1"}
    correct_card(path, {"parents": [{"name": "scannet-pcam"}], "retrained": {"verdict": said}, "data": "12 places"})
    add_model(path)
    parent = QWidget()
    dialog = ModelsDialog(parent)
    qtbot.addWidget(parent)
    dialog.show()
    changes: list[bool] = []
    dialog.models_changed.connect(lambda: changes.append(True))
    qtbot.waitUntil(lambda: dialog.tree.topLevelItemCount() > 0)
    dialog.choose("scannet-pcam")
    assert not dialog.remove_button.isEnabled()
    assert not dialog.compare_button.isEnabled()
    dialog.choose("misled")
    (item,) = dialog.tree.selectedItems()
    shown = [item.text(column) for column in range(5)]
    assert (shown[0], shown[1], shown[3], shown[4]) == ("misled", "scannet-pcam", said["sentence"], "12 places")
    with qtbot.waitSignal(dialog.comparison_wanted) as wanted:
        click(dialog.compare_button)
    assert wanted.args == ["scannet-pcam", "misled"]
    dialog = ModelsDialog(parent)
    dialog.show()
    dialog.models_changed.connect(lambda: changes.append(True))
    qtbot.waitUntil(lambda: dialog.tree.topLevelItemCount() > 0)
    dialog.choose("misled")
    dialog.export(tmp_path / "disk")
    qtbot.waitUntil(lambda: (tmp_path / "disk" / "misled").is_dir() and "Exported" in dialog.note.text())

    def remove(answer: QMessageBox.StandardButton) -> None:
        dialog.choose("misled")
        click(dialog.remove_button)
        assert dialog.question is not None
        click(dialog.question.button(answer))

    remove(QMessageBox.StandardButton.Cancel)
    assert "misled" in {one.name for one in list_models()}
    remove(QMessageBox.StandardButton.Yes)
    qtbot.waitUntil(lambda: "removed" in dialog.note.text())
    assert "misled" not in {one.name for one in list_models()}
    dialog.take(tmp_path / "disk" / "misled")
    qtbot.waitUntil(lambda: len(changes) == 2)
    assert "misled" in {one.name for one in list_models()}
    # Taken twice it changes nothing; a folder without a model is told.
    dialog.take(tmp_path)
    qtbot.waitUntil(lambda: (dialog.error.text() == "" and len(changes) == 3) or bool(dialog.error.text()))
    dialog.close()
