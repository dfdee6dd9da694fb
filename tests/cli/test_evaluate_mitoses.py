"""``evaluate`` of mitoses: a cohort whose reference is points, from slides to figures, and folders of points."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from dark_model import dark_spots
from made_once import made_once
from shapely import Polygon
from spotted_slide import write_shaded_spots

from cli.conftest import FIXED_ENGINE, Run
from napari_metastasis.models import save_model

#: x, y and darkness, in pixels of 0.25 µm, on tissue from 100 to 1400 and 1200: the model reads at 0.5 µm.
SURE, UNSURE = (401.0, 303.0, 1.0), (700.0, 500.0, 0.8)
SPOTS = {
    "a": [SURE, UNSURE, (1001.0, 901.0, 0.95), (250.0, 1000.0, 0.95)],
    "b": [(612.0, 333.0, 0.95), (900.0, 700.0, 0.95)],
    "none": [(800.0, 800.0, 0.8)],
}
#: What a person set: all of a but the last, one that no model finds, and a look-alike; of b the first, a little away.
SET = {"a": [(403.0, 299.0), (695.0, 512.0), (1001.0, 901.0), (1200.0, 400.0)], "b": [(622.0, 353.0)]}
LOOK_ALIKE = (250.0, 1000.0)


def feature(xy: tuple[float, float], name: str) -> dict[str, object]:
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": list(xy)},
        "properties": {"classification": {"name": name}},
    }


@pytest.fixture(scope="module")
def spotted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides, points and the model, which nobody may change."""

    def make(folder: Path) -> None:
        for name, spots in SPOTS.items():
            write_shaded_spots(folder / f"{name}.tif", spots)
        (folder / "bad.tif").write_bytes(b"no slide")
        features = [feature(xy, "mitotic figure") for xy in SET["a"]] + [feature(LOOK_ALIKE, "Not a mitosis")]
        (folder / "a.geojson").write_text(json.dumps(features))
        # TUPAC16's: y first, without a line of names.
        (folder / "b.csv").write_text("".join(f"{y},{x}\n" for x, y in SET["b"]))
        rows = "a.tif,a.geojson\nb.tif,b.csv\nbad.tif,b.csv\nnone.tif,\n"
        text = "slide,annotation,split\n" + rows.replace("\n", ",test\n")
        (folder / "cohort.csv").write_text(text)
        model = dark_spots()
        save_model(folder / "mitosis-x.safetensors", model.network, model.spec, {"data": "none"})

    return made_once(tmp_path_factory, "spotted", make)


@pytest.fixture(scope="module")
def command(spotted: Path) -> tuple[object, ...]:
    model = spotted / "mitosis-x.safetensors"
    return ("evaluate", "--cohort", spotted / "cohort.csv", "--model", model, "--point-order", "yx", *FIXED_ENGINE)


