"""Models that go out answer the same there, and come back as they went."""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from helpers.published_networks import lively_state, normalised, patches_of
from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.errors import MissingDependencyError, ModelError, StorageError
from napari_metastasis.models import (
    GivenCard,
    ModelSpec,
    build_network,
    export_onnx,
    export_wsinfer,
    import_model,
    load_detector,
    save_model,
    zoo,
)
from napari_metastasis.models.nets.spatial_lstm import RefinerSpec, SpatialNetwork


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "own_models_folder", lambda: tmp_path / "own")
    return tmp_path / "own"


def real_patches(folder, side_px: int):
    """Return 20 real patches, grown to a side by what is mirrored at their edges: float 20 x 3 x side x side."""
    source = open_patches(folder / "pcam_valid.zip")
    patches = np.stack([source.read(k) for k in range(0, len(source), len(source) // 20)][:20])
    before = (side_px - patches.shape[1]) // 2
    after = side_px - patches.shape[1] - before
    grown = np.pad(patches, ((0, 0), (before, after), (before, after), (0, 0)), mode="symmetric")
    return torch.from_numpy(grown).permute(0, 3, 1, 2).float()


def torchscript_answers(folder, patches):
    """Return what WSInfer's command makes of a folder's TorchScript: the softmax, 20 x classes."""
    config = json.loads((folder / "config.json").read_text())
    resize, to_tensor, normalise = config["transform"]
    assert (resize["name"], to_tensor["name"], normalise["name"]) == ("Resize", "ToTensor", "Normalize")
    assert resize["arguments"]["size"] == config["patch_size_pixels"] == patches.shape[2]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        network = torch.jit.load(folder / "torchscript_model.pt")
        return network(normalised(patches, **normalise["arguments"])).softmax(dim=1)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["metastasis-lite", "scannet-pcam"])
def test_a_shipped_model_answers_the_same_in_other_programs(shared_data, tmp_path, name):
    model = load_detector(name)
    patches = real_patches(shared_data, model.spec.field_px)
    with torch.no_grad():
        expected = model.dense(1)(patches).flatten()
    assert expected.std() > 0.05
    # Its probabilities are for a share of tumour, which other programs know nothing of.
    assert name != "metastasis-lite" or model.spec.prior == 0.01

    export_wsinfer(name, tmp_path / "wsinfer")
    answered = torchscript_answers(tmp_path / "wsinfer", patches)
    config = json.loads((tmp_path / "wsinfer" / "config.json").read_text())
    assert config["class_names"][model.spec.tumour_class] == "tumour"
    assert (answered[:, model.spec.tumour_class] - expected).abs().max() < 1e-4
    back = load_detector(import_model(tmp_path / "wsinfer", name="back").name)
    # By its tensors it is one of our own again, and scans densely.
    assert (back.spec.architecture, back.spec.stride_px) == (model.spec.architecture, model.spec.stride_px)
    with torch.no_grad():
        assert (back.dense(1)(patches).flatten() - expected).abs().max() < 1e-4

    export_onnx(name, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    card = json.loads((tmp_path / "model.json").read_text())
    inputs = normalised(patches, tuple(card["mean"]), tuple(card["std"])).numpy()
    (logits,) = session.run(None, {"patches": inputs})
    answered = torch.from_numpy(logits).softmax(dim=1)[:, card["classes"].index(card["tumour_class"])].flatten()
    assert (answered - expected).abs().max() < 1e-4
    back = load_detector(import_model(tmp_path / "model.onnx", name="back-onnx").name)
    assert back.spec.fully_convolutional
    assert back.spec.threshold == model.spec.threshold
    assert back.spec.stride_px == model.spec.stride_px
    with torch.no_grad():
        assert (back.dense(1)(patches).flatten() - expected).abs().max() < 1e-4


def test_a_padded_network_goes_out_for_patches_alone(tmp_path):
    patches = patches_of(4, 64)
    state = lively_state("resnet18", normalised(patches, (0.5,) * 3, (0.25,) * 3))
    torch.save(state, tmp_path / "theirs.pth")
    card = GivenCard(mpp=0.5, patch_px=64, classes=("tumour", "other"), mean=(0.5,) * 3, std=(0.25,) * 3)
    model = load_detector(import_model(tmp_path / "theirs.pth", given=card).name)
    with torch.no_grad():
        expected = model.dense(1)(patches).flatten()
    export_wsinfer("theirs", tmp_path / "wsinfer")
    assert (torchscript_answers(tmp_path / "wsinfer", patches)[:, 0] - expected).abs().max() < 1e-5
    export_onnx("theirs", tmp_path / "model.onnx")
    back = load_detector(import_model(tmp_path / "model.onnx", name="back").name)
    assert not back.spec.fully_convolutional
    assert back.spec.classes == ("tumour", "other")
    with torch.no_grad():
        assert (back.dense(1)(patches).flatten() - expected).abs().max() < 1e-5


def test_what_no_form_holds_is_refused_in_one_line(tmp_path):
    spec = ModelSpec(
        name="dyes", architecture="scannet-small", mpp=0.972, patch_px=96, stride_px=16, input="stains",
        mean=(0.5, 0.5), std=(0.25, 0.25),
    )  # fmt: skip
    save_model(tmp_path / "dyes.safetensors", build_network("scannet-small", 2), spec, {})
    refiner = RefinerSpec(
        name="refiner", encoder="mine", encoder_sha256="0" * 64, encoder_features=6, projected=3, hidden=4, grid=4,
        grid_step=1, window_step=2, order="raster-four", residual=True, smoothing=3, dense_coefficient=2,
    )  # fmt: skip
    save_model(tmp_path / "refiner.safetensors", SpatialNetwork(refiner), refiner, {})
    for name, message in (("dyes", "reads colours as they are"), ("refiner", "expected a detector to write as")):
        path = tmp_path / f"{name}.safetensors"
        for write, out in ((export_wsinfer, tmp_path / "folder"), (export_onnx, tmp_path / "model.onnx")):
            with pytest.raises(ModelError, match=message) as caught:
                write(path, out)
            assert "\n" not in str(caught.value)
            assert not out.exists()


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    export_onnx("scannet-pcam", tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'napari-metastasis\[onnx\]'"):
        export_onnx("scannet-pcam", tmp_path / "another.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        MissingDependencyError, match=r"expected ONNX Runtime .* pip install 'napari-metastasis\[onnx\]'"
    ):
        import_model(tmp_path / "model.onnx", name="back")


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(StorageError, match="there"):
        export_wsinfer("scannet-pcam", tmp_path / "there")
    assert not list((tmp_path / "there").iterdir())
    (tmp_path / "model.json").write_text("mine")
    with pytest.raises(StorageError, match=r"model\.json"):
        export_onnx("scannet-pcam", tmp_path / "model.onnx")
    assert (tmp_path / "model.json").read_text() == "mine"
    with pytest.raises(ModelError, match=r"expected a new \.onnx file"):
        export_onnx("scannet-pcam", tmp_path / "model")
