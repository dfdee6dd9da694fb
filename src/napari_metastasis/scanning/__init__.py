"""Scanning: which pieces, in which order, on which engine, into which store."""

from __future__ import annotations

from napari_metastasis.scanning.engines.base import Engine, FloatArray, computes_bfloat16, resolve_devices
from napari_metastasis.scanning.engines.choose import ChosenEngine, choose_engine
from napari_metastasis.scanning.engines.openvino import OpenVinoEngine
from napari_metastasis.scanning.engines.torch import TorchEngine
from napari_metastasis.scanning.maps.blend import blend
from napari_metastasis.scanning.maps.features import FEATURES_VERSION, FeatureStore
from napari_metastasis.scanning.maps.heatmap import Heatmap
from napari_metastasis.scanning.maps.ome_zarr import HEATMAP_VERSION, digest, journal_path, read_header
from napari_metastasis.scanning.passes.refine import BlockRefiner, RefinePlan, plan_refinement, refine_features
from napari_metastasis.scanning.passes.views import encode_views, predict_views
from napari_metastasis.scanning.plan import BoolArray, Roi, ScanPlan, any_of_blocks, plan_scan, roi_cells
from napari_metastasis.scanning.scanner import FinishedRoi, never, scan

__all__ = [
    "FEATURES_VERSION",
    "HEATMAP_VERSION",
    "BlockRefiner",
    "BoolArray",
    "ChosenEngine",
    "Engine",
    "FeatureStore",
    "FinishedRoi",
    "FloatArray",
    "Heatmap",
    "OpenVinoEngine",
    "RefinePlan",
    "Roi",
    "ScanPlan",
    "TorchEngine",
    "any_of_blocks",
    "blend",
    "choose_engine",
    "computes_bfloat16",
    "digest",
    "encode_views",
    "journal_path",
    "never",
    "plan_refinement",
    "plan_scan",
    "predict_views",
    "read_header",
    "refine_features",
    "resolve_devices",
    "roi_cells",
    "scan",
]
