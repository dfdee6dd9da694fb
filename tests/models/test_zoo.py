"""The user's own models go by their names beside those that ship, and none takes another's."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from napari_metastasis.errors import ModelError, UnknownModelError
from napari_metastasis.models import add_model, build_network, display_name, list_models, load_model, save_model, zoo
from napari_metastasis.training.tasks.detect import patch_spec


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    monkeypatch.setattr(zoo, "own_models_folder", lambda: folder)
    return folder


def store(path, name, seed=0):
    torch.manual_seed(seed)
    spec = dataclasses.replace(patch_spec("any", "scannet-small", 0.972), name=name)
    save_model(path, build_network("scannet-small"), spec, {"data": "none"})
    return path


def test_a_model_of_ones_own_goes_by_its_name(tmp_path, own_folder):
    entry = add_model(store(tmp_path / "model.safetensors", "mine"))
    assert entry == zoo.ZooEntry("mine", own_folder / "mine.safetensors", shipped=False)
    assert entry in list_models()
    assert load_model("mine").weights_sha256 == load_model(tmp_path / "model.safetensors").weights_sha256
    assert load_model("mine").card == {"data": "none"}


def test_adding_again_changes_nothing(tmp_path, own_folder):
    path = store(tmp_path / "model.safetensors", "mine")
    add_model(path)
    before = (own_folder / "mine.safetensors").stat()
    add_model(path)
    after = (own_folder / "mine.safetensors").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("name", ["mine", "scannet-pcam"])
def test_no_model_takes_anothers_name(tmp_path, name):
    if name == "mine":
        add_model(store(tmp_path / "first.safetensors", name))
    before = load_model(name).weights_sha256
    with pytest.raises(ModelError, match=f"expected a name that no model has, got '{name}'"):
        add_model(store(tmp_path / "second.safetensors", name, seed=1))
    assert load_model(name).weights_sha256 == before


def test_a_name_that_leaves_the_folder_is_refused(tmp_path, own_folder):
    with pytest.raises(ModelError, match="can name its files"):
        add_model(store(tmp_path / "model.safetensors", "../mine"))
    assert not own_folder.exists()


def test_a_file_put_there_by_hand_does_not_hide_what_ships(own_folder):
    own_folder.mkdir()
    store(own_folder / "scannet-pcam.safetensors", "scannet-pcam")
    shipped = [entry for entry in list_models() if entry.name == "scannet-pcam"]
    assert [entry.shipped for entry in shipped] == [True]


def test_an_unknown_name_lists_ones_own_as_well(tmp_path):
    add_model(store(tmp_path / "model.safetensors", "mine"))
    with pytest.raises(UnknownModelError, match=r"scannet-pcam, .*mine"):
        load_model("nobody")


def test_entries_compare_by_value(tmp_path):
    entry = add_model(store(tmp_path / "model.safetensors", "mine"))
    assert dataclasses.replace(entry) == entry


def test_a_list_says_what_a_shipped_model_is_for():
    assert display_name("scannet-pcam", shipped=True) == "Breast metastasis, H&E (scannet-pcam)"
    assert display_name("/models/own.safetensors", shipped=False) == "own.safetensors"