def test_a_cohort_of_points_from_slides_to_figures(here: Run, spotted: Path, command, tmp_path: Path) -> None:
    answer = here(*command, "--output", tmp_path / "out", "--json")
    # The bad slide is named, and the others are measured.
    assert answer.status == 1
    assert "left out bad: " in answer.err
    found = answer.json
    counts = {
        name: [one[key] for key in ("hits", "false_positives", "misses")] for name, one in found["slides"].items()
    }
    # The look-alike is a false positive; "none" was not annotated, and holds no mitosis.
    assert counts == {"a": [3, 1, 1], "b": [1, 1, 0], "none": [0, 1, 0]}
    assert (found["hits"], found["false_positives"], found["misses"]) == (4, 3, 1)
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((4 / 7, 4 / 5, 8 / 12))
    assert found["f1_ci95"][0] < found["f1"] < found["f1_ci95"][1]
    assert (found["threshold"], found["radius_um"], found["without_points"]) == (0.4, 7.5, ["none"])
    at = {one["threshold"]: one for one in found["thresholds"]}
    assert at[0.9]["hits"] == 3
    assert at[0.9]["misses"] == 2
    # Of the tissue of all slides: 1300 x 1100 pixels each, and what the tissue mask has around it.
    own = found["slides"]["a"]
    assert 1300 * 1100 < own["tissue_mm2"] * 1e6 / 0.25**2 <= 1500 * 1300
    assert own["found_per_mm2"] == pytest.approx(4 / own["tissue_mm2"], rel=1e-5)
    total = sum(one["tissue_mm2"] for one in found["slides"].values())
    assert (found["found_per_mm2"], found["set_per_mm2"]) == pytest.approx((7 / total, 5 / total), rel=1e-5)
    assert (tmp_path / "out" / "report-mitoses" / "report.html").exists()

    # What was found lies where the spots are, to half a cell of the map, 1 µm.
    with (tmp_path / "out" / "a.metastasis" / "mitoses.csv").open(newline="") as file:
        places = np.array([[float(row["x"]), float(row["y"])] for row in csv.DictReader(file)])
    away = np.linalg.norm(places[:, None] - np.array([spot[:2] for spot in SPOTS["a"]])[None], axis=2).min(axis=0)
    assert away.max() <= 2 * np.sqrt(2) + 0.01

    # Nothing is scanned again, the same report is the same, and another threshold is another one.
    again = here(*command, "--output", tmp_path / "out", "--json")
    assert again.json == found
    assert "the same report lies" in again.err
    text = here(*command, "--output", tmp_path / "out", "--mitosis-threshold", "0.9", "--overwrite")
    assert "3 slides, from probability 0.9, within 7.5 µm" in " ".join(text.out.split())
    here(*command, "--threshold", "0.7").fails_with("--threshold", "of mitoses", status=2)

    # The result folders, against a folder of points: MIDOG's JSON here.
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [x - 25, y - 25, x + 25, y + 25]} for x, y in SET["a"]]
    boxes += [{"image_id": 2, "category_id": 1, "bbox": [x - 25, y - 25, x + 25, y + 25]} for x, y in SET["b"]]
    names = [{"id": 1, "file_name": "a.tif"}, {"id": 2, "file_name": "b.tif"}]
    category = [{"id": 1, "name": "mitotic figure"}]
    document = {"images": names, "annotations": boxes, "categories": category}
    truth = tmp_path / "MIDOG.json"
    truth.write_text(json.dumps(document))
    of_files = here("evaluate", "--detections", tmp_path / "out", "--truth", truth, "--json")
    assert of_files.status == 0, of_files.err
    # They were written from 0.9 on.
    assert {name: of_files.json[name] for name in ("threshold", "hits", "false_positives", "misses")} == {
        "threshold": 0.9, **{name: at[0.9][name] for name in ("hits", "false_positives", "misses")}
    }  # fmt: skip
    assert of_files.json["measured"]["model"] == "dark-spots"

    # What people say of them counts in the result, and is no merit of the model.
    result = tmp_path / "out" / "a.metastasis"
    (tmp_path / "said.geojson").write_text(
        json.dumps([feature((1200, 400), "Mitosis"), feature((1001, 903), "Mitosis"), feature(LOOK_ALIKE, "imposter")])
    )
    here("review", "import", result, tmp_path / "said.geojson", "--reviewer", "Dr. B")
    with (result / "mitoses.csv").open(newline="") as file:
        rows = [(row["class"], row["review"], row["reviewer"]) for row in csv.DictReader(file)]
    assert rows == [
        ("Mitosis", "pending", ""),
        ("Mitosis", "confirmed", "Dr. B"),
        ("Not a mitosis", "rejected", "Dr. B"),
        ("Mitosis", "added", "Dr. B"),
    ]
    assert here("evaluate", "--detections", tmp_path / "out", "--truth", truth, "--json").json == of_files.json
    (listed,) = here("review", "list", result, "--json").json["slides"]
    assert listed["counts"]["mitoses_confirmed"] == listed["counts"]["mitoses_added"] == 1
    scanned = ("scan", spotted / "a.tif", "--model", command[4], *FIXED_ENGINE, "--mitosis-threshold", "0.9")
    mitoses = here(*scanned, "--output", result, "--json").json["mitoses"]
    assert {name: mitoses[name] for name in ("count", "found", "reviewed")} == {"count": 3, "found": 3, "reviewed": 3}
    assert mitoses["hot_spot"]["count"] == 3
    assert json.loads((result / "run.json").read_text())["mitoses"]["count"] == 3


