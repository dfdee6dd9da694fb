"""Of two looks for models, the later one counts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from napari_metastasis._napari import model_choice
from napari_metastasis._napari.model_choice import ModelChoice

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("older_ends", ["first", "last"])
def test_a_file_that_is_added_while_the_list_is_filled_is_chosen(
    qtbot, darkness_model: Path, monkeypatch: pytest.MonkeyPatch, older_ends: str
) -> None:
    look = model_choice.available_models_work
    begun: list[int] = []
    ended = [threading.Event(), threading.Event()]

    def in_this_order(files, stop):
        number = len(begun)
        begun.append(number)
        found = look(files, stop)
        if (older_ends == "first") == (number == 1):
            assert ended[1 - number].wait(60)
        ended[number].set()
        return found

    monkeypatch.setattr(model_choice, "available_models_work", in_this_order)
    models = ModelChoice()
    qtbot.addWidget(models)
    filled = []
    models.filled.connect(filled.append)
    models.fill()
    qtbot.waitUntil(lambda: len(begun) == 1)
    models.add_file(darkness_model)
    qtbot.waitUntil(lambda: all(event.is_set() for event in ended), timeout=60_000)
    qtbot.wait(200)
    assert models.name == str(darkness_model)
    assert [str(darkness_model) in found.models for found in filled] == [True]
