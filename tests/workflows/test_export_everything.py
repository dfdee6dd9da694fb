"""A result goes out whole, and scverse's, OME-Zarr's and WSInfer's readers find everything where it lies."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest
import shapely
from disc_slide import DISC_CENTER
from results import change_record, write_lesions

from napari_metastasis.cli import main
from napari_metastasis.errors import MissingDependencyError, StorageError
from napari_metastasis.evaluation import read_detections_csv
from napari_metastasis.geometry import Point
from napari_metastasis.workflows.export import export_result
from napari_metastasis.workflows.report import read_result, result_maps

# Its libraries warn of their own next versions.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def spatialdata():
    return pytest.importorskip("spatialdata")


def placed(element, points):
    """Return where points of an element's own coordinates, (x, y), lie in level-0 pixels."""
    from spatialdata.transformations import get_transformation

    matrix = get_transformation(element, "global").to_affine_matrix(("x", "y"), ("x", "y"))
    return np.asarray(points) @ matrix[:2, :2].T + matrix[:2, 2]


def center_of(frame, column, row):
    center = frame.cell_center(column, row)
    return center.x, center.y


def test_spatialdata_opens_a_result_with_everything_in_its_place(spatialdata, result):
    done = export_result(result, "spatialdata")
    assert (done.path, done.lesions) == (result / "spatialdata.zarr", 1)
    data, known = spatialdata.read_zarr(done.path), read_result(result)
    (own,) = result_maps(known)
    image = data.images["probability"]
    np.testing.assert_array_equal(np.asarray(image)[0], own.values)
    rows, columns = np.nonzero(~np.isnan(own.values))
    # In an image of spatialdata, the first pixel's middle is at 0.5.
    middles = [center_of(own.frame, column, row) for row, column in zip(rows, columns, strict=True)]
    np.testing.assert_allclose(placed(image, np.column_stack((columns, rows)) + 0.5), middles)
    (lesion,), (outline,) = known.lesions, data.shapes["lesions"].geometry
    assert outline.equals(lesion.outline_px)
    # Cells whose middle lies in the outline, and no other.
    labels = np.asarray(data.labels["lesion_labels"])
    inside = shapely.contains_xy(outline, *np.array(middles).T)
    np.testing.assert_array_equal(labels[rows, columns], inside.astype(np.int32))
    assert inside.any()
    np.testing.assert_allclose(placed(data.labels["lesion_labels"], [[0.5, 0.5]])[0], center_of(own.frame, 0, 0))
    disc = np.argwhere(labels == 1)[:, ::-1].mean(axis=0) + 0.5
    assert np.abs(placed(image, [disc])[0] - (DISC_CENTER.x, DISC_CENTER.y)).max() <= own.frame.cell_px / 2
    points, detections = data.points["detections"].compute(), read_detections_csv(result / "detections.csv")
    np.testing.assert_array_equal(points[["x", "y"]].to_numpy(), detections.points)
    np.testing.assert_array_equal(points["probability"], detections.probabilities)
    table = data.tables["lesion_measurements"]
    assert dict(zip(table.var_names, table.X[0], strict=True)) == pytest.approx(
        {
            "probability": lesion.probability,
            "area_mm2": lesion.area_mm2,
            "length_mm": lesion.length_mm,
            "detections": lesion.detections,
            "nuclei_estimated": lesion.nuclei,
        }
    )
    matched, joined = spatialdata.join_spatialelement_table(
        sdata=data, spatial_element_names=["lesions"], table_name="lesion_measurements"
    )
    assert (len(matched["lesions"]), list(joined.obs["number"])) == (1, ["1"])
    assert list(table.obs["size_class"]) == [lesion.size_class]
    np.testing.assert_allclose(table.obsm["spatial"], [(lesion.x, lesion.y)])
    said = data.attrs["napari_metastasis"]
    assert (said["coverage"], said["whole"], said["counts"]) == (known.coverage.text, True, known.counts)
    assert data.attrs["slide_properties"] == {"shape": [known.size[1], known.size[0]], "mpp": known.mpp}


def test_a_result_without_lesions_says_so_and_one_of_a_part_says_that(spatialdata, result):
    write_lesions(result, [])
    (result / "detections.csv").write_text("")
    change_record(result, lambda record: record["coverage"].update(share=0.36, whole=False, answered_cells=1))
    data = spatialdata.read_zarr(export_result(result, "spatialdata").path)
    assert not [*data.labels, *data.shapes, *data.points, *data.tables]
    said = data.attrs["napari_metastasis"]
    assert (said["whole"], said["counts"]) == (False, {"itc": 0, "micro": 0, "macro": 0})
    assert read_result(result).verdict.text == said["verdict"]


