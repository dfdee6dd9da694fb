"""Scanning: passes in order, on engines, into maps.

What needs torch is imported on first use: maps are read without it, which takes seconds to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_metastasis.lazy_names import import_on_use
from napari_metastasis.scanning.coverage import Coverage, answerable_cells, unanswered_cells
from napari_metastasis.scanning.looked_at import looked_at, margin_cells
from napari_metastasis.scanning.maps.blend import blend, read_from, seen_answered, seen_values
from napari_metastasis.scanning.maps.difference import what_changed
from napari_metastasis.scanning.maps.features import FEATURES_VERSION, FeatureStore
from napari_metastasis.scanning.maps.kinds import (
    CHANGE,
    MITOSES,
    PROBABILITY,
    SEGMENTED,
    AnsweredMap,
    MapKind,
    MapValues,
)
from napari_metastasis.scanning.maps.ome_zarr import (
    HEATMAP_VERSION,
    MapHeader,
    digest,
    journal_path,
    last_written,
    like,
    precision_of,
    read_header,
)
from napari_metastasis.scanning.maps.store import MapStore
from napari_metastasis.scanning.plan import BoolArray, Roi, ScanPlan, Wanted, plan_scan, roi_cells
from napari_metastasis.scanning.slide_parts import SlidePart, gather, maps_like, plan_part

if TYPE_CHECKING:
    from napari_metastasis.scanning.engines.base import Engine, FloatArray, computes_bfloat16, resolve_devices
    from napari_metastasis.scanning.engines.choose import ChosenEngine, choose_engine, idle_engine
    from napari_metastasis.scanning.engines.openvino import OpenVinoEngine
    from napari_metastasis.scanning.engines.torch import TorchEngine
    from napari_metastasis.scanning.passes.base import (
        FEATURES,
        PIXELS,
        Pass,
        PassContext,
        PreparedPass,
        cells_around,
        run_passes,
    )
    from napari_metastasis.scanning.passes.following import FollowingPass, plan_blocks
    from napari_metastasis.scanning.scanner import DenseScan, FinishedPiece, never
    from napari_metastasis.scanning.views import encode_views, predict_views

__all__ = [
    "CHANGE",
    "FEATURES",
    "FEATURES_VERSION",
    "HEATMAP_VERSION",
    "MITOSES",
    "PIXELS",
    "PROBABILITY",
    "SEGMENTED",
    "AnsweredMap",
    "BoolArray",
    "ChosenEngine",
    "Coverage",
    "DenseScan",
    "Engine",
    "FeatureStore",
    "FinishedPiece",
    "FloatArray",
    "FollowingPass",
    "MapHeader",
    "MapKind",
    "MapStore",
    "MapValues",
    "OpenVinoEngine",
    "Pass",
    "PassContext",
    "PreparedPass",
    "Roi",
    "ScanPlan",
    "SlidePart",
    "TorchEngine",
    "Wanted",
    "answerable_cells",
    "blend",
    "cells_around",
    "choose_engine",
    "computes_bfloat16",
    "digest",
    "encode_views",
    "gather",
    "idle_engine",
    "journal_path",
    "last_written",
    "like",
    "looked_at",
    "maps_like",
    "margin_cells",
    "never",
    "plan_blocks",
    "plan_part",
    "plan_scan",
    "precision_of",
    "predict_views",
    "read_from",
    "read_header",
    "resolve_devices",
    "roi_cells",
    "run_passes",
    "seen_answered",
    "seen_values",
    "unanswered_cells",
    "what_changed",
]

#: Where what needs torch is at home.
_HOMES = {
    "ChosenEngine": "engines.choose",
    "DenseScan": "scanner",
    "Engine": "engines.base",
    "FEATURES": "passes.base",
    "PIXELS": "passes.base",
    "FinishedPiece": "scanner",
    "FloatArray": "engines.base",
    "FollowingPass": "passes.following",
    "OpenVinoEngine": "engines.openvino",
    "Pass": "passes.base",
    "PassContext": "passes.base",
    "PreparedPass": "passes.base",
    "TorchEngine": "engines.torch",
    "cells_around": "passes.base",
    "choose_engine": "engines.choose",
    "computes_bfloat16": "engines.base",
    "encode_views": "views",
    "idle_engine": "engines.choose",
    "never": "scanner",
    "plan_blocks": "passes.following",
    "predict_views": "views",
    "resolve_devices": "engines.base",
    "run_passes": "passes.base",
}

if not TYPE_CHECKING:
    __getattr__ = import_on_use(__name__, _HOMES)
