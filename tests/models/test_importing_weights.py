"""Weights of other libraries, under the names that they publish, answer here as they do there."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import NetAdapter
from safetensors.torch import save_file
from torch import nn

from helpers.published_networks import (
    densenet_logits,
    lively_state,
    normalised,
    patches_of,
    resnet_logits,
    tiatoolbox_names,
)
from napari_metastasis.errors import ModelError, UnknownModelError, WeightsError
from napari_metastasis.models import GivenCard, build_network, import_model, load_model, zoo
from napari_metastasis.models.detector import Detector
from napari_metastasis.scanning.engines.openvino import OpenVinoEngine

CARD = GivenCard(
    mpp=0.5, patch_px=64, classes=("normal", "tumour"), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "own_models_folder", lambda: tmp_path / "own")
    return tmp_path / "own"


def loaded(name: str) -> Detector:
    model = load_model(name)
    assert isinstance(model, Detector)
    return model


def answers(model: Detector, patches: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.dense(1)(patches).flatten()


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34", "resnet50", "densenet121"])
def test_pcam_networks_of_tiatoolbox_answer_as_a_plain_forward_pass_does(tmp_path, architecture):
    dense = architecture.startswith("densenet")
    # The larger ones take their time.
    patches = patches_of(20 if architecture == "resnet18" else 4, 96)
    # TIAToolbox leaves out the last rectifier of torchvision's DenseNet.
    state = lively_state(architecture, patches / 255, rectified=False)
    path = tmp_path / f"{architecture}-pcam.pth"
    torch.save(tiatoolbox_names(state), path)
    model = loaded(import_model(path).name)
    spec = model.spec
    assert (spec.name, spec.patch_px, spec.stride_px, spec.mpp) == (f"{architecture}-pcam", 96, 96, 1.0)
    assert (spec.mean, spec.std, spec.tumour_class, spec.dense_coefficient) == ((0.0,) * 3, (1.0,) * 3, 1, 1)

    logits = densenet_logits(state, patches / 255, rectified=False) if dense else resnet_logits(state, patches / 255)
    expected = logits.softmax(dim=1)[:, 1]
    assert expected.std() > 0.05
    assert (answers(model, patches) - expected).abs().max() < 1e-4


@pytest.mark.parametrize(("architecture", "groups"), [("resnext50_32x4d", 32), ("densenet121", 0)])
def test_weights_under_torchvisions_names_are_told_by_their_tensors(tmp_path, architecture, groups):
    patches = patches_of(3, 64)
    read = normalised(patches, CARD.mean, CARD.std)
    state = lively_state(architecture, read)
    path = tmp_path / "model.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in state.items()}, path)
    model = loaded(import_model(path, name="mine", given=CARD).name)
    assert (model.spec.architecture, model.spec.stride_px) == (architecture, 64)

    logits = resnet_logits(state, read, groups) if groups else densenet_logits(state, read, rectified=True)
    expected = logits.softmax(dim=1)[:, 1]
    assert (answers(model, patches) - expected).abs().max() < 1e-4

    # The graph that OpenVINO runs is written by hand.
    pytest.importorskip("openvino")
    image = patches.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    engine = OpenVinoEngine(model.dense(1), precision="float32")
    assert np.abs(engine.run(image).ravel() - expected.numpy()).max() < 1e-4
    engine.close()


def bundle(folder: Path, **wrong: object) -> tuple[Path, nn.Module]:
    """Write a MONAI bundle as pathology_tumor_detection is laid out; return it with MONAI's network."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(11)
        backbone = build_network("resnet18")
        backbone.load_state_dict(lively_state("resnet18", patches_of(6, 224) / 127.5 - 1))
        pool = ("avg", {"kernel_size": 7, "stride": 1})
        network = NetAdapter(backbone, num_classes=1, use_conv=True, pool=pool).eval()
        network.fc.weight.data = backbone.fc.weight[1:, :, None, None].clone() * 2
        network.fc.bias.data -= network(patches_of(6, 224) / 127.5 - 1).mean()
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    image = {"num_channels": 3, "spatial_shape": [224, 224], "value_range": [0, 255]}
    answer = {"type": "probability", "num_channels": 1, "channel_def": {"0": "metastasis"}, **wrong}
    metadata = {"name": "Tumor", "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": answer}}}
    scaling = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0.0, "a_max": 255.0}
    inference = {
        "preprocessing": {"_target_": "Compose", "transforms": [{**scaling, "b_min": -1.0, "b_max": 1.0}]},
        "dataset": {"_target_": "MaskedPatchWSIDataset", "mask_level": 6},
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    torch.save({"model": network.state_dict()}, folder / "models" / "model.pt")
    return folder, network


def test_a_monai_bundle_answers_as_monais_own_network(tmp_path):
    folder, network = bundle(tmp_path / "tumour")
    model = loaded(import_model(folder).name)
    spec = model.spec
    assert (spec.mpp, spec.patch_px, spec.stride_px, spec.architecture) == (0.243, 224, 64, "resnet18")
    assert (spec.classes, spec.tumour_class) == (("other", "metastasis"), 1)

    patches = patches_of(6, 224)
    with torch.no_grad():
        expected = network(patches / 127.5 - 1).sigmoid().flatten()
    assert expected.std() > 0.05
    assert (answers(model, patches) - expected).abs().max() < 1e-4


def test_bundles_of_other_tasks_and_damaged_ones_are_refused(tmp_path):
    folder, _ = bundle(tmp_path / "several", num_channels=5)
    with pytest.raises(ModelError, match=r"answers one probability for a patch of three colours.*5 answers"):
        import_model(folder)
    folder, _ = bundle(tmp_path / "whole")
    (folder / "configs" / "inference.json").write_text("{}")
    with pytest.raises(ModelError, match="expected a scaling of values"):
        import_model(folder)
    (folder / "configs" / "inference.json").write_text("{")
    with pytest.raises(ModelError, match=r"a MONAI bundle's inference.json at .*; fetch it again"):
        import_model(folder)
    folder, _ = bundle(tmp_path / "empty")
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(WeightsError, match=r"weights at .*model.pt or model.ts beside it, got no file"):
        import_model(folder)


class Writes:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "was run"))


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, form):
    path, mark = tmp_path / "resnet18-pcam.pth", tmp_path / "mark"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Writes(mark)))
    else:
        torch.save({"fc.weight": Writes(mark)}, path)
    # Trust is for TorchScript alone: a pickle is never more than tensors.
    with pytest.raises(WeightsError, match="expected a file of tensors"):
        import_model(path, consents=lambda _: True)
    assert not mark.exists()
    if form == "pickle":
        pickle.loads(path.read_bytes())
        assert mark.exists()


