"""Refiners: the paper's LSTM by hand, what each order sees, features and log-odds of an encoder, files and names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_metastasis.errors import ModelError, PassWarning, UnknownModelError, WeightsError
from napari_metastasis.models import (
    ORDERS,
    Detector,
    ModelSpec,
    RefinerSpec,
    SpatialNetwork,
    add_model,
    build_network,
    crop_patches,
    feature_layer,
    list_models,
    load_model,
    load_scan_models,
    model_for,
    save_model,
)


@pytest.fixture(autouse=True)
def _own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def spec_of(**changes) -> RefinerSpec:
    values = {
        "name": "tiny-refiner", "encoder": "scannet-pcam", "encoder_sha256": "0" * 64, "encoder_features": 6,
        "projected": 4, "hidden": 5, "grid": 3, "grid_step": 1, "window_step": 1, "order": "raster-four",
        "residual": True, "smoothing": 1, "dense_coefficient": 2,
    }  # fmt: skip
    return RefinerSpec(**(values | changes))


def network_of(seed: int = 1, **changes) -> SpatialNetwork:
    torch.manual_seed(seed)
    network = SpatialNetwork(spec_of(**changes)).eval().requires_grad_(requires_grad=False)
    torch.nn.init.normal_(network.answer.weight)
    torch.nn.init.normal_(network.absent)
    return network


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def test_the_cell_is_equation_2():
    network = network_of(order="raster", residual=False, projected=0, encoder_features=4)
    grid = np.random.default_rng(0).normal(size=(1, 3, 3, 5)).astype(np.float32)
    lstm = network.rows
    weights = [getattr(lstm, name).double().numpy() for name in ("weight_ih_l0", "weight_hh_l0")]
    bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0).double().numpy()
    # torch keeps the gates one below the other: input, forget, memory, output. W · [h, z] is W_h h + W_z z.
    h = c = np.zeros(5)
    expected = []
    for z in grid[0, ..., 1:].reshape(9, 4).astype(float):
        i, f, m, o = np.split(weights[0] @ z + weights[1] @ h + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(m)
        h = sigmoid(o) * np.tanh(c)
        expected.append(network.answer.weight.double().numpy()[0] @ h + float(network.answer.bias))
    found = network(torch.from_numpy(grid)).numpy().reshape(9)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_what_an_order_sees(order):
    network = network_of(order=order, residual=False)
    grid = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, 3, 5)).astype(np.float32))
    changed = grid.clone()
    changed[0, 2, 0] += 1
    moved = (network(grid) != network(changed))[0].numpy()
    if order == "raster":
        # Line by line: nothing before the patch that changed has heard of it.
        np.testing.assert_array_equal(moved, [[False] * 3, [False] * 3, [True] * 3])
    else:
        assert moved.all()


@pytest.mark.parametrize("order", ORDERS)
def test_residual_refiners_begin_at_the_encoder(order):
    network = SpatialNetwork(spec_of(order=order)).eval()
    grids = torch.randn(4, 3, 3, 5)
    torch.testing.assert_close(network(grids), grids[..., 0])


def test_log_odds_are_averaged_over_the_neighbours_that_are_there():
    network = SpatialNetwork(spec_of(grid=5, smoothing=3)).eval()
    torch.nn.init.normal_(network.kernel, generator=torch.Generator().manual_seed(2))
    grids = torch.randn(2, 5, 5, 5, generator=torch.Generator().manual_seed(3))
    grids[0, 1:3, 2] = torch.nan
    grids[1] = torch.nan
    weights = np.exp(network.kernel.detach().double().numpy()[0, 0])
    odds = grids[0, ..., 0].double().numpy()
    found = network(grids)
    for row in range(5):
        for column in range(5):
            total = share = 0.0
            for y in range(max(0, row - 1), min(5, row + 2)):
                for x in range(max(0, column - 1), min(5, column + 2)):
                    if not np.isnan(odds[y, x]):
                        weight = weights[y - row + 1, x - column + 1]
                        total, share = total + weight * odds[y, x], share + weight
            assert found[0, row, column].item() == pytest.approx(total / share, abs=1e-5)
    # A grid of nothing asks nothing, and harms no gradient.
    found.sum().backward()
    assert (found[1] == 0).all()
    assert torch.isfinite(network.kernel.grad).all()


def test_smoothing_begins_with_a_gaussian():
    weights = SpatialNetwork(spec_of(grid=8, smoothing=5)).kernel.detach().double().flatten().softmax(0).view(5, 5)
    offsets = np.arange(5) - 2
    expected = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 2)
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "told"), [({"smoothing": 4}, "odd"), ({"smoothing": 3, "residual": False}, "residual")]
)
def test_smoothing_that_cannot_be_is_refused(changes, told):
    with pytest.raises(ModelError, match=told):
        spec_of(**changes)


def test_absent_patches_have_no_say_but_that_they_are_absent():
    network = network_of()
    grids = torch.randn(2, 3, 3, 5)
    grids[:, 0, 0] = torch.nan
    first = network(grids)
    assert torch.isfinite(first).all()
    torch.testing.assert_close(first, network(grids.clone()))


def test_the_feature_layer_holds_log_odds_and_projection():
    model = load_model("scannet-pcam")
    projection = torch.nn.Linear(192, 3)
    layer = feature_layer(model.network.classifier, model.spec.tumour_class, projection)
    patch = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        hidden = model.network.encode(patch)
        logits = model.network(patch)[:, :, 0, 0]
        found = layer(hidden)[:, :, 0, 0]
        projected = projection(hidden[:, :, 0, 0])
    torch.testing.assert_close(found[:, 0], logits[:, 1] - logits[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 1:], projected, atol=1e-5, rtol=1e-5)


def test_encoders_of_three_classes_are_refused():
    with pytest.raises(ModelError, match="two classes, got 3"):
        feature_layer((torch.zeros(3, 4), torch.zeros(3)), 1, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": "spiral"}, "scanning order"),
        ({"window_step": 2}, "divides the grid of 3"),
        ({"hidden": 0}, "at least 1"),
    ],
)
def test_impossible_specs_are_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        spec_of(**changes)


def test_specs_survive_json():
    assert RefinerSpec.from_json(spec_of().to_json()) == spec_of()
    with pytest.raises(ModelError, match="refiner's card"):
        RefinerSpec.from_json({**spec_of().to_json(), "grid": "3"})


def own_refiner(folder, model: Detector, name: str = "mine"):
    path = folder / f"{name}.safetensors"
    spec = spec_of(name=name, encoder=model.spec.name, encoder_sha256=model.weights_sha256, encoder_features=192)
    torch.manual_seed(len(name))
    save_model(path, SpatialNetwork(spec), SpatialNetwork(spec).spec, {"data": "none"})
    return path


def test_a_refiner_is_kept_found_and_goes_by_its_name(tmp_path):
    model = load_model("scannet-pcam")
    path = own_refiner(tmp_path, model)
    assert add_model(path).name == "mine"
    assert add_model(path).path == add_model(path).path, "a second time changes nothing"
    assert "mine" in {entry.name for entry in list_models("refine")}
    assert model_for(model, "refine").spec.name == "mine"
    both = load_scan_models("mine")
    assert (both.detector.name, both.others["refine"].name, both.named) == ("scannet-pcam", "mine", {"refine"})
    assert load_scan_models(path).others["refine"].weights_sha256 == both.others["refine"].weights_sha256
    assert not load_scan_models("scannet-pcam", tasks=("refine",)).named
    assert load_scan_models("scannet-pcam", tasks=("refine",)).others["refine"].name == "mine"
    other = own_refiner(tmp_path, model, "another")
    add_model(other)
    with pytest.raises(ModelError, match="a name that no model has"):
        add_model(_renamed(tmp_path, model))


def _renamed(folder, model):
    path = folder / "third.safetensors"
    spec = spec_of(name="mine", encoder="x", encoder_sha256=model.weights_sha256, encoder_features=192, hidden=3)
    save_model(path, SpatialNetwork(spec), SpatialNetwork(spec).spec, {})
    return path


def test_a_refiner_of_another_model_is_refused(tmp_path):
    model = load_model("scannet-pcam")
    other = replace(model, weights_sha256="f" * 64)
    refiner = load_model(own_refiner(tmp_path, other))
    with pytest.raises(ModelError, match="expected model scannet-pcam"):
        refiner.feature_layer(model)
    with pytest.raises(UnknownModelError, match="for refiner mine"):
        load_scan_models(own_refiner(tmp_path, other))
    with pytest.raises(UnknownModelError, match="name of a refiner"):
        load_model("nobody", "refine")


def test_damaged_weights_are_refused(tmp_path):
    path = own_refiner(tmp_path, load_model("scannet-pcam"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="SHA-256"):
        load_model(path, "refine")


def test_resnet34_is_torchvisions(tmp_path):
    network = build_network("resnet34")
    names = set(network.state_dict())
    # Some of torchvision's own names, and the number of weights that its documentation states, less the classifier's.
    assert {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight"} <= names
    assert {"layer3.5.bn2.bias", "layer4.2.conv2.weight", "fc.weight"} <= names
    weights = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("fc."))
    assert weights == 21_797_672 - 513_000
    spec = ModelSpec(name="r", architecture="resnet34", mpp=0.25, patch_px=256, stride_px=64)
    save_model(tmp_path / "r.safetensors", network, spec, {})
    assert load_model(tmp_path / "r.safetensors").spec == spec


def test_a_padded_network_answers_patch_by_patch():
    torch.manual_seed(3)
    network = build_network("resnet34").eval()
    spec = ModelSpec(name="r", architecture="resnet34", mpp=0.25, patch_px=256, stride_px=64)
    model = Detector(spec=spec, network=network, weights_sha256="1" * 64, card={})
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 320, 384)).astype(np.float32))
    with torch.inference_mode():
        found = model.dense(1)(image)
        patches = crop_patches((image / 255 - 0.5) / 0.25, patch_px=256, stride_px=64)[0]
        expected = [[float(network(patch[None]).softmax(dim=1)[0, 1]) for patch in row] for row in patches]
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)


def test_names_that_would_mislead_are_refused(tmp_path):
    model = load_model("scannet-pcam")
    with pytest.raises(ModelError, match="a name that no model has, got 'scannet-pcam'"):
        add_model(own_refiner(tmp_path, model, "scannet-pcam"))
    path = own_refiner(tmp_path, model, "up")
    escaping = SpatialNetwork(replace(load_model(path, "refine").spec, name="../victim"))
    save_model(path, escaping, escaping.spec, {})
    with pytest.raises(ModelError, match="that can name its files"):
        add_model(path)
    add_model(own_refiner(tmp_path, model, "mine"))
    copy = tmp_path / "copy" / "mine.safetensors"
    copy.parent.mkdir()
    save_model(copy, model.network, replace(model.spec, name="mine"), {})
    with pytest.raises(ModelError, match="a name that no model has"):
        add_model(copy)


def test_what_ships_refines_what_ships():
    shipped = [entry for entry in list_models("refine") if entry.shipped]
    assert shipped
    for entry in shipped:
        refiner = load_model(entry.name, "refine")
        assert refiner.spec.name == entry.name
        # Trained on these very weights, and no others.
        refiner.check(load_model(refiner.spec.encoder))
        assert entry.path.stat().st_size < 1e6
        assert "not a medical device" in refiner.card["warning"].lower()


def test_a_card_of_another_version_hides_no_model(tmp_path):
    model = load_model("scannet-pcam")
    shipped = model_for(model, "refine")
    entry = add_model(own_refiner(tmp_path, model, "newer"))
    card = entry.path.with_suffix(".json")
    card.write_text(card.read_text().replace('"grid":', '"lattice":'))
    with pytest.warns(PassWarning, match=r"refiner newer is passed over: .*newer\.safetensors"):
        assert model_for(model, "refine").weights_sha256 == shipped.weights_sha256
