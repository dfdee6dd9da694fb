"""What runs a dense network: the contract, and the devices."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from napari_metastasis.errors import DeviceError, ModelError, SettingsError
from napari_metastasis.models import Encoder

__all__ = ["Engine", "IdleEngine", "NetworkEngine", "computes_bfloat16", "resolve_devices"]

#: Compute capability of the first NVIDIA GPUs with bfloat16, Ampere; older ones imitate it.
_AMPERE = (8, 0)

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


class Engine(Protocol):
    """Runs one dense network on one kind of device.

    Attributes
    ----------
    name
        ``"torch"`` or ``"openvino"``.
    precision
        Number format of the network: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    device
        As the command line takes it: ``"cpu"``, ``"cuda:0"``, ``"cuda:0,cuda:1"``, ``"mps"``.
    lanes
        Calls of :meth:`run` that should go on at the same time: copies then hide behind computing, and every device has
        work. Further calls wait.
    """

    name: str
    precision: str
    device: str
    lanes: int

    def run(self, images: UInt8Array) -> FloatArray:
        """Return tumour probabilities, float32 (n, rows, columns), of images, uint8 (n, height, width, channels).

        May be called from many threads at once.

        Raises
        ------
        DeviceMemoryError
            If the images do not fit the device's memory; smaller ones may.
        DeviceError
            If the device fails.
        """
        ...

    def encode(self, images: UInt8Array) -> tuple[FloatArray, FloatArray]:
        """Return what :meth:`run` does, and features, float32 (n, features, rows / α, columns / α), of the same pass.

        Raises
        ------
        ModelError
            If the network is no :class:`~napari_metastasis.models.Encoder`.
        DeviceMemoryError, DeviceError
            As :meth:`run` does.
        """
        ...

    def close(self) -> None:
        """Give the device's memory back. No call of :meth:`run` is going on any more."""
        ...


class NetworkEngine(Engine):
    """An engine that holds its network; subclasses say how outputs come of it.

    Parameters
    ----------
    network
        The network to run; an encoder has features as its second output.
    """

    def __init__(self, network: nn.Module) -> None:
        self._is_encoder = isinstance(network, Encoder)

    @abstractmethod
    def _outputs(self, images: UInt8Array) -> tuple[FloatArray, ...]:
        """Return every output of the network."""

    def run(self, images: UInt8Array) -> FloatArray:
        """Return tumour probabilities; see :meth:`Engine.run`."""
        return self._outputs(images)[0]

    def encode(self, images: UInt8Array) -> tuple[FloatArray, FloatArray]:
        """Return probabilities and features; see :meth:`Engine.encode`."""
        if not self._is_encoder:
            raise ModelError(
                f"expected an encoder on engine {self.name}, got a network without features; make it for a refiner"
            )
        probabilities, features = self._outputs(images)
        return probabilities, features


class IdleEngine(Engine):
    """Stands for the engine of a network that answers nothing: the network is not built.

    Parameters
    ----------
    precision, device
        As of an engine that runs it.
    """

    def __init__(self, *, precision: str, device: str) -> None:
        self.name, self.precision, self.device, self.lanes = "none", precision, device, 1

    def run(self, images: UInt8Array) -> FloatArray:
        """Refuse."""
        raise DeviceError(
            f"expected nothing to answer, got {len(images)} images for a network that was not built; make an engine"
        )

    def encode(self, images: UInt8Array) -> tuple[FloatArray, FloatArray]:
        """Refuse."""
        return self.run(images), self.run(images)

    def close(self) -> None:
        """Nothing is held."""


def resolve_devices(device: str) -> tuple[str, ...]:
    """Return the devices that a setting stands for: ``cuda`` is every GPU, ``cuda:1`` the second alone.

    Parameters
    ----------
    device
        ``auto`` takes every GPU, else Apple's, else the processor.

    Raises
    ------
    SettingsError
        If it names no kind of device.
    DeviceError
        If this machine, or this build of torch, has none of that kind.
    """
    match = re.fullmatch(r"auto|cpu|mps|cuda(?::(\d{1,3}))?", device)
    if match is None:
        raise SettingsError(f"expected a device (auto, cpu, cuda, cuda:n or mps), got {device!r}; choose one of these")
    # device_count() asks the driver; is_available() may be true of a driver without a device.
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if device == "cpu":
        return ("cpu",)
    if device == "auto":
        return tuple(f"cuda:{n}" for n in range(gpus)) or (("mps",) if has_mps else ("cpu",))
    if device == "mps":
        if not has_mps:
            raise DeviceError("expected an Apple GPU for device mps, got none; choose --device auto or cpu")
        return ("mps",)
    if gpus == 0:
        cause = "this build of torch has no CUDA" if torch.version.cuda is None else "none was found"
        raise DeviceError(
            f"expected an NVIDIA GPU for device {device}, but {cause}; "
            "choose --device auto or cpu, or install a CUDA build of torch and the driver"
        )
    if match.group(1) is None:
        return tuple(f"cuda:{n}" for n in range(gpus))
    if int(match.group(1)) >= gpus:
        raise DeviceError(f"expected one of {gpus} GPUs (cuda:0 to cuda:{gpus - 1}), got {device}; choose one of them")
    return (device,)


def computes_bfloat16(device: str) -> bool:
    """Return whether torch computes bfloat16 in hardware on a device; imitated, it is slower than float32.

    Parameters
    ----------
    device
        From :func:`resolve_devices`.
    """
    kind = device.partition(":")[0]
    if kind == "cuda":
        return torch.cuda.get_device_capability(device) >= _AMPERE
    # Private, but the only way to ask; a torch without them is one on which bfloat16 is not worth a try. What oneDNN
    # says it supports is true of every processor with AVX-512.
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return kind == "cpu" and any(getattr(torch.cpu, name, bool)() for name in asked)