def test_only_a_folder_of_its_own_kind_is_replaced_and_only_by_a_whole_one(spatialdata, result, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="expected a SpatialData folder to replace"):
        export_result(result, "spatialdata", output=mine, overwrite=True)
    assert (mine / "thesis.txt").read_text() == "mine"
    # A heatmap, or a slide, is a Zarr folder, too.
    with pytest.raises(StorageError, match="expected a SpatialData folder to replace"):
        export_result(result, "spatialdata", output=result / "heatmap.ome.zarr", overwrite=True)
    assert len(result_maps(read_result(result))) == 1
    done = export_result(result, "spatialdata")
    with pytest.raises(StorageError, match="which is there"):
        export_result(result, "spatialdata")
    written = sorted(path.relative_to(done.path) for path in done.path.rglob("*"))

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(spatialdata.SpatialData, "write", full)
        with pytest.raises(StorageError, match="space"):
            export_result(result, "spatialdata", overwrite=True)
    assert sorted(path.relative_to(done.path) for path in done.path.rglob("*")) == written
    (done.path / "old").write_text("")
    export_result(result, "spatialdata", overwrite=True)
    assert not (done.path / "old").exists()
    assert not list(result.glob(".*"))


def test_without_the_library_one_line_says_what_to_install(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'napari-metastasis\[spatialdata\]'"):
        export_result(result, "spatialdata")


def test_ome_zarr_opens_a_result_folder(result):
    reading = pytest.importorskip("ome_zarr.reader")
    from ome_zarr.io import parse_url

    (own,) = result_maps(read_result(result))
    (node,) = reading.Reader(parse_url(result / "heatmap.ome.zarr"))()
    np.testing.assert_array_equal(np.asarray(node.data[0]), own.values)
    scale, move = node.metadata["coordinateTransformations"][0]
    corner = own.frame.cell_center(0, 0)
    assert scale["scale"] == pytest.approx([own.frame.cell_um] * 2)
    # In OME-Zarr, as in napari, 0 is the middle of the slide's first pixel.
    assert move["translation"] == pytest.approx([(corner.y - 0.5) * own.frame.model.mpp] * 2)
    assert [axis["unit"] for axis in node.metadata["axes"]] == ["micrometer"] * 2


def test_wsinfers_table_has_a_row_for_each_answer_and_leaves_no_gap(result):
    done = export_result(result, "wsinfer")
    assert done.path == result / "model-outputs-csv" / "node.csv"
    (own,) = result_maps(read_result(result))
    with done.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["minx", "miny", "width", "height", "prob_normal", "prob_tumour"]
    answered = np.argwhere(~np.isnan(own.values))
    assert len(rows) == len(answered)
    by_place = {}
    for row in rows:
        x, y, wide, high = (int(row[name]) for name in ("minx", "miny", "width", "height"))
        center = own.frame.cell_at(Point(x + wide / 2, y + high / 2))
        by_place[round(center.y), round(center.x)] = row
        assert abs(center.x - round(center.x)) * own.frame.cell_px <= 0.5
    for row, column in answered.tolist():
        one = by_place[row, column]
        assert float(one["prob_tumour"]) == pytest.approx(own.values[row, column], abs=1e-6)
        assert float(one["prob_normal"]) == pytest.approx(1 - own.values[row, column], abs=1e-6)
        if (after := by_place.get((row, column + 1))) is not None:
            assert int(one["minx"]) + int(one["width"]) == int(after["minx"])


def test_the_table_of_a_part_says_that_rows_are_missing(result, capsys):
    change_record(result, lambda record: record["coverage"].update(share=0.36, whole=False, answered_cells=1))
    with pytest.raises(SystemExit) as ended:
        main(["export", str(result), "--to", "wsinfer"])
    assert ended.value.code == 0
    assert "what has no row was not looked at, or is glass" in capsys.readouterr().err


def test_several_classes_leave_tumour_alone(result):
    change_record(result, lambda record: record["model"].update(classes=["a", "b,c", "d"], tumour_class=1))
    path = export_result(result, "wsinfer").path
    (own,) = result_maps(read_result(result))
    header, first, *_ = path.read_text().splitlines()
    assert header == "minx,miny,width,height,prob_b c"
    assert float(first.split(",")[-1]) == pytest.approx(own.values[~np.isnan(own.values)][0], abs=1e-6)
    assert json.loads((result / "run.json").read_text())["model"]["tumour_class"] == 1
