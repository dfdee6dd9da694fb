"""Networks that are kept as they came answer as their own program does, and code runs only where it is trusted."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.published_networks import normalised, patches_of
from napari_metastasis.errors import ModelError, SettingsError, WeightsError
from napari_metastasis.models import GivenCard, add_model, export_model, import_model, load_detector, zoo
from napari_metastasis.models.programs import ProgramSpec
from napari_metastasis.scanning.engines.choose import choose_engine
from napari_metastasis.settings import ScanSettings

SIDE = 32
CARD = GivenCard(
    mpp=0.5, patch_px=SIDE, classes=("normal", "tumour"), mean=(0.6, 0.5, 0.6), std=(0.2, 0.3, 0.2),
    activation="softmax",
)  # fmt: skip


def trusts(_: str) -> bool:
    return True


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return zoo.own_models_folder()


class Classifier(nn.Module):
    """A small network whose answers differ from patch to patch, padded or not, in one place or one for each patch."""

    def __init__(self, *, padding: int = 0, classes: int = 2, flat: bool = False, probabilities: bool = False) -> None:
        super().__init__()
        self.flat, self.probabilities = flat, probabilities
        # 32 px: 14, 6 and 1 places without padding; 16, 8 and 1 with.
        last = 8 if padding else 6
        self.first = nn.Conv2d(3, 8, 5 - padding, 2, padding=padding)
        self.second = nn.Conv2d(8, 8, 4 - padding, 2, padding=padding)
        self.last = nn.Conv2d(8, classes, last)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for layer in (self.first, self.second, self.last):
                layer.weight.normal_(0, 2 / layer.weight[0].numel() ** 0.5, generator=generator)
                layer.bias.zero_()

    def forward(self, patches: Tensor) -> Tensor:
        answers = self.last(torch.relu(self.second(torch.relu(self.first(patches)))))
        if self.probabilities:
            answers = answers.softmax(dim=1)
        return answers.flatten(1) if self.flat else answers


@contextmanager
def quiet():
    """Pass over what torch says of forms that it would rather write."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def script_of(network: nn.Module, path: Path) -> Path:
    with quiet():
        torch.jit.script(network.eval()).save(str(path))
    return path


def onnx_of(network: nn.Module, path: Path, *, batch: int = 0) -> Path:
    names = {"patches": {2: "height", 3: "width"}, "answers": {}}
    if not batch:
        names = {name: {0: "count", **axes} for name, axes in names.items()}
    with quiet():
        torch.onnx.export(
            network.eval(), (torch.zeros(batch or 2, 3, SIDE, SIDE),), path, dynamo=False, opset_version=17,
            input_names=["patches"], output_names=["answers"], dynamic_axes=names,
        )  # fmt: skip
    return path


