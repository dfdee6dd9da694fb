"""Dense networks on OpenVINO, which runs them faster than eager torch on processors."""

from __future__ import annotations

import importlib.util
import queue
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_metastasis.errors import DeviceError, DeviceMemoryError, MissingDependencyError, first_line
from napari_metastasis.models import PatchwiseNetwork, ProgramNetwork, ScanningNetwork
from napari_metastasis.models.patchwise import patches_together
from napari_metastasis.scanning.engines.base import FloatArray, NetworkEngine, UInt8Array
from napari_metastasis.scanning.engines.openvino_graph import openvino_graph
from napari_metastasis.scanning.engines.openvino_patches import patches_graph

if TYPE_CHECKING:
    import openvino

__all__ = ["OpenVinoEngine", "has_openvino", "openvino_precisions"]

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}

#: What OpenVINO says each precision needs of the processor.
_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}

#: Two requests on one stream: one is filled and emptied while the other computes with every core, and both share the
#: stream's working memory.
_LANES = 2

#: Kernels that are kept compiled, of the windows used last: every size of window has kernels of its own, one for each
#: layer, 5 MB together. Without a bound a slide of a hundred ROIs that tissue trims to as many sizes took 600 MB more.
_KERNELS_KEPT = 512


def has_openvino() -> bool:
    """Return whether OpenVINO is installed, without importing it."""
    return importlib.util.find_spec("openvino") is not None


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            "expected OpenVINO for engine openvino, but it is not installed; "
            "run pip install 'napari-metastasis[openvino]', or choose --engine torch"
        ) from error
    return openvino


def openvino_precisions() -> tuple[str, ...]:
    """Return the number formats that OpenVINO computes in hardware on this processor.

    Raises
    ------
    MissingDependencyError
        If OpenVINO is not installed.
    """
    found = _import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, capability in _CAPABILITIES.items() if capability in found)


class OpenVinoEngine(NetworkEngine):
    """Runs a dense network with OpenVINO on the processor.

    Parameters
    ----------
    network
        The dense network to run.
    precision
        ``"float32"``, ``"bfloat16"`` or ``"float16"``.

    Raises
    ------
    MissingDependencyError
        If OpenVINO is not installed.
    DeviceError
        If the processor lacks the precision; OpenVINO would silently take another.
    """

    name = "openvino"
    device = "cpu"
    lanes = _LANES

    def __init__(self, network: ScanningNetwork, *, precision: str) -> None:
        if precision not in (known := openvino_precisions()):
            raise DeviceError(
                f"expected a processor with {precision} for engine openvino, got one with {', '.join(known)}; "
                "choose one of these as --precision, or --engine torch"
            )
        super().__init__(network)
        self.precision = precision
        self._patches = network if isinstance(network, PatchwiseNetwork | ProgramNetwork) else None
        compiled = _compiled(network, precision)
        self._free: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        for _ in range(self.lanes):
            self._free.put(compiled.create_infer_request())

    def _outputs(self, images: UInt8Array) -> tuple[FloatArray, ...]:
        if self._patches is None:
            return self._inferred(images)
        if isinstance(self._patches, ProgramNetwork) and self._patches.spec.fully_convolutional:
            return (_of_shifted(images, self._patches, lambda image: self._inferred(image)[0]),)
        return (_of_patches(images, self._patches, lambda patches: self._inferred(patches)[0]),)

    def _inferred(self, images: UInt8Array) -> tuple[FloatArray, ...]:
        request = self._free.get()
        try:
            # infer() lets other threads run; results are copied, because the request's own memory is used again.
            answers = request.infer({0: np.ascontiguousarray(images)}, share_inputs=True, share_outputs=True)
            return tuple(np.array(answers[k], dtype=np.float32) for k in range(len(answers)))
        except (MemoryError, RuntimeError) as error:
            raise _translated(error) from error
        finally:
            self._free.put(request)

    def close(self) -> None:
        """Give the memory back."""
        while not self._free.empty():
            self._free.get()


def _compiled(network: ScanningNetwork, precision: str) -> Any:
    openvino = _import_openvino()
    if isinstance(network, PatchwiseNetwork | ProgramNetwork):
        graph = patches_graph(network)
    else:
        graph = openvino_graph(network)
    try:
        return openvino.Core().compile_model(
            graph,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "CPU_RUNTIME_CACHE_CAPACITY": _KERNELS_KEPT,
            },
        )
    except (MemoryError, RuntimeError) as error:
        raise _translated(error) from error


def _translated(error: BaseException) -> DeviceError:
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in ("bad_alloc", "allocate", "out of memory")):
        return DeviceMemoryError(
            "expected room for a piece of the scan in memory, but it is full; choose a smaller --roi-px"
        )
    return DeviceError(f"expected OpenVINO to run the network, got {first_line(error)}; choose --engine torch")


def _of_patches(
    images: UInt8Array, network: PatchwiseNetwork | ProgramNetwork, answer: Callable[[UInt8Array], FloatArray]
) -> FloatArray:
    """Return the answers, n x rows x columns, for every patch of images."""
    side, stride = network.patch_px, network.stride_px
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    found = np.empty(windows.shape[:3], np.float32)
    places = np.argwhere(np.ones(windows.shape[:3], bool))
    for part in np.split(places, range(patches_together(side), len(places), patches_together(side))):
        # Indexed before they are copied, because patches overlap.
        patches = np.moveaxis(windows[tuple(part.T)], 1, -1)
        found[tuple(part.T)] = answer(patches).ravel()
    return found


def _of_shifted(images: UInt8Array, network: ProgramNetwork, answer: Callable[[UInt8Array], FloatArray]) -> FloatArray:
    """Return the answers, n x rows x columns, of a network that goes over whole images."""
    rows, columns = (network.cells_of(side) for side in images.shape[1:3])
    found = np.empty((len(images), rows, columns), np.float32)
    for read, cells in network.shifts(rows, columns):
        found[:, *cells] = answer(images[:, *read])
    return found
