"""Networks of all families, by what a model's card says: patch classifiers by name, segmentation networks by parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from napari_metastasis.errors import ModelError, brief
from napari_metastasis.models.nets.densenet import DENSENETS, DenseNet, DenseNetArchitecture
from napari_metastasis.models.nets.efficientnet_lite import (
    EFFICIENTNETS,
    EfficientNetLite,
    EfficientNetLiteArchitecture,
)
from napari_metastasis.models.nets.fcn import DetectorFcn, Fcn
from napari_metastasis.models.nets.lite_unet import LiteUNet
from napari_metastasis.models.nets.mirrored import SegNet, UNet
from napari_metastasis.models.nets.resnet import RESNETS, ResNet, ResNetArchitecture
from napari_metastasis.models.nets.scannet import SCANNETS, ScanNet, ScanNetArchitecture
from napari_metastasis.models.nets.segmentation import (
    LITE,
    LITE_UNET,
    SegmentationArchitecture,
    SegmentationNetwork,
)

__all__ = [
    "ARCHITECTURES",
    "PADDED",
    "FullyConvolutionalArchitecture",
    "FullyConvolutionalNetwork",
    "PaddedNetwork",
    "PatchArchitecture",
    "PatchNetwork",
    "build_fully_convolutional",
    "build_network",
    "build_segmentation",
    "check_fully_convolutional",
    "find_architecture",
]

#: Without padding, so that they scan densely.
FullyConvolutionalArchitecture = ScanNetArchitecture | EfficientNetLiteArchitecture
FullyConvolutionalNetwork = ScanNet | EfficientNetLite
#: With padding: their answers depend on where a patch ends, and are given patch by patch.
PaddedArchitecture = ResNetArchitecture | DenseNetArchitecture
PaddedNetwork = ResNet | DenseNet
#: All of them; each can return the features that its last layer reads.
PatchArchitecture = FullyConvolutionalArchitecture | PaddedArchitecture
PatchNetwork = FullyConvolutionalNetwork | PaddedNetwork

#: Networks that scan densely, which a detector can be trained as.
ARCHITECTURES: Mapping[str, FullyConvolutionalArchitecture] = MappingProxyType({**SCANNETS, **EFFICIENTNETS})
#: Networks that answer patch by patch.
PADDED: Mapping[str, PaddedArchitecture] = MappingProxyType({**RESNETS, **DENSENETS})


def find_architecture(name: str) -> PatchArchitecture:
    """Return an architecture, without building it.

    Raises
    ------
    ModelError
        If no network has this name.
    """
    known: Mapping[str, PatchArchitecture] = {**ARCHITECTURES, **PADDED}
    if name in known:
        return known[name]
    raise _unknown(name, tuple(known))


def build_network(name: str, channels: int = 3) -> PatchNetwork:
    """Return a freshly initialised network that reads images of so many channels.

    Raises
    ------
    ModelError
        If no network has this name, or it reads three channels alone.
    """
    found = find_architecture(name)
    if not isinstance(found, PaddedArchitecture):
        return _build(found, channels)
    if channels != 3:
        raise ModelError(
            f"expected red, green and blue, or those of a reference, as the input of a {name}, got {channels} "
            "channels; correct its card"
        )
    return ResNet(found) if isinstance(found, ResNetArchitecture) else DenseNet(found)


def build_fully_convolutional(name: str, channels: int = 3) -> FullyConvolutionalNetwork:
    """Return a freshly initialised network that scans densely, and reads images of so many channels.

    Raises
    ------
    ModelError
        If none of them has this name.
    """
    check_fully_convolutional(name)
    return _build(ARCHITECTURES[name], channels)


def build_segmentation(architecture: SegmentationArchitecture) -> SegmentationNetwork:
    """Return a freshly initialised segmentation network."""
    if architecture.encoder == LITE:
        return DetectorFcn(architecture)
    if architecture.encoder == LITE_UNET:
        return LiteUNet(architecture)
    mirrored = {"u-net": UNet, "segnet": SegNet}
    return mirrored.get(architecture.decoder, Fcn)(architecture)


def check_fully_convolutional(name: str) -> None:
    """Refuse a name that no network that scans densely has.

    Raises
    ------
    ModelError
        If none has it.
    """
    if name not in ARCHITECTURES:
        raise _unknown(name, tuple(ARCHITECTURES))


def _build(architecture: FullyConvolutionalArchitecture, channels: int) -> FullyConvolutionalNetwork:
    if isinstance(architecture, EfficientNetLiteArchitecture):
        return EfficientNetLite(replace(architecture, input_channels=channels))
    return ScanNet(replace(architecture, input_channels=channels))


def _unknown(name: str, known: tuple[str, ...]) -> ModelError:
    return ModelError(
        f"expected an architecture among {', '.join(sorted(known))}, got {brief(name)}; choose one of these"
    )
