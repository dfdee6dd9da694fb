"""A model's card is held against its weights before anything is built from it."""

from __future__ import annotations

import hashlib
import json
import tracemalloc

import pytest
import torch
from safetensors.torch import save

from napari_metastasis.errors import ModelError, WeightsError
from napari_metastasis.models import add_model, load_model, save_model
from napari_metastasis.models.card import ModelSpec
from napari_metastasis.models.model import read_model
from napari_metastasis.models.nets.architectures import build_network
from napari_metastasis.models.nets.spatial_lstm import RefinerSpec, SpatialNetwork

DETECTOR = ModelSpec(name="mine", architecture="scannet-small", mpp=0.972, patch_px=96, stride_px=16)
REFINER = RefinerSpec(
    name="r", encoder="mine", encoder_sha256="0" * 64, encoder_features=6, projected=3, hidden=4, grid=4, grid_step=1,
    window_step=2, order="raster-four", residual=True, smoothing=3, dense_coefficient=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    save_model(folder / "detector.safetensors", build_network("scannet-small"), DETECTOR, {})
    save_model(folder / "refiner.safetensors", SpatialNetwork(REFINER), REFINER, {"validation_auc": float("nan")})
    return folder


@pytest.fixture
def changed(whole, tmp_path):
    """Return a function that writes a model with other values on its card, or other weights."""

    def write(kind: str, weights: bytes | None = None, *, top: dict | None = None, **spec):
        path = tmp_path / "m.safetensors"
        data = (whole / f"{kind}.safetensors").read_bytes() if weights is None else weights
        card = json.loads((whole / f"{kind}.json").read_text())
        card = {
            **card,
            "weights_sha256": hashlib.sha256(data).hexdigest(),
            **(top or {}),
            "spec": {**card["spec"], **spec},
        }
        path.write_bytes(data)
        path.with_suffix(".json").write_text(json.dumps(card))
        return path

    return write


def refusal(path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()
    return str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": ""}, {"name": " "}, {"name": "a\nb"}, {"name": "a\0"}, {"name": "\ud800"}, {"name": None}, {"name": 3},
        {"name": "x" * 300}, {"architecture": {"a": 1}}, {"architecture": "resnet900"}, {"mpp": 10**400},
        {"mpp": float("nan")}, {"mpp": True}, {"mpp": "1"}, {"patch_px": 2**40}, {"patch_px": 96.0}, {"stride_px": 0},
        {"field_px": 2**20}, {"classes": ["a", 1]}, {"classes": "normal"}, {"classes": ["a", "b", "c"]},
        {"tumour_class": 2}, {"mean": [0.5, 0.5]}, {"mean": [0.5, None, 0.5]}, {"mean": [0.5, 1e300, 0.5]},
        {"std": [0.25, 0.25, 2**31]}, {"std": [0.25, 1e-300, 0.25]}, {"std": [0.25, "1", 0.25]}, {"std": {"a": 1}},
        {"stain_density": [0.1, 0.2]}, {"stain_density": [0.1, 0.2, 1e9]}, {"dense_coefficient": 3},
        {"prior": 1e-320, "threshold": 0.5}, {"threshold": 5e-324}, {"temperature": 1e-320}, {"shift": 1e300},
        {"other": 1}, {"a\nb": 1},
    ],
)  # fmt: skip
def test_a_detectors_card_of_what_cannot_be_is_refused(changed, spec):
    refusal(changed("detector", **spec))


@pytest.mark.parametrize(
    "spec",
    [
        {"encoder_features": 2**31}, {"encoder_features": 10**30}, {"hidden": 16_000}, {"projected": 16_000},
        {"hidden": 0}, {"grid": 2**20, "window_step": 1}, {"grid_step": 10**9}, {"smoothing": 2**31 - 1},
        {"dense_coefficient": 0}, {"dense_coefficient": 3}, {"residual": 1}, {"order": "\ud800"}, {"encoder": "../x"},
        {"encoder": ""}, {"encoder_sha256": "abc"}, {"encoder_features": 7}, {"projected": 0}, {"order": "raster"},
        {"smoothing": 1},
    ],
)  # fmt: skip
def test_a_refiners_card_of_another_network_is_refused_before_it_is_built(changed, spec):
    path = changed("refiner", **spec)
    tracemalloc.start()
    try:
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_no_network_is_built_that_the_weights_are_not_of(changed, monkeypatch):
    """Without memory it is built, to be compared with the header of the weights."""
    made = []
    whole_linear = torch.nn.Linear.__init__
    monkeypatch.setattr(
        torch.nn.Linear,
        "__init__",
        lambda self, *args, **kwargs: (whole_linear(self, *args, **kwargs), made.append(self.weight.device.type))[0],
    )
    assert "[3, 6000]" in refusal(changed("refiner", encoder_features=6000))
    assert set(made) == {"meta"}


@pytest.mark.parametrize(
    "top",
    [
        {"card_version": 3}, {"card_version": "\ud800"}, {"task": 3}, {"task": "a\nb"}, {"task": "x" * 10_000},
        {"weights_sha256": None}, {"weights_sha256": 5}, {"weights_sha256": "a\nb"}, {"card": []}, {"card": None},
    ],
)  # fmt: skip
def test_a_card_of_another_kind_is_refused(changed, top):
    refusal(changed("detector", top=top))


@pytest.mark.parametrize("text", ["[]", "null", "3", '"x"', "", "[" * 5000, "{", '{"card_version": 1, "spec": 3}'])
def test_what_is_no_card_is_refused(changed, text):
    path = changed("detector")
    path.with_suffix(".json").write_text(text)
    assert "expected a model card" in refusal(path)


def test_figures_that_were_not_measured_are_read_as_none(whole):
    """Earlier versions wrote NaN, which no JSON may hold."""
    model = read_model(whole / "refiner.safetensors")
    assert model.card == {"validation_auc": None}
    json.dumps(model.to_json(), allow_nan=False)


def test_weights_that_are_not_the_cards_are_refused_by_their_header(changed):
    state = build_network("scannet-small").state_dict()
    first = next(iter(state))
    for other, told in (
        ({name: tensor for name, tensor in state.items() if name != first}, "no such tensor"),
        ({**state, "more": torch.zeros(1)}, "more"),
        ({**state, first: state[first].half()}, "F16"),
        ({**state, first: state[first][:1].contiguous()}, "1, 3, 3, 3"),
        ({**state, first: torch.full_like(state[first], float("nan"))}, "finite weights"),
    ):
        assert told in refusal(changed("detector", save(other)))


def test_damaged_files_of_tensors_are_refused(changed, whole):
    data = (whole / "detector.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for odd in (None, [], "F900", {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, {"dtype": "F32"}):
        text = json.dumps({**header, next(iter(header)): odd}).encode()
        refusal(changed("detector", len(text).to_bytes(8, "little") + text + data[8 + length :]))
    for cut in (0, 4, 8, 100, length, len(data) - 1):
        refusal(changed("detector", data[:cut]))
    refusal(changed("detector", (2**63).to_bytes(8, "little") + data[8:]))


def test_weights_of_terabytes_are_refused_unread(changed):
    path = changed("detector")
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert "more than 512 MiB" in refusal(path)


def test_a_model_that_cannot_be_kept_under_its_name_leaves_nothing(changed, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_metastasis.models.zoo.own_models_folder", lambda: tmp_path / "own")
    for name in ("a/b", "..", ".hidden", "\ud800", "a\0b"):
        with pytest.raises((ModelError, WeightsError)):
            add_model(changed("detector", name=name))
    assert not (tmp_path / "own").exists()
