"""A result as scverse's programs read it: a SpatialData folder with maps, outlines, labels, points and a table.

Everything lies in one coordinate system, ``global``: level-0 pixels, with 0 at the corner of the first one, as
LazySlide and wsidata have it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_metastasis.annotations import rasterize
from napari_metastasis.errors import MissingDependencyError, RegionError, StorageError
from napari_metastasis.evaluation import read_detections_csv
from napari_metastasis.geometry import HeatmapFrame, Region, sparse_zeros
from napari_metastasis.lesions import SIZE_CLASSES, annotations_of
from napari_metastasis.partials import partial_folder
from napari_metastasis.plain_json import read_json
from napari_metastasis.scanning import MapValues
from napari_metastasis.storage import storage_errors
from napari_metastasis.workflows.export.exported import Exported, exported
from napari_metastasis.workflows.export.outlines import outlined
from napari_metastasis.workflows.report import ReportedLesion, ReportedResult, result_maps

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from geopandas import GeoDataFrame
    from spatialdata import SpatialData

__all__ = ["spatial_data", "write_spatialdata"]

#: Of the table, which says which outline each of its rows belongs to.
_REGION_KEY, _INSTANCE_KEY = "region", "lesion"
#: No two elements may share a name.
_LESIONS, _LABELS, _MEASURED = "lesions", "lesion_labels", "lesion_measurements"


def write_spatialdata(path: Path, result: ReportedResult) -> Exported:
    """Write a SpatialData folder; it appears whole, or not at all, and replaces another one of its kind alone.

    Raises
    ------
    MissingDependencyError
        If spatialdata is not installed.
    StorageError
        If the heatmap cannot be read, another folder lies there, or the disk refuses.
    """
    data = spatial_data(result)
    if path.exists() and not _is_spatialdata(path):
        raise StorageError(f"expected a SpatialData folder to replace, got {path}; choose another with --output")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # What its libraries say of their own next versions tells a user nothing.
        with partial_folder(path, replace=True) as whole, warnings.catch_warnings(action="ignore"):
            data.write(whole)
    return exported(path, result, outlined(result))


def _is_spatialdata(path: Path) -> bool:
    """Return whether a folder is a SpatialData one: another Zarr folder may be a slide, or a heatmap."""
    try:
        return "spatialdata_attrs" in read_json(path / "zarr.json")["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def spatial_data(result: ReportedResult) -> SpatialData:
    """Return a result as a SpatialData object.

    ``images`` hold every map of probabilities by its name, float32 of shape (1, rows, columns), NaN where there is no
    answer; ``shapes["lesions"]`` the outlines, ``labels["lesion_labels"]`` the same on the cells of the map that
    findings are read from, and ``tables["lesion_measurements"]`` a row for each; ``points["detections"]`` and
    ``points["mitoses"]`` places with their probability. What is empty is left out: ``attrs`` say how many there are of
    each, how much of the tissue was looked at, and what has to be said besides.

    Raises
    ------
    MissingDependencyError
        If spatialdata is not installed.
    StorageError
        If the heatmap cannot be read.
    """
    try:
        from spatialdata import SpatialData
    except ImportError as error:
        raise MissingDependencyError(
            f"expected spatialdata, got none ({error}); pip install 'napari-metastasis[spatialdata]'"
        ) from error
    maps = result_maps(result)
    lesions = outlined(result)
    places = {name: points for name, points in _points(result).items() if len(points)}
    read = next((one for one in maps if one.kind.name == result.shown_map), maps[0])
    return SpatialData(
        images={one.kind.name: _image(one) for one in maps},
        labels={_LABELS: _labels(lesions, read.frame)} if lesions else {},
        shapes={_LESIONS: _shapes(lesions)} if lesions else {},
        points={name: _parsed_points(points) for name, points in places.items()},
        tables={_MEASURED: _table(lesions)} if lesions else {},
        attrs=_attrs(result),
    )


def _placed(frame: HeatmapFrame) -> dict[str, Any]:
    """Return where the cells of a frame lie: index 0 .. 1 is the square of the first one."""
    from spatialdata.transformations import Scale, Translation
    from spatialdata.transformations import Sequence as InOrder

    corner = frame.cell_corner(0, 0)
    scale = Scale([frame.cell_px, frame.cell_px], axes=("x", "y"))
    return {"global": InOrder([scale, Translation([corner.x, corner.y], axes=("x", "y"))])}


def _image(shown: MapValues) -> Any:
    from spatialdata.models import Image2DModel

    return Image2DModel.parse(
        shown.values[None], dims=("c", "y", "x"), c_coords=[shown.kind.unit], transformations=_placed(shown.frame)
    )


def _labels(lesions: Sequence[ReportedLesion], frame: HeatmapFrame) -> Any:
    """Return the number of the outline that each cell's centre lies in, int32, 0 outside."""
    from spatialdata.models import Labels2DModel

    labels = sparse_zeros(frame.cells.shape, np.int32)
    for number, lesion in enumerate(lesions, 1):
        for outline in annotations_of(lesion):
            left, top, right, bottom = outline.outline_px.bounds
            x, y = math.floor(left), math.floor(top)
            # An outline of a person may lie beside the slide.
            with suppress(RegionError):
                around = frame.cells_over(Region(x, y, math.ceil(right) - x, math.ceil(bottom) - y))
                labels[around.slices][rasterize([outline], frame, around)] = number
    return Labels2DModel.parse(labels, dims=("y", "x"), transformations=_placed(frame))


