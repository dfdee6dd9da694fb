"""NVIDIA's GPUs as the engine sees them, on stand-ins: lanes, pinned memory, lack of memory, exact numbers.

What only a GPU can show is in test_engine.py, which runs there too.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scanning_fakes import tiny_model

from napari_metastasis.errors import DeviceError, DeviceMemoryError
from napari_metastasis.scanning import TorchEngine
from napari_metastasis.scanning.engines import torch as engine_torch

GPUS = ("cuda:0", "cuda:1")


class Stream:
    """Counts how often it is waited for."""

    waits = 0

    def __init__(self, _device) -> None:
        pass

    def synchronize(self) -> None:
        Stream.waits += 1


class GpuTorch:
    """torch, with GPUs that compute on the processor."""

    def __init__(self) -> None:
        self.emptied = 0
        self.synchronised = []
        self.pinned = 0
        self.cuda = SimpleNamespace(
            Stream=Stream,
            device=lambda _device: nullcontext(),
            stream=lambda _stream: nullcontext(),
            synchronize=self.synchronised.append,
            empty_cache=self._empty_cache,
        )

    def __getattr__(self, name):
        return getattr(torch, name)

    def _empty_cache(self) -> None:
        self.emptied += 1

    def device(self, name):
        # As a torch.device that really is the processor, but is called as the GPU is.
        return NamedDevice(name)

    def empty(self, *shape, pin_memory=False, **options):
        self.pinned += pin_memory
        return torch.empty(*shape, **options)


class NamedDevice:
    type = "cuda"

    def __init__(self, name) -> None:
        self.name = name


@pytest.fixture
def gpu(monkeypatch):
    fake = GpuTorch()
    monkeypatch.setattr(engine_torch, "torch", fake)
    to = torch.Tensor.to

    def on_processor(tensor, *arguments, **options):
        arguments = [torch.device("cpu") if isinstance(each, NamedDevice) else each for each in arguments]
        return to(tensor, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "to", on_processor)
    module_to = torch.nn.Module.to

    def module_on_processor(module, *arguments, **options):
        arguments = [torch.device("cpu") if isinstance(each, NamedDevice) else each for each in arguments]
        return module_to(module, *arguments, **options)

    monkeypatch.setattr(torch.nn.Module, "to", module_on_processor)
    return fake


@pytest.fixture
def network():
    return tiny_model().dense(2)


@pytest.fixture
def flags():
    """Return a function that tells torch's switches, and set them back afterwards."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, True
    yield lambda: (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def images(count: int, side_px: int = 60):
    return np.random.default_rng(count).integers(0, 255, (count, side_px, side_px + 8 * count, 3), np.uint8)


def test_lanes_alternate_between_gpus_and_answer_alike(gpu, network):
    expected = [TorchEngine(network, devices=("cpu",), precision="float32").run(images(n)) for n in (1, 2, 3)]
    engine = TorchEngine(network, devices=GPUS, precision="float32")
    lanes = [engine._free.get() for _ in range(engine.lanes)]
    assert [lane._device.name for lane in lanes] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert Counter(id(lane._module) for lane in lanes).most_common() == [
        (id(lanes[0]._module), 2),
        (id(lanes[1]._module), 2),
    ]
    for lane in lanes:
        engine._free.put(lane)
    waits = Stream.waits
    with ThreadPoolExecutor(6) as pool:
        # Buffers are used again for smaller and larger pieces; answers kept from before must not change with them.
        answers = list(pool.map(engine.run, [images(n) for n in (1, 2, 3) * 8]))
    assert Stream.waits - waits == 24
    assert gpu.pinned <= 4 * 3 * 2
    for k, answer in enumerate(answers):
        np.testing.assert_allclose(answer, expected[k % 3], atol=1e-6, rtol=0)
    engine.close()
    assert gpu.emptied == 1


def test_weights_lie_there_before_a_lane_computes(gpu, network):
    TorchEngine(network, devices=GPUS, precision="bfloat16").close()
    assert [device.name for device in gpu.synchronised] == list(GPUS)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("first_closed", [0, 1])
def test_exact_numbers_last_as_long_as_an_engine_needs_them(network, flags, first_closed):
    reduced = TorchEngine(network, devices=GPUS, precision="bfloat16")
    assert flags() == (True, True)
    engines = [TorchEngine(network, devices=GPUS, precision="float32") for _ in range(2)]
    assert flags() == (False, False)
    engines[first_closed].close()
    engines[first_closed].close()
    reduced.close()
    assert flags() == (False, False)
    engines[1 - first_closed].close()
    assert flags() == (True, True)


def test_an_engine_that_was_not_made_leaves_the_switches(gpu, network, flags):
    def no_room(_device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    gpu.cuda.synchronize = no_room
    with pytest.raises(DeviceMemoryError):
        TorchEngine(network, devices=GPUS, precision="float32")
    assert flags() == (True, True)


@pytest.mark.parametrize("devices", [("cpu",), GPUS])
def test_what_did_not_fit_is_let_go_before_a_smaller_piece_is_tried(gpu, devices):
    held = []

    class Greedy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, raw):
            activation = raw * 2.0
            held.append(weakref.ref(activation))
            emptied.append(gpu.emptied)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    emptied = []
    engine = TorchEngine(Greedy(), devices=devices, precision="float32")
    gc.disable()  # what a cycle keeps alive counts as held
    try:
        with pytest.raises(DeviceMemoryError) as caught:
            engine.run(images(1))
        assert held[0]() is None
    finally:
        gc.enable()
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert gpu.emptied == emptied[0] + (devices == GPUS)


@pytest.mark.parametrize(
    "text",
    [
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Unable to find a valid cuDNN algorithm to run convolution",
        "Expected canUse32BitIndexMath(input) && canUse32BitIndexMath(output) to be true, but got false.",
    ],
)
def test_other_words_for_too_large(text):
    with (
        pytest.raises(DeviceMemoryError, match="choose a smaller --roi-px"),
        engine_torch.device_errors("cpu", "float32"),
    ):
        raise RuntimeError(text)


@pytest.mark.parametrize(
    ("device", "precision", "remedy"),
    [
        ("cuda:0", "float32", "choose --device cpu"),
        ("mps", "float16", "choose --device cpu"),
        ("cpu", "float16", "choose --precision float32"),
        ("cpu", "float32", "choose another model"),
    ],
)
def test_the_remedy_is_one(device, precision, remedy):
    with pytest.raises(DeviceError, match=f"got no kernel; {remedy}$"), engine_torch.device_errors(device, precision):
        raise RuntimeError("no kernel")
