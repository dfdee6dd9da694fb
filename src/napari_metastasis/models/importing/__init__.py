"""Models of other programs as our own. Weights of known networks are rewritten; what is not known is kept as it came.

Nothing here runs code but TorchScript, and that only with consent: pickles are read as tensors alone.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_metastasis.errors import ModelError, UnknownModelError, WeightsError, first_line
from napari_metastasis.models.card import ModelSpec
from napari_metastasis.models.detector import Detector
from napari_metastasis.models.importing.given import Ask, Consent, GivenCard, tumour_index
from napari_metastasis.models.importing.hub import fetch_from_hub, hub_address, is_hub_name
from napari_metastasis.models.importing.monai import METADATA, bundle_card, bundle_weights
from napari_metastasis.models.importing.onnx_card import read_onnx_card
from napari_metastasis.models.importing.program import form_of, open_program, program_of
from napari_metastasis.models.importing.states import network_of, read_state
from napari_metastasis.models.importing.wsinfer import (
    CONFIG,
    TORCHSCRIPT_FILE,
    WEIGHTS_FILE,
    read_config,
    weights_in,
)
from napari_metastasis.models.nets.architectures import ARCHITECTURES, PatchNetwork
from napari_metastasis.models.onnx_call import OnnxCall
from napari_metastasis.models.programs import ONNX, TORCHSCRIPT
from napari_metastasis.models.weights_file import MOST_BYTES, save_model
from napari_metastasis.models.zoo import ZooEntry, add_model, check_name
from napari_metastasis.storage import home_path, read_at_most

__all__ = ["Ask", "Consent", "GivenCard", "import_model", "read_foreign"]

#: What a card has to say of a network whose file says nothing; of weights of known ones, whose answers are logits.
_OF_PROGRAM = ("mpp", "patch_px", "classes", "mean", "std", "activation")
_OF_WEIGHTS = ("mpp", "patch_px", "classes", "mean", "std")
#: TIAToolbox's networks of PatchCamelyon, as its own list has them: no normalisation, and tumour is the second class.
_OF_PCAM = GivenCard(
    mpp=1.0, patch_px=96, stride_px=96, classes=("normal", "tumour"), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)
_PCAM = "-pcam"
#: Files of models that are taken.
_SUFFIXES = (".safetensors", ".pth", ".pt", ".ts", ".bin", ".onnx")


#: Opens what shows how far something is.
Bar = Callable[[], AbstractContextManager[Callable[[int, int], None]]]


def _nobody(_: str) -> bool:
    return False


@contextmanager
def _no_bar() -> Iterator[Callable[[int, int], None]]:
    yield lambda *_: None


def import_model(
    source: str | Path,
    *,
    name: str = "",
    given: GivenCard | None = None,
    ask: Ask | None = None,
    consents: Consent = _nobody,
    bar: Bar = _no_bar,
) -> ZooEntry:
    """Keep another program's model among the user's own.

    Parameters
    ----------
    source
        A WSInfer folder, a MONAI bundle, a file of weights or of a network, or the name of a WSInfer model on the hub.
    name
        Name in the zoo; empty for the source's.
    given
        What the user says of it, which goes before what its files say.
    ask
        Asks a person for what nobody has said; ``None`` where there is none.
    consents
        Asked before code runs.
    bar
        Shows how much of a file is fetched, in bytes.

    Raises
    ------
    UnknownModelError
        If there is no such folder, file or model.
    ModelError
        If the model cannot be built here, would answer otherwise than there, is code that is not trusted, or another
        one has its name.
    WeightsError
        If its weights are missing, damaged, or another network's.
    MissingDependencyError
        If what runs it is not installed.
    StorageError
        If the user's folder cannot be written.
    """
    path, called = home_path(source), str(source)
    stem = called.partition("@")[0].rpartition("/")[2]
    if not path.exists():
        if path.suffix in _SUFFIXES or not is_hub_name(called):
            raise UnknownModelError(
                f"expected a folder, a file or a name on {hub_address()} (owner/name), got {called!r}; correct it"
            )
        with bar() as progress:
            path = fetch_from_hub(called, (CONFIG, WEIGHTS_FILE, TORCHSCRIPT_FILE), progress=progress)
    else:
        path = path.resolve()
        called, stem = str(path), path.stem if path.is_file() else path.name
    name = name or re.sub(r"[^\w.-]+", "-", stem).strip("-.")
    check_name(name)
    model = read_foreign(path, called=called, name=name, given=given, ask=ask, consents=consents)
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / f"{name}.safetensors"
        save_model(weights, model.network, model.spec, model.card)
        return add_model(weights)


def read_foreign(
    path: Path,
    *,
    name: str,
    called: str = "",
    given: GivenCard | None = None,
    ask: Ask | None = None,
    consents: Consent = _nobody,
) -> Detector:
    """Return the model of a folder or a file of another program, which is not kept; see :func:`import_model`."""
    reading = _Import(called or str(path), name, given or GivenCard(), ask, consents)
    return reading.of_folder(path) if path.is_dir() else reading.of_file(path)


class _Import:
    """One import: what is known from outside the files.

    Parameters
    ----------
    called
        The source, for the card.
    name, given, ask, consents
        As :func:`import_model` takes them.
    """

    def __init__(self, called: str, name: str, given: GivenCard, ask: Ask | None, consents: Consent) -> None:
        self.called, self.name, self.given, self.ask, self.consents = called, name, given, ask, consents

    def of_folder(self, folder: Path) -> Detector:
        """Return the model of a folder of WSInfer's or MONAI's."""
        if (folder / METADATA).exists():
            return self._of_bundle(folder)
        if (folder / CONFIG).exists():
            return self._of_wsinfer(folder)
        raise ModelError(
            f"expected {CONFIG} (WSInfer) or {METADATA} (MONAI) in {folder}, got neither; "
            "choose the model's folder or file"
        )

    def of_file(self, path: Path) -> Detector:
        """Return the model of a file: weights of a known network, or a network."""
        if path.suffix not in _SUFFIXES:
            raise ModelError(f"expected a file of a model ({', '.join(_SUFFIXES)}), got {path}; choose another one")
        data = _read(path)
        if form := form_of(path, data):
            known = read_onnx_card(path) if form == ONNX else GivenCard()
            return self._of_program(path, data, form, self.given.over(known), origin=form)
        state, data = read_state(path)
        if not state:
            raise WeightsError(f"expected weights, got none in {path}; choose another file")
        known = _OF_PCAM if state.of_tiatoolbox and path.stem.endswith(_PCAM) else GivenCard()
        origin = "TIAToolbox's weights" if state.of_tiatoolbox else "weights"
        said = path.stem.removesuffix(_PCAM)
        # Before a person is asked anything: other weights are refused.
        architecture, network = network_of(state, path, said=said)
        card = self.given.over(known).complete(_OF_WEIGHTS, self.name, self.ask).with_tumour_class(self.ask)
        if card.activation not in ("", "softmax", "sigmoid"):
            raise ModelError(
                f"expected activation softmax of the weights of a {architecture}, got {card.activation}; leave it out"
            )
        return self._layered(architecture, network, card, origin, hashlib.sha256(data).hexdigest())

    def _of_wsinfer(self, folder: Path) -> Detector:
        config = read_config(folder)
        card = self.given.over(config.card()).with_tumour_class(self.ask)
        tumour = 1 if config.num_classes == 1 else tumour_index(card.classes, card.tumour_class)
        path, script = weights_in(folder), folder / TORCHSCRIPT_FILE
        if path is not None:
            state, data = read_state(path)
            try:
                # Patches that lie side by side, as WSInfer lays them.
                architecture, network = network_of(state, path, said=config.architecture, tumour_class=tumour)
                return self._layered(architecture, network, card, "the WSInfer model", hashlib.sha256(data).hexdigest())
            except ModelError:
                if not script.exists():
                    raise
        return self._of_program(script, _read(script), TORCHSCRIPT, card, origin="the WSInfer model", logits=True)

    def _of_bundle(self, folder: Path) -> Detector:
        card = self.given.over(bundle_card(folder))
        path = bundle_weights(folder)
        data = _read(path)
        origin = "the MONAI bundle"
        if self.given.mpp is None:
            origin += f", which states no pixel size: {card.mpp:g} µm, CAMELYON's, was assumed,"
        if form := form_of(path, data):
            return self._of_program(path, data, form, card, origin=origin)
        state, data = read_state(path)
        architecture, network = network_of(state, path)
        return self._layered(architecture, network, card, origin, hashlib.sha256(data).hexdigest())

    def _layered(self, architecture: str, network: PatchNetwork, card: GivenCard, origin: str, sha256: str) -> Detector:
        """Return a model whose layers are known here."""
        assert card.mpp is not None
        assert card.patch_px is not None
        classes = ("other", *card.classes) if len(card.classes) == 1 else card.classes
        tumour = 1 if len(card.classes) == 1 else tumour_index(classes, card.tumour_class)
        if len(classes) != 2:
            raise ModelError(
                f"expected a model of two classes, got {len(classes)} ({first_line(', '.join(classes))}); "
                "choose one that distinguishes tumour from all else"
            )
        built = network.architecture
        patch_px, stride_px = card.patch_px, card.stride_px or card.patch_px
        if architecture in ARCHITECTURES:
            if card.patch_px != built.field_px:
                raise ModelError(
                    f"expected patches of {built.field_px} px of a {architecture}, got {card.patch_px} px; "
                    "choose another model"
                )
            # It scans densely, which its stride is for.
            patch_px, stride_px = built.patch_px, built.stride_px
        spec = ModelSpec(
            name=self.name,
            architecture=architecture,
            mpp=float(card.mpp),
            patch_px=patch_px,
            stride_px=stride_px,
            field_px=card.patch_px,
            classes=classes,
            tumour_class=tumour,
            mean=card.mean,
            std=card.std,
            # Others lay patches as their stride says, no closer.
            dense_coefficient=1,
        )
        return Detector(spec=spec, network=network, weights_sha256=sha256, card=self._card(origin, sha256))

    def _of_program(
        self, path: Path, data: bytes, form: str, card: GivenCard, *, origin: str, logits: bool = False
    ) -> Detector:
        """Return a model that is kept as it came."""
        opened = open_program(data, form, str(path), self.consents)
        if isinstance(opened, OnnxCall) and opened.side_px and card.patch_px is None:
            card = replace(card, patch_px=opened.side_px)
        card = card.complete(_OF_PROGRAM, self.name, self.ask).with_tumour_class(self.ask)
        network, spec = program_of(data, opened, form, card, name=self.name, logits=logits)
        sha256 = hashlib.sha256(data).hexdigest()
        code = {"runs_code": "TorchScript of others, which this user trusted"} if form == TORCHSCRIPT else {}
        return Detector(spec=spec, network=network, weights_sha256=sha256, card={**self._card(origin, sha256), **code})

    def _card(self, origin: str, sha256: str) -> Mapping[str, Any]:
        return {
            "data": f"not trained here: imported from {origin} in {self.called}",
            "imported_sha256": sha256,
            "accuracy": "not measured here",
            "intended_use": "research; not a medical device, not validated for diagnosis",
        }


def _read(path: Path) -> bytes:
    try:
        return read_at_most(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise WeightsError(f"expected a model at {path}, got {reason}; fetch it again") from error