def test_a_scan_counts_inside_the_outlines_of_a_file(here: Run, spotted: Path, command, tmp_path: Path) -> None:
    around = [(900, 800), (1100, 820), (1080, 1000), (890, 980), (900, 800)]
    shape = {**feature((0, 0), "Anything"), "geometry": {"type": "Polygon", "coordinates": [around]}}
    (tmp_path / "shape.geojson").write_text(json.dumps([shape]))
    (tmp_path / "points.geojson").write_text(json.dumps([feature((1200, 400), "Mitosis")]))
    scan = ("scan", spotted / "a.tif", "--model", command[4], *FIXED_ENGINE, "--output", tmp_path / "out")
    found = here(*scan, "--region-file", tmp_path / "shape.geojson", "--json").json["mitoses"]
    assert [(round(one["x"], -1), round(one["y"], -1)) for one in found["points"]] == [(1000, 900)]
    area = Polygon(around).area * (0.25 / 1000) ** 2
    assert found["searched_mm2"] == pytest.approx(area, rel=0.03)
    here(*scan, "--region-file", tmp_path / "points.geojson").fails_with("expected outlines in", "got none", "draw")
    away = {**shape, "geometry": {"type": "Polygon", "coordinates": [[(x + 9000, y) for x, y in around]]}}
    (tmp_path / "away.geojson").write_text(json.dumps([shape, away]))
    here(*scan, "--region-file", tmp_path / "away.geojson").fails_with("which lies beside it", "name a file of this")
    both = here(*scan, "--region-file", tmp_path / "shape.geojson", "--region", "0", "0", "9", "9")
    assert both.status == 2


def test_folders_of_points(here: Run, tmp_path: Path) -> None:
    detections, truth = tmp_path / "found", tmp_path / "set"
    detections.mkdir()
    truth.mkdir()
    (detections / "a.csv").write_text("0.9,100,100\n0.7,400,400\n0.2,100,130\n")
    (truth / "a.csv").write_text("x,y\n110,100\n100,158\n")
    # A slide beside its points is no mask.
    (truth / "a.tif").write_bytes(b"")
    asked = ("evaluate", "--detections", detections, "--truth", truth, "--json")
    here(*asked).fails_with("pixel size", "--mpp")
    found = here(*asked, "--mpp", "0.25").json
    assert (found["hits"], found["false_positives"], found["misses"], found["threshold"]) == (1, 1, 1, 0.5)
    assert here(*asked, "--mpp", "0.25", "--mitosis-threshold", "0.1").json["hits"] == 2
    assert here(*asked, "--mpp", "0.25", "--point-radius-um", "1").json["hits"] == 0
    # Names that do not pair are no slide without mitoses.
    shutil.copy(detections / "a.csv", detections / "b.csv")
    (truth / "c.csv").write_text("x,y\n1,2\n")
    here(*asked, "--mpp", "0.25").fails_with("the same names", "detections alone of b", "truth alone of c")
    lone = here(*asked, "--mpp", "0.25", "--allow-unpaired")
    assert lone.json["without_points"] == ["b"]
    # Outlines of tumour among the truth: lesions, unless it is said otherwise.
    square = [[0, 0], [900, 0], [900, 900], [0, 900], [0, 0]]
    area = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "properties": {"name": "Tumor"},
    }
    (truth / "a.csv").unlink()
    (truth / "a.tif").unlink()
    (truth / "a.geojson").write_text(json.dumps([area, feature((110, 100), "Mitosis")]))
    assert "froc_score_linear" in here(*asked, "--allow-unpaired").json
    mitoses = here(*asked, "--mpp", "0.25", "--allow-unpaired", "--score-as", "mitoses").json
    assert (mitoses["hits"], mitoses["misses"]) == (1, 0)


@pytest.mark.shared
def test_published_cases_give_the_published_figure(here: Run, shared_data: Path, tmp_path: Path) -> None:
    case = json.loads((shared_data / "mitosis" / "f1_case.json").read_text())
    detections, truth = tmp_path / "found", tmp_path / "set"
    detections.mkdir()
    truth.mkdir()
    for name, slide in case["slides"].items():
        (detections / f"{name}.csv").write_text("".join(f"{sure},{x},{y}\n" for x, y, sure in slide["detections"]))
        # Those without mitoses have no file, as in TUPAC16, whose columns are y and x.
        if slide["mitoses"]:
            (truth / f"{name}.csv").write_text("".join(f"{y},{x}\n" for x, y in slide["mitoses"]))
    found = here(
        "evaluate", "--detections", detections, "--truth", truth, "--point-order", "yx", "--mpp", "0.25",
        "--point-radius-um", "6.25", "--mitosis-threshold", "0.64", "--json",
    ).json  # fmt: skip
    assert round(found["f1"], 3) == 0.731
    assert found["f1_ci95"][0] < 0.731 < found["f1_ci95"][1]
    expected = case["expected"]["0.64"]
    counts = [found[name] for name in ("hits", "false_positives", "misses")]
    assert counts == pytest.approx([expected[name] for name in ("tp", "fp", "fn")], rel=0.01)
    assert len(found["without_points"]) == 8
