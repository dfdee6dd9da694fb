"""ONNX networks, run by ONNX Runtime on the processor and called like torch's."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from napari_metastasis.errors import DeviceError, MissingDependencyError, WeightsError, first_line

__all__ = ["OnnxCall", "import_onnx"]

#: Of ONNX Runtime's log: errors alone, which it raises too.
_ERRORS_ALONE = 4


class OnnxCall(nn.Module):
    """A network of an ONNX file.

    Parameters
    ----------
    data
        The file. What lies in other files is not read.

    Raises
    ------
    MissingDependencyError
        If ONNX Runtime is not installed.
    WeightsError
        If it is damaged, or no network of one image.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data
        self.session = _session(data)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or len(outputs) < 1 or len(shape) != 4 or inputs[0].type != "tensor(float)":
            told = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs) or "none"
            raise WeightsError(
                f"expected an ONNX network of one input, float32 N x 3 x H x W, got {first_line(told)}; export it so"
            )
        self._input, self._output = inputs[0].name, outputs[0].name
        #: Patches that it takes at once; 0 for any number.
        self.batch = shape[0] if isinstance(shape[0], int) else 0
        #: Side of its patches; 0 for any.
        self.side_px = shape[2] if isinstance(shape[2], int) and shape[2] == shape[3] else 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A session cannot be copied, and may be called from many threads at once.
        del memo
        return self

    def forward(self, patches: Tensor) -> Tensor:
        """Return its answers, of float32 patches.

        Raises
        ------
        DeviceError
            If ONNX Runtime fails.
        """
        images = np.ascontiguousarray(patches.detach().cpu().float().numpy())
        step = self.batch or len(images) or 1
        try:
            answers = [self._answered(images[start : start + step], step) for start in range(0, len(images), step)]
        except _failures() as error:
            raise DeviceError(
                f"expected ONNX Runtime to run the network, got {first_line(error)}; choose another model"
            ) from error
        return torch.from_numpy(np.concatenate(answers)).to(patches.device)

    def _answered(self, images: Any, step: int) -> Any:
        """Return the answers of some patches; a batch of fixed length is filled up."""
        count = len(images)
        if count < step:
            images = np.concatenate([images, np.zeros((step - count, *images.shape[1:]), np.float32)])
        return np.asarray(self.session.run([self._output], {self._input: images})[0], np.float32)[:count]


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "expected ONNX Runtime for a model that is an ONNX file, but it is not installed; "
            "run pip install 'napari-metastasis[onnx]'"
        ) from error
    return onnxruntime


def import_onnx(purpose: str) -> Any:
    """Return the onnx package.

    Parameters
    ----------
    purpose
        What for, in a message: "to write ONNX".

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(
            f"expected the onnx package {purpose}, but it is not installed; run pip install 'napari-metastasis[onnx]'"
        ) from error
    return onnx


def _failures() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    found = [each for each in vars(raised).values() if isinstance(each, type) and issubclass(each, Exception)]
    return (*found, RuntimeError, ValueError)


def _refuse_other_files(data: bytes) -> None:
    """Refuse weights that lie in other files: who changes these changes the model, under the same name and hash.

    Raises
    ------
    MissingDependencyError
        If onnx is not installed.
    WeightsError
        If the file is damaged, or some of its weights lie elsewhere.
    """
    onnx = import_onnx("to look into an ONNX file")
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    try:
        model = onnx.load_model_from_string(data)
        elsewhere = [tensor.name for tensor in _get_all_tensors(model) if uses_external_data(tensor)]
    # Whatever a parser raises on damaged bytes.
    except Exception as error:
        raise WeightsError(f"expected an ONNX network, got {first_line(error)}; fetch the model again") from error
    if elsewhere:
        raise WeightsError(
            f"expected an ONNX file that holds all of its weights, got {first_line(elsewhere[0])} in another file; "
            "export the model as one file"
        )


def _session(data: bytes) -> Any:
    onnxruntime = _import_onnxruntime()
    _refuse_other_files(data)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ALONE
    # As many threads as torch takes, which the user may have bounded.
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except _failures() as error:
        raise WeightsError(
            f"expected an ONNX network, got {first_line(error)}; export it again, whole and in one file"
        ) from error
