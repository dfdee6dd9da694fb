"""Engines: every one answers what the patches alone answer, on every device that is here."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import torch
from scanning_fakes import oracle, patch_answer

from napari_metastasis.errors import DeviceError, DeviceMemoryError, MissingDependencyError, SettingsError
from napari_metastasis.geometry import Region
from napari_metastasis.models import DenseNetwork, ModelSpec, build_network
from napari_metastasis.scanning import OpenVinoEngine, TorchEngine, predict_views, resolve_devices
from napari_metastasis.scanning.engines.openvino import _translated

DEVICES = ["cpu"]
if torch.cuda.is_available():
    DEVICES.append("cuda")
if torch.backends.mps.is_available():
    DEVICES.append("mps")


def make_engine(name: str, model, dense_coefficient: int = 2, precision: str = "float32"):
    """Return an engine by ``openvino`` or by the device that torch is to use."""
    if name == "openvino":
        pytest.importorskip("openvino")
        return OpenVinoEngine(model.dense(dense_coefficient), precision=precision)
    return TorchEngine(model.dense(dense_coefficient), devices=resolve_devices(name), precision=precision)


@pytest.mark.parametrize("name", [*DEVICES, "openvino"])
@pytest.mark.parametrize("dense_coefficient", [1, 4])
def test_answers_are_those_of_the_patches(name, dense_coefficient, model, slide, make_frame):
    frame = make_frame(slide, dense_coefficient)
    engine = make_engine(name, model, dense_coefficient)
    for cells in (Region(0, 0, 9, 5), Region(7, 3, 1, 1), Region(5, 20, 4, 12)):
        image = slide.read(frame.model, frame.read_window(cells))
        answers = engine.run(image[None])
        assert answers.dtype == np.float32
        assert answers.shape == (1, *cells.size.shape)
        np.testing.assert_allclose(answers[0], oracle(model, slide, frame, cells), atol=1e-5, rtol=0)
        # Answers that were all alike would agree whatever was wrong.
        assert answers.size == 1 or np.ptp(answers) > 0.01
    engine.close()


@pytest.mark.parametrize("name", [*DEVICES, "openvino"])
def test_a_batch_is_its_images(name, model, slide, make_frame):
    frame = make_frame(slide)
    engine = make_engine(name, model)
    images = np.stack([slide.read(frame.model, frame.read_window(Region(x, 2, 6, 4))) for x in (0, 9, 30)])
    together = engine.run(images)
    for image, answers in zip(images, together, strict=True):
        np.testing.assert_allclose(engine.run(image[None])[0], answers, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [*DEVICES, "openvino"])
def test_many_threads_at_once_get_their_own_answers(name, model, slide, make_frame):
    frame = make_frame(slide)
    engine = make_engine(name, model)
    windows = [frame.read_window(Region(x, y, 5 + x % 3, 6)) for x in range(0, 40, 8) for y in range(0, 40, 8)]
    images = [slide.read(frame.model, window)[None] for window in windows]
    expected = [engine.run(image) for image in images]
    with ThreadPoolExecutor(5) as pool:
        for _ in range(2):
            for one, other in zip(pool.map(engine.run, images), expected, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [*DEVICES, "openvino"])
def test_images_that_do_not_lie_whole_in_memory(name, model, slide, make_frame):
    frame = make_frame(slide)
    engine = make_engine(name, model)
    image = slide.read(frame.model, frame.read_window(Region(3, 3, 6, 4)))[None]
    strided = np.repeat(image, 2, axis=2)[:, :, ::2]
    assert not strided.flags.c_contiguous
    np.testing.assert_array_equal(engine.run(strided), engine.run(image))


@pytest.mark.parametrize("name", DEVICES)
def test_bfloat16_is_near(name, model, slide, make_frame):
    frame = make_frame(slide)
    image = slide.read(frame.model, frame.read_window(Region(0, 0, 30, 30)))[None]
    exact, reduced = (make_engine(name, model, precision=each).run(image) for each in ("float32", "bfloat16"))
    assert reduced.dtype == np.float32
    assert 0 < np.abs(exact - reduced).max() < 0.02


def test_the_network_is_left_as_it_is(model):
    network = model.dense(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    TorchEngine(network, devices=("cpu",), precision="bfloat16").close()
    for name, value in network.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_eight_views_are_the_mean_of_every_turned_patch(model, slide, make_frame):
    frame = make_frame(slide)
    engine = make_engine("cpu", model)
    cells = Region(6, 2, 5, 3)  # not square: turned windows have another shape
    image = slide.read(frame.model, frame.read_window(cells))
    answers = predict_views(engine, image, 8)
    assert answers.shape == cells.size.shape
    for row, column in np.ndindex(answers.shape):
        y, x = row * frame.stride_px, column * frame.stride_px
        patch = image[y : y + frame.patch_px, x : x + frame.patch_px]
        seen = [np.rot90(side, turns) for side in (patch, patch[:, ::-1]) for turns in range(4)]
        expected = np.mean([patch_answer(model, np.ascontiguousarray(view)) for view in seen])
        assert answers[row, column] == pytest.approx(expected, abs=1e-5)
    assert np.abs(answers - predict_views(engine, image, 1)).max() > 1e-3


def test_views_that_there_are_not(model):
    with pytest.raises(SettingsError, match="expected 1 or 8 views"):
        predict_views(make_engine("cpu", model), np.zeros((30, 30, 3), np.uint8), 0)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_devices("auto") == ("cuda:0", "cuda:1")
    assert resolve_devices("cuda") == ("cuda:0", "cuda:1")
    assert resolve_devices("cuda:1") == ("cuda:1",)
    assert resolve_devices("cpu") == ("cpu",)
    with pytest.raises(DeviceError, match="one of 2 GPUs"):
        resolve_devices("cuda:2")


def test_devices_of_a_machine_without_any(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_devices("auto") == ("cpu",)
    for device in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=f"expected an NVIDIA GPU for device {device}, .*choose --device auto"):
            resolve_devices(device)
    with pytest.raises(DeviceError, match="expected an Apple GPU"):
        resolve_devices("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_devices("auto") == resolve_devices("mps") == ("mps",)


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CPU", "tpu", "cuda:0 "])
def test_names_that_are_no_device(device):
    with pytest.raises(SettingsError, match="expected a device"):
        resolve_devices(device)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), DeviceMemoryError),
        (MemoryError(), DeviceMemoryError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), DeviceMemoryError),
        (RuntimeError("MPS backend out of memory"), DeviceMemoryError),
        (RuntimeError("CUDA error: an illegal memory access\nwas encountered"), DeviceError),
    ],
)
def test_what_torch_raises_is_told_apart(model, error, kind):
    engine = make_engine("cpu", model)

    def fail(_images):
        raise error

    lane = engine._free.get()
    engine._free.put(lane)
    lane.run = fail
    for _ in range(2):  # the lane is given back after an error
        with pytest.raises(DeviceError) as caught:
            engine.run(np.zeros((1, 30, 30, 3), np.uint8))
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value)


def test_what_openvino_raises_is_told_apart():
    assert isinstance(_translated(RuntimeError("Exception: std::bad_alloc")), DeviceMemoryError)
    assert isinstance(_translated(MemoryError()), DeviceMemoryError)
    other = _translated(RuntimeError("Shape mismatch\nsecond line"))
    assert type(other) is DeviceError
    assert "\n" not in str(other)


def test_openvino_that_is_not_installed(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'napari-metastasis\[openvino\]'"):
        OpenVinoEngine(model.dense(2), precision="float32")


def test_a_precision_that_the_processor_lacks(model, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr("napari_metastasis.scanning.engines.openvino.openvino_precisions", lambda: ("float32",))
    with pytest.raises(DeviceError, match="expected a processor with bfloat16"):
        OpenVinoEngine(model.dense(2), precision="bfloat16")


@pytest.mark.parametrize("dense_coefficient", [1, 2])
@pytest.mark.parametrize(
    "architecture", ["efficientnet-lite0", "efficientnet-lite0-enlarged", "efficientnet-lite0-enlarged-4x4"]
)
def test_openvino_answers_as_torch_does_for_every_family(architecture, dense_coefficient):
    pytest.importorskip("openvino")
    torch.manual_seed(3)
    network = build_network(architecture).eval().requires_grad_(requires_grad=False)
    torch.nn.init.normal_(network.gather.weight)
    torch.nn.init.normal_(network.classify.weight, std=0.01)
    built = network.architecture
    spec = ModelSpec(
        name="seeded",
        architecture=architecture,
        mpp=0.972,
        patch_px=built.patch_px,
        stride_px=built.stride_px,
        field_px=built.field_px,
    )
    dense = DenseNetwork(network, spec, dense_coefficient)
    side = built.field_px + 2 * built.stride_px
    image = np.random.default_rng(3).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    with closing(TorchEngine(dense, devices=("cpu",), precision="float32")) as engine:
        expected = engine.run(image)
    assert expected.shape == (1, *(2 * dense_coefficient + 1,) * 2)
    assert np.ptp(expected) > 1e-3
    with closing(OpenVinoEngine(dense, precision="float32")) as engine:
        np.testing.assert_allclose(engine.run(image), expected, atol=1e-4, rtol=0)