def _shapes(lesions: Sequence[ReportedLesion]) -> GeoDataFrame:
    from geopandas import GeoDataFrame
    from spatialdata.models import ShapesModel

    frame = GeoDataFrame(
        {"name": [lesion.name for lesion in lesions], "geometry": [lesion.outline_px for lesion in lesions]},
        index=range(1, len(lesions) + 1),
    )
    return ShapesModel.parse(frame)


def _table(lesions: Sequence[ReportedLesion]) -> AnnData:
    """Return the measurements of lesions as columns, NaN where one is not known, and what is said of them beside."""
    import pandas as pd
    from anndata import AnnData
    from spatialdata.models import TableModel

    numbers = pd.DataFrame(
        {
            "probability": [lesion.probability for lesion in lesions],
            "area_mm2": [lesion.area_mm2 for lesion in lesions],
            "length_mm": [lesion.length_mm for lesion in lesions],
            "detections": [lesion.detections for lesion in lesions],
            "nuclei_estimated": [lesion.nuclei for lesion in lesions],
        },
        dtype="float64",
    )
    reviews = [lesion.review for lesion in lesions]
    said = pd.DataFrame(
        {
            "number": [lesion.number for lesion in lesions],
            "size_class": pd.Categorical([lesion.size_class for lesion in lesions], categories=SIZE_CLASSES),
            "size_class_by": pd.Categorical([lesion.size_class_by for lesion in lesions]),
            "cut_by_edge": [lesion.cut_by_edge for lesion in lesions],
            "counted": [lesion.counts for lesion in lesions],
            "review": pd.Categorical(["pending" if one is None else one.told for one in reviews]),
            "reviewer": ["" if one is None else one.reviewer for one in reviews],
            "comment": ["" if one is None else one.comment for one in reviews],
            _REGION_KEY: pd.Categorical([_LESIONS] * len(lesions)),
            _INSTANCE_KEY: np.arange(1, len(lesions) + 1),
        },
        index=[lesion.number for lesion in lesions],
    )
    table = AnnData(numbers.to_numpy(), obs=said, var=pd.DataFrame(index=numbers.columns))
    table.obsm["spatial"] = np.array([(lesion.x, lesion.y) for lesion in lesions])
    return TableModel.parse(table, region=_LESIONS, region_key=_REGION_KEY, instance_key=_INSTANCE_KEY)


def _points(result: ReportedResult) -> dict[str, pd.DataFrame]:
    """Return places of a result by what they are, with the probability of each and what people said of it."""
    import pandas as pd

    found = {}
    detections = result.folder / "detections.csv"
    # Where only mitoses were looked for, there is none.
    if detections.exists():
        read = read_detections_csv(detections)
        found["detections"] = pd.DataFrame(
            {"x": read.points[:, 0], "y": read.points[:, 1], "probability": read.probabilities}
        )
    if result.mitoses is not None:
        mitoses = result.mitoses
        found["mitoses"] = pd.DataFrame(
            {
                "x": mitoses.xy[:, 0],
                "y": mitoses.xy[:, 1],
                "probability": mitoses.probability,
                "review": [one.told for one in mitoses.reviews],
            }
        )
    return found


def _parsed_points(points: pd.DataFrame) -> Any:
    from spatialdata.models import PointsModel

    return PointsModel.parse(points, coordinates={"x": "x", "y": "y"})


def _attrs(result: ReportedResult) -> dict[str, Any]:
    """Return what is known of the slide, under the name that wsidata has for it, and of the result."""
    width, height = result.size
    mitoses = result.mitoses
    return {
        "slide_properties": {"shape": [height, width], "mpp": result.mpp},
        "napari_metastasis": {
            "version": result.version,
            "slide": result.slide_name,
            "fingerprint": result.fingerprint,
            "models": [
                {"name": one.name, "weights_sha256": one.weights_sha256, "map": one.map} for one in result.models
            ],
            "findings_read_from": result.shown_map,
            "threshold": result.threshold,
            "coverage": result.coverage.text,
            "whole": result.coverage.whole,
            "verdict": result.verdict.text,
            "counts": result.counts,
            "mitoses": None if mitoses is None else mitoses.text,
            "notes": [*result.notes, *result.told],
            "intended_use": "research; not a medical device, not validated for diagnosis",
        },
    }
