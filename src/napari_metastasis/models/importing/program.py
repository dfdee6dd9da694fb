"""Networks that are kept as they came: looked at once, so that a card says what they answer and how they scan."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_metastasis.errors import DeviceError, ModelError, WeightsError, first_line
from napari_metastasis.models.importing.given import Consent, GivenCard, tumour_index
from napari_metastasis.models.onnx_call import OnnxCall
from napari_metastasis.models.patchwise import crop_patches
from napari_metastasis.models.programs import ONNX, TORCHSCRIPT, Program, ProgramSpec, open_torchscript
from napari_metastasis.models.trust import is_trusted
from napari_metastasis.settings import THRESHOLD

__all__ = ["holds_torchscript", "open_program", "program_of"]

#: What a person is told of TorchScript.
_IS_CODE = "TorchScript, which is code and runs with your rights"
#: The largest native stride that is looked for, and how many cells a side are compared.
_MOST_STRIDE_PX, _COMPARED = 128, 3
#: Side of the patches that a network is tried on: several times the largest in use.
_MOST_PATCH_PX = 4096
#: Of answers of patches, as a share of how much these differ: float32 sums in another order.
_SAME = 1e-3
#: What sums of probabilities miss 1 by.
_NEAR = 1e-3


def holds_torchscript(data: bytes) -> bool:
    """Return whether a file is TorchScript, by the names of what is packed in it."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def open_program(data: bytes, form: str, what: str, consents: Consent) -> nn.Module:
    """Return a file's network, from normalised patches to answers.

    Parameters
    ----------
    data
        The file.
    form
        TorchScript is opened only with consent, now or before; ONNX is data.
    what
        What is opened, for messages.
    consents
        Asked once.

    Raises
    ------
    ModelError
        If it is code and not trusted.
    WeightsError
        If it cannot be opened.
    MissingDependencyError
        If what runs it is not installed.
    """
    if form == ONNX:
        return OnnxCall(data)
    if not is_trusted(hashlib.sha256(data).hexdigest()) and not consents(f"{what} is {_IS_CODE}"):
        raise ModelError(
            f"expected your trust in {what}, {_IS_CODE}, got none; add --trust if you know where it is from"
        )
    return open_torchscript(data, what)


def program_of(
    data: bytes, opened: nn.Module, form: str, card: GivenCard, *, name: str, logits: bool = False
) -> tuple[Program, ProgramSpec]:
    """Return a network and its contract, once it was seen to answer for patches as its card says.

    What is code is trusted from here on.

    Parameters
    ----------
    data, opened, form
        The file, and what :func:`open_program` returned.
    card
        Complete.
    name
        In the zoo.
    logits
        Whether answers that look like probabilities already are taken as they are by the program it is from.

    Raises
    ------
    ModelError
        If it answers otherwise.
    """
    assert card.mpp is not None
    assert card.patch_px is not None
    patch_px = card.patch_px
    if patch_px > _MOST_PATCH_PX:
        raise ModelError(f"expected patches of {_MOST_PATCH_PX} px at most of {name}, got {patch_px} px; correct it")
    classes = ("other", *card.classes) if len(card.classes) == 1 else card.classes
    tumour = 1 if len(card.classes) == 1 else tumour_index(classes, card.tumour_class)
    values: dict[str, Any] = {
        "name": name,
        "architecture": form,
        "mpp": card.mpp,
        "patch_px": patch_px,
        "stride_px": card.stride_px or patch_px,
        "classes": classes,
        "tumour_class": tumour,
        "mean": card.mean,
        "std": card.std,
        "activation": card.activation,
        "threshold": THRESHOLD if card.threshold is None else card.threshold,
        "program_bytes": len(data),
        # Others lay patches as their stride says, no closer.
        "dense_coefficient": 1,
    }
    spec = ProgramSpec(**values)
    answers = _answers(opened, _tissue(spec, 2, patch_px), name)
    _check_answers(answers, spec, logits=logits)
    if native := _fully_convolutional(opened, spec, answers, wanted=card.stride_px):
        spec = ProgramSpec(**{**values, "stride_px": native, "fully_convolutional": True})
    program = Program.of(form, data)
    program.trusted(name)
    return program, spec


@torch.no_grad()
def _answers(network: nn.Module, patches: Tensor, name: str) -> Tensor:
    try:
        answers = network(patches)
    except (RuntimeError, DeviceError, ValueError) as error:
        side = patches.shape[2]
        raise WeightsError(
            f"expected a network that takes patches of 3 x {side} x {side}, got {first_line(_last_line(error))} from "
            f"{name}; correct --patch-px"
        ) from error
    if not isinstance(answers, Tensor) or answers.ndim not in (1, 2, 4) or len(answers) != len(patches):
        told = list(answers.shape) if isinstance(answers, Tensor) else type(answers).__name__
        raise WeightsError(f"expected answers of N x classes, got {told} from {name}; export its classifier alone")
    return (answers if answers.ndim > 1 else answers[:, None]).float()


