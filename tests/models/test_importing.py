"""Models of other programs answer here as they do there, or are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_metastasis.errors import ModelError, WeightsError
from napari_metastasis.models import GivenCard, build_network, import_model, load_model, zoo

MEAN, STD = [0.72, 0.57, 0.68], [0.11, 0.15, 0.10]
TRANSFORM = [
    {"name": "Resize", "arguments": {"size": 96}},
    {"name": "ToTensor"},
    {"name": "Normalize", "arguments": {"mean": MEAN, "std": STD}},
]
CONFIG = {
    "spec_version": "1.0",
    "architecture": "resnet18",
    "num_classes": 2,
    "patch_size_pixels": 96,
    "spacing_um_px": 1.0,
    "class_names": ["Metastasis", "Other"],
    "transform": TRANSFORM,
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    monkeypatch.setattr(zoo, "own_models_folder", lambda: folder)
    return folder


def write_config(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    config = {name: value for name, value in {**CONFIG, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def wsinfer_folder(folder: Path, **changes: object) -> Path:
    """Return a WSInfer model's folder, whose random weights answer neither 0 nor 1."""
    write_config(folder, **changes)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        network = build_network({**CONFIG, **changes}["architecture"])
        network.fc.weight *= 0.05
        for norm in (each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d)):
            norm.running_var.uniform_(0.5, 2.0)
    save_file(network.state_dict(), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34"])
def test_an_imported_model_answers_as_a_plain_forward_pass_does(tmp_path, own_folder, architecture):
    folder = wsinfer_folder(tmp_path / "Lymph nodes (96 px)", architecture=architecture)
    entry = import_model(folder)
    assert entry == zoo.ZooEntry("Lymph-nodes-96-px", own_folder / "Lymph-nodes-96-px.safetensors", shipped=False)

    patch = torch.randint(0, 256, (1, 3, 96, 96), generator=torch.Generator().manual_seed(3)).float()
    network = build_network(architecture)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    network.eval()
    with torch.no_grad():
        normalised = (patch / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
        expected = network(normalised)[:, :, 0, 0].softmax(dim=1)[:, 0]
        found = load_model(entry.name).dense(1)(patch)
    assert found.shape == (1, 1, 1)
    assert 0.01 < expected.item() < 0.99
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_card_says_what_is_read_and_where_it_is_from(tmp_path):
    folder = wsinfer_folder(tmp_path / "model", class_names=["a", "b"], patch_size_pixels=350, transform=TRANSFORM[1:])
    model = load_model(import_model(folder, name="mine", given=GivenCard(tumour_class="b")).name, "detect")
    assert (model.spec.mpp, model.spec.patch_px, model.spec.stride_px) == (1.0, 350, 350)
    assert (model.spec.classes, model.spec.tumour_class) == (("a", "b"), 1)
    assert str(folder) in model.card["data"]
    assert len(model.card["imported_sha256"]) == 64
    assert "not measured" in model.card["accuracy"]
    assert "not a medical device" in model.card["intended_use"]


def test_a_transform_without_normalisation_changes_nothing(tmp_path):
    entry = import_model(wsinfer_folder(tmp_path / "model", transform=[{"name": "ToTensor"}]))
    assert load_model(entry.name).spec.mean == (0.0, 0.0, 0.0)
    assert load_model(entry.name).spec.std == (1.0, 1.0, 1.0)


def test_weights_without_counters_of_batches_are_taken(tmp_path):
    path = wsinfer_folder(tmp_path / "model") / "model.safetensors"
    save_file({name: held for name, held in load_file(path).items() if "num_batches" not in name}, path)
    assert import_model(path.parent).name == "model"


def test_importing_again_is_no_error_and_another_class_is(tmp_path):
    folder = wsinfer_folder(tmp_path / "model")
    assert import_model(folder) == import_model(folder)
    with pytest.raises(ModelError, match=r"a name that no model has, got 'model'.* another --name"):
        import_model(folder, given=GivenCard(tumour_class="Other"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": None, "spacing_um_px": None}, r"got num_classes, spacing_um_px missing or of another kind"),
        ({"spec_version": "2.0"}, r"spec_version 1.0 in .*, got 2.0"),
        ({"num_classes": 3}, r"as many class_names as classes in .*, got 3 classes \(Metastasis, Other\)"),
        ({"class_names": ["lympho", "Non-tumor"]}, "one class of tumour, got lympho, Non-tumor; .*--tumour-class"),
        ({"class_names": ["Tumor", "metastases"]}, "one class of tumour, got Tumor, metastases"),
        ({"transform": [TRANSFORM[1], TRANSFORM[0]]}, "resized to squares.* got ToTensor, Resize to 96"),
        ({"transform": [{"name": "Resize", "arguments": {"size": [96, 64]}}, *TRANSFORM[1:]]}, r"Resize to \[96, 64\]"),
        ({"transform": [*TRANSFORM, TRANSFORM[2]]}, "got ToTensor, Normalize, Normalize"),
        ({"transform": [{"name": "CenterCrop"}, *TRANSFORM]}, "got CenterCrop, Resize to 96, ToTensor, Normalize"),
        ({"transform": [TRANSFORM[1], {"name": "Normalize"}]}, "Normalize with a mean and std for each colour"),
        (
            {"transform": ["ToTensor", {"name": "Normalize", "arguments": [MEAN, STD]}]},
            "Normalize with a mean and std for each colour",
        ),
    ],
)
def test_what_would_not_answer_as_it_was_trained_to_is_refused(tmp_path, own_folder, changes, message):
    with pytest.raises(ModelError, match=message):
        import_model(write_config(tmp_path / "model", **changes))
    assert not own_folder.exists()


def test_a_class_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ModelError, match="expected one class 'Tumour', got Metastasis, Other"):
        import_model(write_config(tmp_path / "model"), given=GivenCard(tumour_class="Tumour"))


def test_a_patch_that_is_resized_has_larger_pixels(tmp_path):
    spec = load_model(import_model(wsinfer_folder(tmp_path / "model", patch_size_pixels=384)).name).spec
    assert (spec.mpp, spec.patch_px, spec.stride_px) == (4.0, 96, 96)


def test_weights_of_another_network_are_refused(tmp_path):
    path = wsinfer_folder(tmp_path / "model") / "model.safetensors"
    whole = load_file(path)
    for state, message in (
        (
            {name: held for name, held in whole.items() if name != "fc.bias"},
            r"a resnet18's weights under torchvision's names, got no fc.bias",
        ),
        ({**whole, "head.weight": torch.zeros(1)}, "names, got head.weight"),
        ({**whole, "fc.bias": torch.zeros(3)}, "a model of two classes|fc.bias of"),
    ):
        save_file(state, path)
        with pytest.raises(WeightsError, match=message):
            import_model(path.parent)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"expected weights at .*; fetch the model again"):
        import_model(path.parent)
    path.unlink()
    with pytest.raises(WeightsError, match="No such file"):
        import_model(path.parent)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match="a WSInfer model's config"):
        import_model(tmp_path)
