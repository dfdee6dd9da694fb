"""Dense networks on torch: processors, NVIDIA and Apple GPUs."""

from __future__ import annotations

import copy
import queue
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from napari_metastasis.errors import DeviceError, DeviceMemoryError, first_line
from napari_metastasis.scanning.engines.base import FloatArray, NetworkEngine, UInt8Array

__all__ = ["TorchEngine", "device_errors"]

#: One lane copies while the other computes; a third would only hold memory.
_LANES_PER_GPU = 2

#: What stands in plain RuntimeErrors where memory was short: of torch's allocators for processors and Apple's GPUs, of
#: NVIDIA's libraries, which find no room for their own workspace, and of kernels that cannot count as far.
_SIGNS_OF_NO_ROOM = (
    "not enough memory",
    "allocate memory",
    "out of memory",
    "ALLOC_FAILED",
    "Unable to find a valid cuDNN algorithm",
    "canUse32BitIndexMath",
)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchEngine(NetworkEngine):
    """Runs a dense network with torch on one or several devices of one kind.

    Parameters
    ----------
    network
        From raw pixels, float N x 3 x H x W, to probabilities, float32 N x h x w, and of an encoder features with them.
        It is left as it is.
    devices
        ``("cpu",)``, ``("mps",)`` or any number of ``"cuda:n"``.
    precision
        ``"float32"``, ``"bfloat16"`` or ``"float16"``.

    Raises
    ------
    DeviceError
        If the device does not take the network.
    """

    name = "torch"

    def __init__(self, network: nn.Module, *, devices: tuple[str, ...], precision: str) -> None:
        super().__init__(network)
        self.precision = precision
        self.device = ",".join(devices)
        is_cuda = devices[0].startswith("cuda")
        self.lanes = len(devices) * (_LANES_PER_GPU if is_cuda else 1)
        self._exact: _ExactFloat32 | None = None
        # A lane is borrowed for one call, so that no thread is tied to a device.
        self._free: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        with device_errors(self.device, precision):
            placed = [_place(network, torch.device(device), _DTYPES[precision]) for device in devices]
            for lane in range(self.lanes):
                kind = _CudaLane if is_cuda else _Lane
                # Neighbouring lanes lie on different devices: the first ROIs of a scan go one to each.
                device = torch.device(devices[lane % len(devices)])
                module = placed[lane % len(devices)]
                self._free.put(kind(module, device, _DTYPES[precision]))
            # Last, because an engine that was never made is never closed.
            self._exact = _ExactFloat32() if is_cuda and precision == "float32" else None

    def _outputs(self, images: UInt8Array) -> tuple[FloatArray, ...]:
        lane = self._free.get()
        try:
            with device_errors(self.device, self.precision), torch.inference_mode():
                return lane.run(images)
        finally:
            self._free.put(lane)

    def close(self) -> None:
        """Give the device's memory back."""
        while not self._free.empty():
            self._free.get()
        if self._exact is not None:
            self._exact.release()
        _release_cached(self.device)


def _place(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    # The whole network in one format, rather than autocast, which would convert the weights again for every ROI. Pixel
    # values 0..255 are exact in all three formats, and the softmax is float32 in any case.
    module = copy.deepcopy(network).to(device, dtype)
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out
    if device.type == "cuda":
        # The weights are laid out on this thread's stream; the lanes' own streams do not wait for it.
        torch.cuda.synchronize(device)
    return module.eval().requires_grad_(requires_grad=False)


class _Lane:
    """Runs images on one device, one call at a time."""

    def __init__(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self._module = module
        self._device = device
        self._dtype = dtype

    def _answers(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Return the answers of uint8 N x H x W x 3, which is channels-last once it is called N x 3 x H x W."""
        answers = self._module(raw.permute(0, 3, 1, 2).to(self._dtype))
        return tuple(part.float() for part in (answers if isinstance(answers, tuple) else (answers,)))

    def run(self, images: UInt8Array) -> tuple[FloatArray, ...]:
        raw = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        return tuple(part.cpu().numpy() for part in self._answers(raw))


class _CudaLane(_Lane):
    """A lane with its own stream and pinned memory, so that its copies run while another lane computes."""

    def __init__(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(module, device, dtype)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pinned_memory: dict[str, Tensor] = {}

    def run(self, images: UInt8Array) -> tuple[FloatArray, ...]:
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            try:
                raw = self._pinned("raw", images.shape, torch.uint8)
                raw.copy_(torch.from_numpy(np.ascontiguousarray(images)))
                answers = self._answers(raw.to(self._device, non_blocking=True))
                results = [self._pinned(f"answer {k}", part.shape, part.dtype) for k, part in enumerate(answers)]
                for result, part in zip(results, answers, strict=True):
                    result.copy_(part, non_blocking=True)
            finally:
                # Waits for this lane only; also after an error, since the pinned buffers are used again.
                self._stream.synchronize()
            return tuple(result.numpy().copy() for result in results)

    def _pinned(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return pinned memory of a shape, the same as in the last call where it is large enough."""
        count = int(np.prod(shape))
        held = self._pinned_memory.get(name)
        if held is None or held.numel() < count:
            held = self._pinned_memory[name] = torch.empty(count, dtype=dtype, pin_memory=True)
        return held[:count].view(shape)


class _ExactFloat32:
    """Keeps cuDNN from rounding float32 to TF32's ten bits, which would cost the fourth digit of a probability.

    The switch is torch's own and holds for the whole process: the first engine that needs exact numbers turns it, the
    last one turns it back. Turned around each call, calls of several threads would restore each other's values; turned
    back by each engine, the first to close would take exactness from the others.
    """

    _guard = threading.Lock()
    _held: ClassVar[set[_ExactFloat32]] = set()
    _before = (True, False)

    def __init__(self) -> None:
        kind = type(self)
        with kind._guard:
            if not kind._held:
                kind._before = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
                torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            kind._held.add(self)

    def release(self) -> None:
        """Need exact numbers no more; a second call does nothing."""
        kind = type(self)
        with kind._guard:
            if self not in kind._held:
                return
            kind._held.remove(self)
            if not kind._held:
                torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kind._before


def _release_cached(device: str) -> None:
    """Give memory that torch keeps for later back to the device."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


@contextmanager
def device_errors(device: str, precision: str) -> Iterator[None]:
    """Turn torch's errors into this package's: DeviceMemoryError where memory is short, else DeviceError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        told = first_line(error)
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not any(
            sign in told for sign in _SIGNS_OF_NO_ROOM
        ):
            remedy = _remedy(device, precision)
            raise DeviceError(f"expected {device} to run the network, got {told}; {remedy}") from error
        # The frames that failed still hold what the network had computed, and would as long as the error lives: the
        # smaller piece that is tried next would find the memory as full.
        traceback.clear_frames(error.__traceback__)
        _release_cached(device)
        raise DeviceMemoryError(
            f"expected room for a piece of the scan on {device}, but its memory is full; choose a smaller --roi-px"
        ) from error


def _remedy(device: str, precision: str) -> str:
    if device != "cpu":
        return "choose --device cpu"
    return "choose another model" if precision == "float32" else "choose --precision float32"