def test_what_nobody_says_is_asked_for_or_named_in_one_line(tmp_path):
    path = tmp_path / "tumours.pth"
    torch.save(build_network("resnet18").state_dict(), path)
    with pytest.raises(ModelError, match=r"got none of --mpp, --patch-px, --classes, --mean, --std; give them"):
        import_model(path)
    asked = []

    def ask(question: str) -> str:
        asked.append(question)
        told = {"Micro": "0.5", "Side": "64", "Names": "stroma, nests", "Mean": "0.5 0.5,0.5", "Class": "nests"}
        return next((value for start, value in told.items() if question.startswith(start)), "0.25 0.25 0.25")

    spec = loaded(import_model(path, ask=ask, given=GivenCard(patch_px=32)).name).spec
    assert (spec.mpp, spec.patch_px, spec.classes, spec.tumour_class) == (0.5, 32, ("stroma", "nests"), 1)
    assert (spec.mean, spec.std) == ((0.5,) * 3, (0.25,) * 3)
    assert len(asked) == 5
    with pytest.raises(ModelError, match=r"expected an answer to 'Micrometres .*', got 'a half'"):
        import_model(path, ask=lambda _: "a half", name="again")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc.bias"), r"expected weights of resnet18, .*, got \d+ tensors"),
        (lambda state: state.update({"fc.weight": torch.zeros(9, 512)}), "a model of two classes, got 9"),
        (lambda state: state.update({"fc.bias": torch.tensor([float("nan"), 0])}), "finite weights, got others as fc"),
        (lambda state: state.clear(), "expected tensors by name, got none"),
    ],
)
def test_other_weights_are_refused(tmp_path, own_folder, change, message):
    state = build_network("resnet18").state_dict()
    change(state)
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(ModelError, match=message):
        import_model(tmp_path / "m.pth", given=CARD)
    assert not own_folder.exists()


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(UnknownModelError, match=r"expected a folder, a file or a name on https://huggingface\.co"):
        import_model(tmp_path / "nothing")
    with pytest.raises(UnknownModelError, match=r"got 'models/mine\.onnx'; correct it"):
        import_model("models/mine.onnx")
    (tmp_path / "slide.svs").write_bytes(b"")
    with pytest.raises(ModelError, match=r"expected a file of a model \(.safetensors, .*\), got .*slide.svs"):
        import_model(tmp_path / "slide.svs")
    (tmp_path / "m.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(WeightsError, match="expected a file of tensors"):
        import_model(tmp_path / "m.pt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match=r"config.json \(WSInfer\) or configs/metadata.json \(MONAI\) in"):
        import_model(tmp_path / "folder")
