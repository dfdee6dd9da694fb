"""Scanning: which pieces, in which order, on which engine, into which store."""

from __future__ import annotations

from napari_metastasis.scanning.choice import ChosenEngine, choose_engine
from napari_metastasis.scanning.engine import Engine, computes_bfloat16, predict_views, resolve_devices
from napari_metastasis.scanning.engine_openvino import OpenVinoEngine
from napari_metastasis.scanning.engine_torch import TorchEngine
from napari_metastasis.scanning.heatmap import Heatmap
from napari_metastasis.scanning.layout import HEATMAP_VERSION, digest, journal_path, read_header
from napari_metastasis.scanning.plan import Roi, ScanPlan, plan_scan, roi_cells
from napari_metastasis.scanning.scanner import FinishedRoi, never, scan

__all__ = [
    "HEATMAP_VERSION",
    "ChosenEngine",
    "Engine",
    "FinishedRoi",
    "Heatmap",
    "OpenVinoEngine",
    "Roi",
    "ScanPlan",
    "TorchEngine",
    "choose_engine",
    "computes_bfloat16",
    "digest",
    "journal_path",
    "never",
    "plan_scan",
    "predict_views",
    "read_header",
    "resolve_devices",
    "roi_cells",
    "scan",
]
