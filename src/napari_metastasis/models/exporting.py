"""Models for other programs: WSInfer's folders, and ONNX with a card beside it.

What makes probabilities of a model's answers here (temperature, shift and prior) lies in the last layer there, so that
the softmax of what the network answers is the probability.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_metastasis.errors import ModelError, first_line
from napari_metastasis.models.calibration import calibrated_classifier
from napari_metastasis.models.detector import Detector
from napari_metastasis.models.importing.onnx_card import OnnxCard, write_onnx_card
from napari_metastasis.models.importing.wsinfer import CONFIG, TORCHSCRIPT_FILE, WEIGHTS_FILE
from napari_metastasis.models.nets.architectures import PaddedNetwork, PatchNetwork
from napari_metastasis.models.onnx_call import import_onnx
from napari_metastasis.models.programs import Program
from napari_metastasis.models.zoo import load_model
from napari_metastasis.partials import partial_folder
from napari_metastasis.storage import atomic_write, check_new, storage_errors

__all__ = ["export_onnx", "export_wsinfer"]

#: Version of ONNX's operators: old enough for every runtime of these years.
_OPSET = 17


class _Flat(nn.Module):
    """Answers N x classes for patches, as WSInfer takes them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor) -> Tensor:
        """Return logits, N x classes, of normalised patches, N x 3 x P x P."""
        logits: Tensor = self.network(patches)
        return logits.flatten(1)


def export_wsinfer(name: str | Path, folder: Path) -> tuple[Path, ...]:
    """Write a detector as a WSInfer model.

    Parameters
    ----------
    name
        Of a detector, or the path of its weights.
    folder
        It is made, and appears with all its files or not at all: ``config.json``, ``torchscript_model.pt`` and
        ``model.safetensors``.

    Returns
    -------
    The files.

    Raises
    ------
    ModelError
        If the form cannot hold the model.
    StorageError
        If the folder is there, or cannot be written.
    """
    model, network = _for_others(name, "WSInfer")
    spec = model.spec
    config = {
        "spec_version": "1.0",
        "architecture": spec.architecture,
        "num_classes": len(spec.classes),
        "patch_size_pixels": spec.field_px,
        "spacing_um_px": spec.mpp,
        "class_names": list(spec.classes),
        "transform": [
            {"name": "Resize", "arguments": {"size": spec.field_px}},
            {"name": "ToTensor"},
            {"name": "Normalize", "arguments": {"mean": list(spec.mean), "std": list(spec.std)}},
        ],
    }
    check_new(folder, overwrite=False)
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(folder) as part:
            part.mkdir()
            (part / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            state = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
            save_file(state, part / WEIGHTS_FILE, metadata={"format": "pt"})
            with _quiet():
                traced: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
                    _Flat(network), torch.zeros(2, 3, spec.field_px, spec.field_px), check_trace=False
                )
                traced.save(str(part / TORCHSCRIPT_FILE))
    return tuple(sorted(folder.iterdir()))


def export_onnx(name: str | Path, path: Path) -> tuple[Path, ...]:
    """Write a detector as an ONNX file, with its card beside it, which ``models import`` reads.

    Parameters
    ----------
    name
        Of a detector, or the path of its weights.
    path
        New ``.onnx`` file. It takes normalised patches, float32 N x 3 x H x W, and answers N x classes x h x w logits,
        whose softmax is the probability: one place for a patch, and more for an image, of a network that does not pad.

    Returns
    -------
    The files.

    Raises
    ------
    ModelError
        If the form cannot hold the model.
    MissingDependencyError
        If the onnx package is not installed.
    StorageError
        If a file is there, or cannot be written.
    """
    if path.suffix != ".onnx":
        raise ModelError(f"expected a new .onnx file, got {path}; give it that ending")
    import_onnx("to write ONNX")
    model, network = _for_others(name, "ONNX")
    spec = model.spec
    for each in (path, path.with_suffix(".json")):
        check_new(each, overwrite=False)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    side: dict[int, str] = {} if isinstance(network, PaddedNetwork) else {2: "height", 3: "width"}
    places: dict[int, str] = {} if isinstance(network, PaddedNetwork) else {2: "rows", 3: "columns"}
    with atomic_write(path) as stream, _quiet():
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, spec.field_px, spec.field_px),),
            stream,  # type: ignore[arg-type]  # a file, which torch's stubs leave out
            dynamo=False,
            opset_version=_OPSET,
            input_names=["patches"],
            output_names=["logits"],
            dynamic_axes={"patches": {0: "count", **side}, "logits": {0: "count", **places}},
        )
    card = OnnxCard(
        name=spec.name,
        mpp=spec.mpp,
        patch_px=spec.field_px,
        stride_px=spec.stride_px,
        mean=spec.mean,
        std=spec.std,
        classes=spec.classes,
        tumour_class=spec.classes[spec.tumour_class],
        activation="softmax",
        threshold=spec.threshold,
    )
    write_onnx_card(path, card, {**model.card, "weights_sha256": model.weights_sha256})
    return path, path.with_suffix(".json")


def _for_others(name: str | Path, form: str) -> tuple[Detector, PatchNetwork]:
    """Return a detector, and its network with the calibration in its last layer.

    Raises
    ------
    ModelError
        If another program's form holds no such model.
    """
    model = load_model(name)
    if not isinstance(model, Detector):
        raise ModelError(
            f"expected a detector to write as {form}, got {model.name}, which reads {model.reads}; "
            "export it without --to"
        )
    if isinstance(model.network, Program):
        raise ModelError(
            f"expected a detector whose layers are known to write as {form}, got {model.name}, which is "
            f"{model.spec.architecture} already; take the file that it was imported from"
        )
    if model.spec.input != "rgb":
        raise ModelError(
            f"expected a detector that reads colours as they are to write as {form}, got {model.name}, which reads "
            f"{model.reads}; export it without --to"
        )
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        made = calibrated_classifier(
            (model.network.classifier[0].clone(), model.network.classifier[1].clone()),
            model.spec,
            model.spec.tumour_class,
        )
        for held, tensor in zip(network.classifier, made, strict=True):
            held.copy_(tensor)
    return model, network.eval().requires_grad_(requires_grad=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's notes to programmers, of forms that it would rather write, from users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except RuntimeError as error:
            raise ModelError(
                f"expected a network that can be written, got {first_line(error)}; choose another"
            ) from error
