"""Networks of other programs that are kept as they came: TorchScript, which is code, and ONNX, which is data.

Their file lies whole, as bytes, among a model's weights, so that the card's SHA-256 pins it as it pins weights. What is
code is opened only where its own SHA-256 was trusted on this machine, whatever a card says.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from napari_metastasis.errors import ModelError, WeightsError, first_line
from napari_metastasis.models.card import ModelSpec
from napari_metastasis.models.onnx_call import OnnxCall
from napari_metastasis.models.trust import check_trusted, trust

__all__ = ["ACTIVATIONS", "FORMS", "ONNX", "TORCHSCRIPT", "Program", "ProgramSpec", "open_torchscript"]

TORCHSCRIPT, ONNX = "torchscript", "onnx"
#: What stands for the architecture on the card of such a network.
FORMS = (TORCHSCRIPT, ONNX)
#: What makes probabilities of the network's answers: of one for each class, of one for tumour, or nothing.
ACTIVATIONS = ("softmax", "sigmoid", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSpec(ModelSpec):
    """The contract of another program's network.

    Attributes
    ----------
    activation
        One of :data:`ACTIVATIONS`.
    program_bytes
        Length of its file.
    fully_convolutional
        Whether it answers for a larger image as it does for each patch of it, every ``stride_px``: it then scans so.
    """

    activation: str
    program_bytes: int
    fully_convolutional: bool = False

    def __post_init__(self) -> None:
        """Refuse values that no scan can use."""
        ModelSpec.__post_init__(self)
        if self.activation not in ACTIVATIONS:
            raise ModelError(
                f"expected an activation among {', '.join(ACTIVATIONS)}, got {self.activation!r}; correct its card"
            )
        if self.program_bytes < 1 or self.input != "rgb":
            raise ModelError(
                f"expected a file that reads colours as they are, got {self.program_bytes} bytes that read "
                f"{self.input}; correct its card"
            )


class Program(nn.Module):
    """The file of another program's network: one tensor of bytes, which nothing runs before :meth:`opened`.

    Parameters
    ----------
    form
        One of :data:`FORMS`.
    length
        Of the file.
    """

    program: Tensor

    def __init__(self, form: str, length: int) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("program", torch.zeros(length, dtype=torch.uint8))

    @classmethod
    def of(cls, form: str, data: bytes) -> Program:
        """Return the network of a file."""
        made = cls(form, len(data))
        # A copy: the bytes themselves cannot be written.
        made.program.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        return made

    @property
    def data(self) -> bytes:
        """Return the file."""
        return self.program.cpu().numpy().tobytes()

    def trusted(self, name: str) -> None:
        """Trust it from now on, if it is code."""
        if self.form == TORCHSCRIPT:
            trust(hashlib.sha256(self.data).hexdigest(), name)

    def opened(self, name: str) -> nn.Module:
        """Return the network, from normalised patches to answers.

        Parameters
        ----------
        name
            Of the model, for messages.

        Raises
        ------
        ModelError
            If it is code that was not trusted here.
        WeightsError
            If it cannot be opened.
        MissingDependencyError
            If what runs it is not installed.
        """
        data = self.data
        if self.form == ONNX:
            return OnnxCall(data)
        check_trusted(hashlib.sha256(data).hexdigest(), name)
        return open_torchscript(data, name)


def open_torchscript(data: bytes, name: str) -> nn.Module:
    """Return the network of a TorchScript file, whose code may run already while it is opened.

    Raises
    ------
    WeightsError
        If it is damaged, or of a version that this torch does not read.
    """
    import io
    import warnings

    try:
        with warnings.catch_warnings():
            # Newer versions of torch warn that TorchScript will go; nobody who scans can change the file.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            network: Any = torch.jit.load(io.BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise WeightsError(f"expected TorchScript in {name}, got {first_line(error)}; fetch the model again") from error
    made: nn.Module = network.eval()
    for parameter in made.parameters():
        parameter.requires_grad = False
    return made