def _last_line(error: Exception) -> str:
    """Return what TorchScript says behind its own traceback."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _check_answers(answers: Tensor, spec: ProgramSpec, *, logits: bool) -> None:
    """Refuse answers of other classes than the card's, and of another kind than its activation takes.

    Raises
    ------
    ModelError
        If they are.
    """
    channels, places = answers.shape[1], answers[0, 0].numel()
    allowed = {"softmax": (len(spec.classes),), "sigmoid": (1,), "none": (1, len(spec.classes))}[spec.activation]
    if channels not in allowed or places != 1:
        raise ModelError(
            f"expected {' or '.join(map(str, allowed))} answers for a patch of {spec.patch_px} px, of "
            f"{', '.join(spec.classes)} with activation {spec.activation}, got {channels} in {places} places; "
            "correct --classes, --activation or --patch-px"
        )
    if not answers.isfinite().all():
        raise ModelError(f"expected numbers for answers, got others from {spec.name}; choose another model")
    inside = bool(((answers >= 0) & (answers <= 1)).all())
    sums = answers.sum(dim=1)
    adds_up = channels == 1 or bool(((sums - 1).abs() < _NEAR).all())
    if spec.activation == "none" and not (inside and adds_up):
        raise ModelError(
            f"expected probabilities of {spec.name} with activation none, got {answers.flatten()[0]:.3g}; correct "
            "--activation"
        )
    if spec.activation == "softmax" and inside and adds_up and not logits:
        raise ModelError(
            f"expected answers that softmax makes probabilities of, got probabilities from {spec.name}; take "
            "--activation none"
        )


def _tissue(spec: ProgramSpec, count: int, side_px: int) -> Tensor:
    """Return seeded images of H&E's colours, N x 3 x side x side, normalised."""
    generator = torch.Generator().manual_seed(2019)
    grains = []
    for grain_px in (4, 12, 48):
        coarse = torch.rand((count, 1, -(-side_px // grain_px), -(-side_px // grain_px)), generator=generator)
        grains.append(coarse.repeat_interleave(grain_px, 2).repeat_interleave(grain_px, 3)[..., :side_px, :side_px])
    nuclei = ((torch.stack(grains).mean(dim=0) - 0.5) * 6).clamp(0, 1)
    eosin, haematoxylin = (torch.tensor(colour).view(1, 3, 1, 1) / 255 for colour in ((225, 165, 200), (85, 50, 125)))
    image = eosin * (1 - nuclei) + haematoxylin * nuclei
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    return (image - mean) / std


def _fully_convolutional(network: nn.Module, spec: ProgramSpec, answers: Tensor, *, wanted: int | None) -> int:
    """Return the stride at which a network answers for images as it does for their patches; 0 where it does not.

    A network that pads fails here: what it answers depends on where a patch ends.
    """
    if answers.ndim != 4:
        return 0
    try:
        stride_px = _native_stride(network, spec)
        if not stride_px or wanted not in (None, stride_px):
            return 0
        image = _tissue(spec, 1, spec.patch_px + (_COMPARED - 1) * stride_px)
        densely = _answers(network, image, spec.name)
        patches = crop_patches(image, patch_px=spec.patch_px, stride_px=stride_px).flatten(0, 2)
        alone = _answers(network, patches.contiguous(), spec.name)
    except WeightsError:
        return 0
    if densely.shape[2:] != (_COMPARED, _COMPARED):
        return 0
    alone = alone.flatten(1).T.reshape(densely.shape)
    # What answers every patch alike cannot be told from one that pads.
    differ = (alone.amax(dim=(2, 3)) - alone.amin(dim=(2, 3))).max()
    return stride_px if (densely - alone).abs().max() < _SAME * differ else 0


def _native_stride(network: nn.Module, spec: ProgramSpec) -> int:
    """Return by how much an image has to be wider for a third answer than for a second; 0 where there is none.

    For a second one less may do: a patch can be larger than what its answer depends on.
    """
    widest_px = 2 * _MOST_STRIDE_PX
    image = _tissue(spec, 1, spec.patch_px + widest_px)

    def columns(wider_px: int) -> int:
        part = image[:, :, : spec.patch_px, : spec.patch_px + wider_px]
        return int(_answers(network, part.contiguous(), spec.name).shape[3])

    def least(wanted: int) -> int:
        few, many = 1, widest_px
        while few < many:
            middle = (few + many) // 2
            few, many = (few, middle) if columns(middle) >= wanted else (middle + 1, many)
        return few

    return 0 if columns(widest_px) < 3 else least(3) - least(2)


def form_of(path: Path, data: bytes) -> str:
    """Return the form of a file of a network, empty where it is weights alone."""
    if path.suffix == ".onnx":
        return ONNX
    return TORCHSCRIPT if holds_torchscript(data) else ""
