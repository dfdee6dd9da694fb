"""A folder of own models that cannot be written: said before training and after it, and nothing is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.conftest import Run
from napari_metastasis.errors import StorageError
from napari_metastasis.models import check_own_models_folder, list_models, load_model, weights_file, zoo

SMALL = ("--device", "cpu", "--precision", "float32", "--batch-size", 4, "--epochs", 1, "--workers", 0)


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Eight patches, light ones of class 0 and dark ones of class 1."""
    folder = tmp_path / "patches"
    for index in range(8):
        path = folder / str(index % 2) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((96, 96, 3), 200 - 100 * (index % 2), np.uint8)).save(path)
    return folder


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of own models that cannot be made: a file lies where its parent should."""
    (tmp_path / "data").write_bytes(b"")
    monkeypatch.setattr(zoo, "own_models_folder", lambda: tmp_path / "data" / "models")
    return tmp_path / "data" / "models"


def test_the_weights_lie_in_the_run_folder_and_are_added_later(
    here: Run, patches: Path, refusing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    answer = here("train", "detector", "--patches", patches, "--validation", patches, "--output", run, *SMALL)
    weights = next(run.glob("*.safetensors"))
    assert answer.status == 0, answer.err
    assert answer.out == f"{weights}\n"
    before, after, how = answer.err.splitlines()
    assert before.startswith(f"napari-metastasis: the model will lie in {run} alone: expected ")
    assert f"the weights lie at {weights}; keep them with 'napari-metastasis models add {weights}' later" in after
    assert f"--model {weights}" in how
    load_model(weights)
    # What it says is what is to be done, once the folder is there.
    monkeypatch.setattr(zoo, "own_models_folder", lambda: tmp_path / "mine")
    assert here("models", "add", weights).status == 0
    assert load_model(weights.stem).weights_sha256 == load_model(weights).weights_sha256
    del refusing


def test_a_folder_that_can_be_written_or_made_is_taken_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "own_models_folder", lambda: tmp_path / "not" / "yet")
    check_own_models_folder()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(zoo, "own_models_folder", lambda: tmp_path)
    monkeypatch.setattr(zoo.tempfile, "TemporaryFile", refuse)
    with pytest.raises(StorageError, match="a read-only file system"):
        check_own_models_folder()


def test_a_model_whose_card_does_not_fit_does_not_take_the_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Run
) -> None:
    monkeypatch.setattr(zoo, "own_models_folder", lambda: tmp_path / "mine")

    @contextmanager
    def full(path: Path) -> Iterator[None]:
        raise StorageError(f"expected room to write {path}, got a full disk; free some space")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(weights_file, "atomic_text", full)
        here("models", "add", model).fails_with("a full disk")
    assert not list((tmp_path / "mine").iterdir())
    assert here("models", "add", model).status == 0
    assert "untrained" in [entry.name for entry in list_models()]
