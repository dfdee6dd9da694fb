"""Networks, their conversion for dense scanning, their weights, and the zoo that names them."""

from __future__ import annotations

from napari_metastasis.models.checkpoint import Model, correct_card, load_checkpoint, save_checkpoint
from napari_metastasis.models.dense import MIDDLE_GRAY, DenseScanNet, dense_layers
from napari_metastasis.models.initial import VGG16_IMAGENET, InitialWeights, begin_with, load_initial
from napari_metastasis.models.networks import ARCHITECTURES, Block, ScanNet, ScanNetArchitecture, build_network
from napari_metastasis.models.spec import ModelSpec
from napari_metastasis.models.zoo import ZooEntry, add_model, list_models, load_model, own_models_folder

__all__ = [
    "ARCHITECTURES",
    "MIDDLE_GRAY",
    "VGG16_IMAGENET",
    "Block",
    "DenseScanNet",
    "InitialWeights",
    "Model",
    "ModelSpec",
    "ScanNet",
    "ScanNetArchitecture",
    "ZooEntry",
    "add_model",
    "begin_with",
    "build_network",
    "correct_card",
    "dense_layers",
    "list_models",
    "load_checkpoint",
    "load_initial",
    "load_model",
    "own_models_folder",
    "save_checkpoint",
]