def patchwise_oracle(network: nn.Module, image: Tensor, stride_px: int) -> Tensor:
    """Crop each patch by itself, and ask the network for it alone."""
    rows, columns = ((side - SIDE) // stride_px + 1 for side in image.shape[2:])
    found = torch.empty(rows, columns)
    with torch.no_grad():
        for row in range(rows):
            for column in range(columns):
                y, x = row * stride_px, column * stride_px
                patch = normalised(image[:, :, y : y + SIDE, x : x + SIDE], CARD.mean, CARD.std)
                found[row, column] = network(patch).flatten().softmax(dim=0)[1]
    return found


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
@pytest.mark.parametrize(("padding", "dense"), [(0, True), (1, False)])
@pytest.mark.parametrize("alpha", [1, 2])
def test_any_network_scans_as_its_patches_answer(tmp_path, form, padding, dense, alpha):
    network = Classifier(padding=padding)
    path = onnx_of(network, tmp_path / "m.onnx") if form == "onnx" else script_of(network, tmp_path / "m.pt")
    model = load_detector(import_model(path, given=CARD, consents=trusts).name)
    spec = model.spec
    assert isinstance(spec, ProgramSpec)
    # The one that pads answers densely too, but otherwise than for patches: it is not used so.
    assert spec.fully_convolutional is dense
    assert spec.stride_px == (4 if dense else SIDE)
    assert spec.dense_coefficient == 1

    image = patches_of(1, 96)
    expected = patchwise_oracle(network, image, spec.stride_px // alpha)
    assert expected.std() > 0.02
    with torch.no_grad():
        found = model.dense(alpha)(image)[0]
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5

    pixels = image.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    for engine in model.engines:
        if engine == "openvino":
            pytest.importorskip("openvino")
        settings = ScanSettings(engine=engine, precision="float32", roi_px=96, device="cpu", dense_coefficient=alpha)
        chosen = choose_engine(model, settings).engine
        assert chosen.name == engine
        assert np.abs(chosen.run(pixels)[0] - expected.numpy()).max() < 1e-5
        chosen.close()


def test_onnx_of_one_patch_at_a_time_and_other_activations(tmp_path):
    image = patches_of(3, SIDE)
    one = Classifier(classes=1, flat=True)
    path = onnx_of(one, tmp_path / "one.onnx", batch=1)
    card = GivenCard(mpp=0.5, classes=("tumour",), mean=CARD.mean, std=CARD.std, activation="sigmoid", patch_px=SIDE)
    model = load_detector(import_model(path, given=card).name)
    with torch.no_grad():
        expected = one(normalised(image, CARD.mean, CARD.std)).sigmoid().flatten()
        found = torch.cat([model.dense(1)(patch[None]).flatten() for patch in image])
    assert model.spec.classes == ("other", "tumour")
    assert (found - expected).abs().max() < 1e-5

    three = Classifier(classes=3, probabilities=True)
    card = GivenCard(
        mpp=0.5, patch_px=SIDE, classes=("a", "Tumour", "c"), mean=CARD.mean, std=CARD.std, activation="none"
    )
    model = load_detector(import_model(onnx_of(three, tmp_path / "three.onnx"), given=card).name)
    with torch.no_grad():
        expected = three(normalised(image, CARD.mean, CARD.std))[:, 1].flatten()
        assert (model.dense(1)(image).flatten() - expected).abs().max() < 1e-5


def test_a_calibrated_network_answers_for_its_prior(tmp_path):
    model = load_detector(import_model(onnx_of(Classifier(), tmp_path / "m.onnx"), given=CARD).name)
    spec = replace(model.spec, temperature=1.7, shift=0.4, prior=0.02)
    calibrated, image = replace(model, spec=spec), patches_of(1, 96)
    with torch.no_grad():
        own, found = model.dense(1)(image)[0].numpy(), calibrated.dense(1)(image)[0].numpy()
    assert np.abs(found - spec.probabilities(own)).max() < 1e-5
    pytest.importorskip("openvino")
    settings = ScanSettings(engine="openvino", precision="float32", roi_px=96, device="cpu")
    engine = choose_engine(calibrated, settings).engine
    answered = engine.run(image.permute(0, 2, 3, 1).to(torch.uint8).numpy())[0]
    assert np.abs(answered - found).max() < 1e-5
    engine.close()


class WritesWhenOpened(nn.Module):
    """TorchScript that writes a file as soon as it is opened."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark
        self.weight = torch.zeros(2, 3)

    def forward(self, patches: Tensor) -> Tensor:
        return patches.mean(dim=(2, 3)) @ self.weight.t()

    @torch.jit.export
    def __getstate__(self) -> tuple[str, Tensor, bool]:
        return self.mark, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, Tensor, bool]) -> None:
        self.mark = state[0]
        self.training = state[2]
        # What nothing reads would be left out.
        self.weight = state[1] + 0 * torch.from_file(self.mark, True, 6).view(2, 3)


def test_torchscript_that_is_not_trusted_is_not_opened(tmp_path, own_folder):
    mark = tmp_path / "mark"
    path = script_of(WritesWhenOpened(str(mark)), tmp_path / "m.pt")
    told = []
    for consents in (lambda what: told.append(what), lambda _: False):
        with pytest.raises(ModelError, match=r"expected your trust in .*m\.pt, TorchScript, which is code.*--trust"):
            import_model(path, given=CARD, consents=consents)
    assert told == [f"{path} is TorchScript, which is code and runs with your rights"]
    assert not mark.exists()
    assert not own_folder.exists()
    # It would have run.
    with quiet():
        torch.jit.load(io.BytesIO(path.read_bytes()))
    assert mark.exists()


def test_trust_lies_with_the_user_and_not_with_the_card(tmp_path, monkeypatch):
    path = script_of(Classifier(), tmp_path / "m.pt")
    entry = import_model(path, given=CARD, consents=trusts)
    model = load_detector(entry.name)
    assert model.card["runs_code"] == "TorchScript of others, which this user trusted"
    assert model.card["imported_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    (weights, *_) = [file for file in export_model(entry.name, tmp_path / "taken") if file.suffix == ".safetensors"]

    # Another user, who was handed the folder.
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    taken = load_detector(weights)
    with pytest.raises(ModelError, match=r"expected code that is trusted here, got the TorchScript .* of m, .*--trust"):
        taken.dense(1)
    add_model(tmp_path / "taken")
    with pytest.raises(ModelError, match="trusted here"):
        load_detector("m").dense(1)
    add_model(tmp_path / "taken", trusted=True)
    load_detector("m").dense(1)


def test_another_file_in_the_place_of_a_trusted_one_is_refused(tmp_path):
    entry = import_model(script_of(Classifier(), tmp_path / "m.pt"), given=CARD, consents=trusts)
    other = import_model(script_of(Classifier(flat=True), tmp_path / "n.pt"), given=CARD, consents=trusts)
    entry.path.write_bytes(other.path.read_bytes())
    with pytest.raises(WeightsError, match="expected weights with SHA-256"):
        load_detector("m")
    # Whoever corrects the card too needs the user's trust in what lies there now.
    trusted = zoo.own_models_folder().parent / "trusted.json"
    remembered = json.loads(trusted.read_text())
    (there,) = [sha256 for sha256, said in remembered.items() if said["name"] == "n"]
    trusted.write_text(json.dumps({sha256: said for sha256, said in remembered.items() if sha256 != there}))
    with pytest.raises(ModelError, match="trusted here"):
        load_detector("n").dense(1)


@pytest.mark.parametrize(
    ("network", "card", "message"),
    [
        (Classifier(classes=3), CARD, r"expected 2 answers for a patch .*normal, tumour.*got 3 in 1 places"),
        (Classifier(), GivenCard(patch_px=40), r"got 2 in 9 places; correct --classes, --activation or --patch-px"),
        (Classifier(), GivenCard(patch_px=16), r"expected a network that takes patches of 3 x 16 x 16, got"),
        (Classifier(), GivenCard(activation="none"), r"probabilities of m with activation none, got"),
        (Classifier(probabilities=True), CARD, r"probabilities from m; take --activation none"),
        (Classifier(), GivenCard(activation="sigmoid"), r"expected 1 answers .* with activation sigmoid, got 2"),
    ],
)
def test_answers_that_the_card_does_not_speak_of_are_refused(tmp_path, own_folder, network, card, message):
    path = onnx_of(network, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=message) as caught:
        import_model(path, given=card.over(CARD))
    assert "\n" not in str(caught.value)
    assert not own_folder.exists()


def test_damaged_networks_are_refused_in_one_line(tmp_path):
    whole = onnx_of(Classifier(), tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="expected an ONNX network, got") as caught:
        import_model(tmp_path / "m.onnx", given=CARD)
    assert "\n" not in str(caught.value)
    # A script whose code is missing in part is still told to be one.
    path = script_of(Classifier(), tmp_path / "m.pt")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "cut.pt", "w") as cut:
        for name in archive.namelist():
            if not name.endswith("constants.pkl"):
                cut.writestr(name, archive.read(name))
    with pytest.raises(WeightsError, match=r"expected TorchScript in .*cut\.pt, got") as caught:
        import_model(tmp_path / "cut.pt", given=CARD, consents=trusts)
    assert "\n" not in str(caught.value)


def test_engines_that_cannot_run_a_network_are_refused(tmp_path):
    model = load_detector(import_model(onnx_of(Classifier(), tmp_path / "m.onnx"), given=CARD).name)
    with pytest.raises(
        SettingsError, match="engine auto, openvino or onnxruntime for m, got torch; choose one of these"
    ):
        choose_engine(model, ScanSettings(engine="torch"))
    script = load_detector(import_model(script_of(Classifier(), tmp_path / "s.pt"), given=CARD, consents=trusts).name)
    with pytest.raises(SettingsError, match="engine auto, torch for s, got onnxruntime"):
        choose_engine(script, ScanSettings(engine="onnxruntime"))
    with pytest.raises(ModelError, match="whose layers are known"):
        script.encoding(1)
