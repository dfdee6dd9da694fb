"""Networks of ONNX files on ONNX Runtime, in the format that they are written in."""

from __future__ import annotations

from napari_metastasis.errors import DeviceError
from napari_metastasis.models import ScanningNetwork
from napari_metastasis.scanning.engines.torch import TorchEngine

__all__ = ["OnnxRuntimeEngine"]


class OnnxRuntimeEngine(TorchEngine):
    """Runs the network of an ONNX file on the processor: torch cuts out patches, ONNX Runtime answers for them.

    Parameters
    ----------
    network
        To run.
    precision
        ``"float32"``: such files state their number formats themselves.

    Raises
    ------
    DeviceError
        If another precision is asked for.
    """

    name = "onnxruntime"

    def __init__(self, network: ScanningNetwork, *, precision: str) -> None:
        if precision != "float32":
            raise DeviceError(
                f"expected precision float32 for engine onnxruntime, got {precision}; choose --precision float32, or "
                "--engine openvino"
            )
        super().__init__(network, devices=("cpu",), precision=precision)
