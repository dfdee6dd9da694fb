"""Models on disk: what is stored comes back, and what is damaged is refused."""

from __future__ import annotations

import json

import pytest
import torch

from napari_metastasis.errors import ModelError, UnknownModelError, WeightsError
from napari_metastasis.models import ModelSpec, build_network, list_models, load_model, save_model


@pytest.fixture
def spec():
    return ModelSpec(name="seeded", architecture="scannet-small", mpp=0.972, patch_px=96, stride_px=16)


@pytest.fixture
def stored(tmp_path, spec):
    torch.manual_seed(1)
    path = tmp_path / "seeded.safetensors"
    save_model(path, build_network("scannet-small"), spec, {"data": "none"})
    return path


def test_round_trip(stored, spec):
    model = load_model(stored)
    torch.manual_seed(1)
    expected = build_network("scannet-small").state_dict()
    assert model.spec == spec
    assert model.card == {"data": "none"}
    assert all(torch.equal(expected[name], tensor) for name, tensor in model.network.state_dict().items())
    assert not model.network.training


def test_same_weights_give_the_same_bytes(stored, tmp_path, spec):
    torch.manual_seed(1)
    again = tmp_path / "again.safetensors"
    save_model(again, build_network("scannet-small"), spec, {"data": "none"})
    assert again.read_bytes() == stored.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_damaged_weights_are_refused(stored, damage):
    data = stored.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    stored.write_bytes({"cut": data[: len(data) // 2], "flip": bytes(flipped), "empty": b""}[damage])
    with pytest.raises(WeightsError, match="SHA-256"):
        load_model(stored)


def test_missing_and_broken_cards_are_refused(stored):
    card = stored.with_suffix(".json")
    text = card.read_text()
    card.write_text(text[: len(text) // 2])
    with pytest.raises(WeightsError, match="model card"):
        load_model(stored)
    for part in ("spec", "card"):
        card.write_text(json.dumps({**json.loads(text), part: ["a list"]}))
        with pytest.raises(WeightsError, match="model card"):
            load_model(stored)
    card.unlink()
    with pytest.raises(WeightsError, match="got no file"):
        load_model(stored)


def test_weights_of_another_architecture_are_refused(stored):
    card = stored.with_suffix(".json")
    values = json.loads(card.read_text())
    values["spec"]["architecture"] = "scannet-vgg16"
    card.write_text(json.dumps(values))
    with pytest.raises(WeightsError, match="scannet-vgg16"):
        load_model(stored)


def test_a_card_with_unknown_fields_is_refused(stored):
    card = stored.with_suffix(".json")
    values = json.loads(card.read_text())
    values["spec"]["colour"] = "red"
    card.write_text(json.dumps(values))
    with pytest.raises(ModelError, match="colour"):
        load_model(stored)


def test_unknown_names_say_which_exist(tmp_path):
    with pytest.raises(UnknownModelError, match="models list"):
        load_model("no-such-model")
    with pytest.raises(UnknownModelError):
        load_model(tmp_path / "absent.safetensors")


def test_every_shipped_model_loads_and_is_small():
    for entry in list_models():
        model = load_model(entry.name)
        assert model.spec.name == entry.name
        assert entry.path.stat().st_size < 10e6
        assert "not a medical device" in model.card["warning"].lower()


@pytest.mark.parametrize(
    "change",
    [
        {"mpp": 0.0},
        {"mpp": float("nan")},
        {"patch_px": 0},
        {"tumour_class": 2},
        {"std": (0.0, 1.0, 1.0)},
        {"mean": ["a", 0, 0]},
    ],
)
def test_impossible_contracts_are_refused(spec, change):
    with pytest.raises(ModelError, match="correct its card"):
        ModelSpec.from_json({**spec.to_json(), **change})


def test_dense_stride(spec):
    assert [spec.dense_stride_px(alpha) for alpha in (1, 2, 4, 8, 16)] == [16, 8, 4, 2, 1]
    with pytest.raises(ModelError, match="choose one of these"):
        spec.dense_stride_px(3)
