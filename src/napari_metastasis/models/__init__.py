"""Networks, their conversion for dense scanning, their weights, and the zoo that names them."""

from __future__ import annotations

from napari_metastasis.models.checkpoint import Model, load_checkpoint, save_checkpoint
from napari_metastasis.models.dense import MIDDLE_GRAY, DenseScanNet, dense_layers
from napari_metastasis.models.encoder import Encoder, ScanningNetwork, feature_layer, log_odds_of
from napari_metastasis.models.initial import RESNET34_IMAGENET, VGG16_IMAGENET, InitialWeights, begin_with, load_initial
from napari_metastasis.models.nets.resnet import RESNETS, ResNet, ResNetArchitecture
from napari_metastasis.models.nets.scannet import (
    ARCHITECTURES,
    Block,
    PatchNetwork,
    ScanNet,
    ScanNetArchitecture,
    build_network,
    build_scannet,
    find_architecture,
)
from napari_metastasis.models.nets.spatial_lstm import ORDERS, RefinerSpec, SpatialNetwork
from napari_metastasis.models.patchwise import PatchwiseNetwork, cut_patches
from napari_metastasis.models.refiner_zoo import (
    Refiner,
    ScanningModel,
    add_refiner,
    is_refiner,
    list_refiners,
    load_refiner,
    load_with_refiner,
    refiner_for,
    save_refiner,
)
from napari_metastasis.models.spec import ModelSpec
from napari_metastasis.models.weights_io import correct_card
from napari_metastasis.models.zoo import ZooEntry, add_model, check_name, list_models, load_model, own_models_folder

__all__ = [
    "ARCHITECTURES",
    "MIDDLE_GRAY",
    "ORDERS",
    "RESNET34_IMAGENET",
    "RESNETS",
    "VGG16_IMAGENET",
    "Block",
    "DenseScanNet",
    "Encoder",
    "InitialWeights",
    "Model",
    "ModelSpec",
    "PatchNetwork",
    "PatchwiseNetwork",
    "Refiner",
    "RefinerSpec",
    "ResNet",
    "ResNetArchitecture",
    "ScanNet",
    "ScanNetArchitecture",
    "ScanningModel",
    "ScanningNetwork",
    "SpatialNetwork",
    "ZooEntry",
    "add_model",
    "add_refiner",
    "begin_with",
    "build_network",
    "build_scannet",
    "check_name",
    "correct_card",
    "cut_patches",
    "dense_layers",
    "feature_layer",
    "find_architecture",
    "is_refiner",
    "list_models",
    "list_refiners",
    "load_checkpoint",
    "load_initial",
    "load_model",
    "load_refiner",
    "load_with_refiner",
    "log_odds_of",
    "own_models_folder",
    "refiner_for",
    "save_checkpoint",
    "save_refiner",
]
