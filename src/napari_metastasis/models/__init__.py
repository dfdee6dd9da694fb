"""Networks, their conversion for dense scanning, their weights, and the zoo that names them."""

from __future__ import annotations

from napari_metastasis.models.calibration import Calibrated
from napari_metastasis.models.card import ModelSpec
from napari_metastasis.models.dense import MIDDLE_GRAY, DenseNetwork, dense_layers
from napari_metastasis.models.detector import Detector
from napari_metastasis.models.encoder import Encoder, ScanningNetwork, feature_layer, log_odds_of
from napari_metastasis.models.exporting import export_onnx, export_wsinfer
from napari_metastasis.models.importing import GivenCard, import_model
from napari_metastasis.models.initial import VGG16_IMAGENET, InitialWeights, begin_with, contract_of_input, load_initial
from napari_metastasis.models.inputs import NetworkInput, input_of
from napari_metastasis.models.mitosis import MitosisModel, MitosisSpec
from napari_metastasis.models.model import Model, read_model
from napari_metastasis.models.nets.architectures import (
    ARCHITECTURES,
    FullyConvolutionalNetwork,
    PaddedNetwork,
    PatchNetwork,
    build_fully_convolutional,
    build_network,
    build_segmentation,
    check_fully_convolutional,
    find_architecture,
)
from napari_metastasis.models.nets.efficientnet_lite import EfficientNetLite, Residual
from napari_metastasis.models.nets.scannet import Block, ScanNet, ScanNetArchitecture
from napari_metastasis.models.nets.segmentation import SegmentationNetwork
from napari_metastasis.models.nets.spatial_lstm import ORDERS, RefinerSpec, SpatialNetwork
from napari_metastasis.models.patchwise import PatchwiseNetwork, ProgramNetwork, crop_patches
from napari_metastasis.models.programs import ONNX, Program, ProgramSpec
from napari_metastasis.models.refiner import Refiner
from napari_metastasis.models.scan_models import ScanModels, load_scan_models, model_for
from napari_metastasis.models.segmenter import Segmenter, SegmenterSpec, SegmentingNetwork
from napari_metastasis.models.versions import (
    ModelVersion,
    export_model,
    list_versions,
    parents_of,
    readers_of,
    remove_model,
    version_of,
)
from napari_metastasis.models.weights_file import correct_card, save_model
from napari_metastasis.models.zoo import (
    ZooEntry,
    add_model,
    check_name,
    check_own_models_folder,
    display_name,
    list_models,
    load_detector,
    load_model,
    model_task,
    own_models_folder,
    weights_of,
)

__all__ = [
    "ARCHITECTURES",
    "MIDDLE_GRAY",
    "ONNX",
    "ORDERS",
    "VGG16_IMAGENET",
    "Block",
    "Calibrated",
    "DenseNetwork",
    "Detector",
    "EfficientNetLite",
    "Encoder",
    "FullyConvolutionalNetwork",
    "GivenCard",
    "InitialWeights",
    "MitosisModel",
    "MitosisSpec",
    "Model",
    "ModelSpec",
    "ModelVersion",
    "NetworkInput",
    "PaddedNetwork",
    "PatchNetwork",
    "PatchwiseNetwork",
    "Program",
    "ProgramNetwork",
    "ProgramSpec",
    "Refiner",
    "RefinerSpec",
    "Residual",
    "ScanModels",
    "ScanNet",
    "ScanNetArchitecture",
    "ScanningNetwork",
    "SegmentationNetwork",
    "Segmenter",
    "SegmenterSpec",
    "SegmentingNetwork",
    "SpatialNetwork",
    "ZooEntry",
    "add_model",
    "begin_with",
    "build_fully_convolutional",
    "build_network",
    "build_segmentation",
    "check_fully_convolutional",
    "check_name",
    "check_own_models_folder",
    "contract_of_input",
    "correct_card",
    "crop_patches",
    "dense_layers",
    "display_name",
    "export_model",
    "export_onnx",
    "export_wsinfer",
    "feature_layer",
    "find_architecture",
    "import_model",
    "input_of",
    "list_models",
    "list_versions",
    "load_detector",
    "load_initial",
    "load_model",
    "load_scan_models",
    "log_odds_of",
    "model_for",
    "model_task",
    "own_models_folder",
    "parents_of",
    "read_model",
    "readers_of",
    "remove_model",
    "save_model",
    "version_of",
    "weights_of",
]
