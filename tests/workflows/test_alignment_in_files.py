"""A disc on a slide lies where it lies: in the heatmap, the detections and every file, at every pixel size."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import zarr
from dark_model import dark_model
from scans import scan_with

from napari_metastasis.geometry import Point, Size
from napari_metastasis.settings import DetectionSettings, ScanSettings
from napari_metastasis.slides import open_slide, write_pyramid
from napari_metastasis.workflows.scan import heatmap_path

MPPS = (0.243, 0.25, 0.486, 0.5, 0.972)
#: In µm from the slide's corner; the radius keeps the disc to one detection.
CENTER_UM, RADIUS_UM, FIELD_UM = (233.7, 161.2), 45.0, (420.0, 330.0)


def write_disc(path, mpp):
    """Write pink tissue with a dark disc, its edge drawn by the share of each pixel that it covers."""
    width, height = (round(side / mpp) for side in FIELD_UM)
    parts = (np.arange(4) + 0.5) / 4
    rows = (np.arange(height)[:, None] + parts).reshape(-1) * mpp
    columns = (np.arange(width)[:, None] + parts).reshape(-1) * mpp
    inside = np.hypot(columns[None] - CENTER_UM[0], rows[:, None] - CENTER_UM[1]) < RADIUS_UM
    share = inside.reshape(height, 4, width, 4).mean(axis=(1, 3))[..., None]
    pixels = (1 - share) * np.array([225, 150, 195]) + share * np.array([60, 20, 80])
    write_pyramid(path, pixels.round().astype(np.uint8), mpp=mpp, size=Size(width, height), compression="deflate")


def distance_um(x_px, y_px, mpp):
    return Point(x_px * mpp, y_px * mpp).distance(Point(*CENTER_UM))


@pytest.mark.parametrize("mpp", MPPS)
@pytest.mark.parametrize(("engine", "dense_coefficient"), [("torch", 1), ("torch", 4), ("openvino", 2)])
def test_the_disc_lies_where_it_was_drawn(mpp, engine, dense_coefficient, tmp_path):
    write_disc(tmp_path / "disc.tif", mpp)
    with open_slide(tmp_path / "disc.tif") as slide:
        result = scan_with(
            slide,
            dark_model(),
            tmp_path / "out",
            scan=ScanSettings(
                device="cpu",
                engine=engine,
                precision="float32",
                roi_px=150,
                tissue_only=False,
                dense_coefficient=dense_coefficient,
            ),
            detection=DetectionSettings(opening_um=0),
        )
    half_cell_um = result.frame.cell_um / 2
    weights = result.probabilities
    row, column = (float((weights * grid).sum() / weights.sum()) for grid in np.indices(weights.shape))
    center = result.frame.cell_center(column, row)
    assert distance_um(center.x, center.y, mpp) < half_cell_um

    with (result.output / "detections.csv").open() as file:
        ((_, x, y),) = [tuple(map(float, line)) for line in csv.reader(file)]
    assert distance_um(x, y, mpp) < half_cell_um
    with (result.output / "lesions.csv").open() as file:
        (lesion,) = csv.DictReader(file)
    assert distance_um(float(lesion["x"]), float(lesion["y"]), mpp) < half_cell_um
    (feature,) = json.loads((result.output / "lesions.geojson").read_text())["features"]
    corners = np.array(feature["geometry"]["coordinates"][0])
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    assert distance_um(*middle, mpp) < half_cell_um

    # OME-Zarr speaks in µm and of pixel centres: the first pixel's centre is 0, half a pixel from the slide's corner.
    group = zarr.open_group(heatmap_path(result.output), mode="r")
    (multiscale,) = group.attrs["ome"]["multiscales"]
    dataset = multiscale["datasets"][0]
    scale, translation = (step[step["type"]] for step in dataset["coordinateTransformations"])
    stored = np.nan_to_num(group[dataset["path"]][:])
    index = [float((stored * grid).sum() / stored.sum()) for grid in np.indices(stored.shape)]
    y_um, x_um = (s * k + t + mpp / 2 for s, k, t in zip(scale, index, translation, strict=True))
    assert Point(x_um, y_um).distance(Point(*CENTER_UM)) < half_cell_um
