"""Every default of the program, with its unit and its reason.

Each group is a frozen dataclass whose fields carry :class:`Setting` metadata. Command-line options and napari forms are
built from that metadata, so that a default, its range and its explanation are written once.
"""

from __future__ import annotations

from napari_metastasis.settings._core import Setting, changes, setting, setting_of
from napari_metastasis.settings._passes import PassSettings
from napari_metastasis.settings.cluster import ClusterSettings
from napari_metastasis.settings.evaluation import CalibrationSettings, EvaluationSettings, PatchScoringSettings
from napari_metastasis.settings.lesions import THRESHOLD, DetectionSettings
from napari_metastasis.settings.mining import MiningSettings
from napari_metastasis.settings.mitosis import MitosisSettings
from napari_metastasis.settings.point_training import (
    MitosisAugmentSettings,
    MitosisMapSettings,
    MitosisNetworkSettings,
    MitosisTrainSettings,
    PieceSettings,
    PointCropSettings,
    PointSplitSettings,
)
from napari_metastasis.settings.points import HotSpotSettings, PointMapSettings, PointScoringSettings
from napari_metastasis.settings.refine import RefineSettings
from napari_metastasis.settings.retrain import TUNE_OPTIONS, CorrectionSettings, TuneTrainSettings, WholeSettings
from napari_metastasis.settings.sampling import CohortSettings, SamplingSettings
from napari_metastasis.settings.scan import DEFAULT_MODEL, ScanSettings, TuningSettings
from napari_metastasis.settings.segment import SegmentSettings
from napari_metastasis.settings.segmenter import (
    BoostingSettings,
    SegmenterSettings,
    TileAugmentSettings,
    TileSamplingSettings,
    TileTrainSettings,
)
from napari_metastasis.settings.slides import (
    INPUTS,
    MOST_READING_THREADS,
    PUBLISHED_STAINS,
    PyramidSettings,
    SlideSettings,
    StainSettings,
    TissueSettings,
)
from napari_metastasis.settings.spatial import (
    EncoderSettings,
    GridSettings,
    SpatialAugmentSettings,
    SpatialTrainSettings,
)
from napari_metastasis.settings.synthetic import CohortSampleSettings, PatchSampleSettings, SyntheticSettings
from napari_metastasis.settings.train import AugmentSettings, NetworkSettings, PatchSettings, TrainSettings

__all__ = [
    "DEFAULT_MODEL",
    "INPUTS",
    "MOST_READING_THREADS",
    "PUBLISHED_STAINS",
    "THRESHOLD",
    "TUNE_OPTIONS",
    "AugmentSettings",
    "BoostingSettings",
    "CalibrationSettings",
    "ClusterSettings",
    "CohortSampleSettings",
    "CohortSettings",
    "CorrectionSettings",
    "DetectionSettings",
    "EncoderSettings",
    "EvaluationSettings",
    "GridSettings",
    "HotSpotSettings",
    "MiningSettings",
    "MitosisAugmentSettings",
    "MitosisMapSettings",
    "MitosisNetworkSettings",
    "MitosisSettings",
    "MitosisTrainSettings",
    "NetworkSettings",
    "PassSettings",
    "PatchSampleSettings",
    "PatchScoringSettings",
    "PatchSettings",
    "PieceSettings",
    "PointCropSettings",
    "PointMapSettings",
    "PointScoringSettings",
    "PointSplitSettings",
    "PyramidSettings",
    "RefineSettings",
    "SamplingSettings",
    "ScanSettings",
    "SegmentSettings",
    "SegmenterSettings",
    "Setting",
    "SlideSettings",
    "SpatialAugmentSettings",
    "SpatialTrainSettings",
    "StainSettings",
    "SyntheticSettings",
    "TileAugmentSettings",
    "TileSamplingSettings",
    "TileTrainSettings",
    "TissueSettings",
    "TrainSettings",
    "TuneTrainSettings",
    "TuningSettings",
    "WholeSettings",
    "changes",
    "setting",
    "setting_of",
]
