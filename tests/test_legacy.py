"""What version 0.1 left on disk before the rooms were rebuilt is read, resumed, shown, and written the same today.

``data/legacy/legacy.zip`` holds, made by ``data/legacy/make.py`` with the program of that time:

    napari-metastasis/models      a user's models: detector "darkness", refiner "mover" behind it
    disc.tif                      a dark disc on tissue
    finished.metastasis           its scan, refined, with kept features
    stopped.metastasis            the same scan, stopped before anything was refined
    slides                        four slides to train on
    refiner, refiner-stopped      a training of a refiner behind "darkness", whole and stopped in its second epoch
    detector                      a training of a detector in two stages, without weights and checkpoints
"""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from legacy_files import unpack_legacy
from training_cohort import no_bar

from napari_metastasis.cohorts.cohort import Cohort, read_cohort
from napari_metastasis.models import list_models, load_detector, load_model, load_scan_models
from napari_metastasis.sampling import slide_index
from napari_metastasis.scanning import MapStore
from napari_metastasis.settings import (
    AugmentSettings,
    GridSettings,
    MiningSettings,
    RefineSettings,
    SamplingSettings,
    ScanSettings,
    SpatialAugmentSettings,
    SpatialTrainSettings,
    TissueSettings,
    TrainSettings,
)
from napari_metastasis.slides import Slide, earlier_fingerprint
from napari_metastasis.training.tasks.detect import DetectorTask, patch_spec
from napari_metastasis.training.tasks.refine import refiner_behind
from napari_metastasis.training.train import TrainingRun
from napari_metastasis.workflows.scan import PassRequest, ScanJob, scan_slide
from napari_metastasis.workflows.train.plan import CohortTraining, LabelledPatches, StepProgress
from napari_metastasis.workflows.train.run import train_on_cohort

SCAN = ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=200)
GRID = GridSettings(
    grid=3, grid_step=2, window_step=3, order="rows-columns", hidden=3, projected=2, residual=True, smoothing=3
)
SMALL = {"batch_size": 4, "device": "cpu", "precision": "float32", "workers": 0}
MAPS = ("heatmap.ome.zarr", "refined.ome.zarr")
TABLES = ("detections.csv", "lesions.csv", "lesions.geojson")


@pytest.fixture
def legacy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of that time, whose models are this user's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return unpack_legacy(tmp_path)


def scan(legacy: Path, output: Path):
    refine = PassRequest(task="refine", settings=RefineSettings(refine=True))
    return scan_slide(ScanJob(slide=legacy / "disc.tif", model="darkness", passes=(refine,), scan=SCAN, output=output))


@pytest.fixture
def known_as_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slides and annotations are known by what they were known by at that time."""
    monkeypatch.setattr(Slide, "fingerprint", Slide.earlier_fingerprint)
    monkeypatch.setattr(slide_index, "fingerprint", lambda files: earlier_fingerprint(*files))


def as_then(path: Path) -> object:
    """Return what a table says, without what came after that time, and without lengths and outlines.

    Those went round the squares of cells then, and follow the contour now; see :func:`shapes_in`.
    """
    if path.suffix == ".csv":
        rows = list(csv.reader(path.read_text("utf-8").splitlines()))
        later = {"length_mm", "cut_by_edge", "nuclei_estimated", "size_class_by"}
        # What a person said stands behind.
        told = rows[0].index("review") if "review" in rows[0] else len(rows[0])
        kept = [column for column, name in enumerate(rows[0][:told]) if name not in later]
        return [[row[column] for column in kept] for row in rows]
    features = json.loads(path.read_text("utf-8"))["features"]
    for feature in features:
        del feature["properties"]["classification"]["color"], feature["geometry"]
        measurements = feature["properties"]["measurements"]
        assert measurements.pop("Cut by edge", 0) == 0
        assert feature["properties"].pop("review", {}).get("state", "pending") == "pending"
        measurements.pop("Nuclei (estimated)", None)
        measurements.pop("Class by estimated nuclei", None)
        del measurements["Length mm"]
    return features


def shapes_in(folder: Path) -> list[tuple[float, shapely.Geometry]]:
    """Return the length and the outline of each lesion in ``lesions.geojson``."""
    features = json.loads((folder / "lesions.geojson").read_text("utf-8"))["features"]
    return [
        (feature["properties"]["measurements"]["Length mm"], shapely.geometry.shape(feature["geometry"]))
        for feature in features
    ]


def read_map(path: Path) -> np.ndarray:
    with MapStore.open(path) as stored:
        return stored.values()


def how(train: TrainSettings, augment: AugmentSettings) -> CohortTraining:
    return CohortTraining(
        train=train, augment=augment, sampling=SamplingSettings(patches_per_epoch=8, validation_patches=4),
        mining=MiningSettings(mining_threshold=0.0, mined_per_slide=10, mining_epochs=1, sheet_patches=5),
        scan=replace(SCAN, dense_coefficient=1), tissue=TissueSettings(),
    )  # fmt: skip


def cohort_of(run: Path) -> Cohort:
    return read_cohort(run / "cohort.csv", validation_share=0, seed=0)


def train(cohort: Cohort, task: object, settings: CohortTraining, output: Path) -> Path:
    run, steps = TrainingRun(output, "squares", "CC0"), StepProgress(no_bar, lambda: False, no_bar)
    return train_on_cohort(cohort, task, settings, run, steps, LabelledPatches()).weights


def train_refiner(legacy: Path, output: Path) -> dict[str, torch.Tensor]:
    settings = SpatialTrainSettings(**SMALL, epochs=2, optimiser="adamw", learning_rate=0.01)
    task = refiner_behind(load_detector("darkness"), "trained", GRID, 2)
    weights = train(cohort_of(legacy / "refiner"), task, how(settings, SpatialAugmentSettings()), output)
    return load_model(weights, "refine").network.state_dict()


def test_a_users_models_are_listed_and_loaded(legacy):
    tasks = {entry.name: entry.task for entry in list_models() if not entry.shipped}
    assert tasks == {"darkness": "detect", "mover": "refine"}
    detector = load_model("darkness")
    written = json.loads((legacy / "napari-metastasis" / "models" / "darkness.json").read_text("utf-8"))
    assert detector.weights_sha256 == written["weights_sha256"]
    assert json.loads(json.dumps(detector.spec.to_json())) == written["spec"]
    assert detector.card == written["card"]
    for name in ("darkness", "mover"):
        both = load_scan_models(name, tasks=("refine",))
        assert both.detector.weights_sha256 == detector.weights_sha256
        assert both.others["refine"].name == "mover"


def test_a_finished_scan_is_read_and_its_tables_are_written_the_same(legacy):
    folder = legacy / "finished.metastasis"
    before = {name: as_then(folder / name) for name in TABLES}
    shapes = shapes_in(folder)
    detections = (folder / "detections.csv").read_bytes()
    maps = [read_map(folder / name) for name in MAPS]
    record = json.loads((folder / "run.json").read_text("utf-8"))
    result = scan(legacy, folder)
    assert result.output == folder
    assert result.mpx_per_s == 0, "nothing is scanned again"
    assert result.slide_score == pytest.approx(record["slide_score"])
    assert {name: as_then(folder / name) for name in TABLES} == before
    for (length, outline), (length_then, then) in zip(shapes_in(folder), shapes, strict=True):
        assert length == pytest.approx(length_then, rel=0.1)
        assert outline.intersection(then).area > 0.85 * outline.union(then).area
    assert (folder / "detections.csv").read_bytes() == detections
    for name, stored in zip(MAPS, maps, strict=True):
        np.testing.assert_array_equal(read_map(folder / name), stored)
    again = json.loads((folder / "run.json").read_text("utf-8"))
    assert again["scans"][0] == record["scans"][0]
    for name in ("heatmap", "model"):
        assert again[name] == record[name], name
    # What was not counted at that time stands beside what was.
    assert again["coverage"] == {**again["coverage"], **record["coverage"]}
    assert again["coverage"]["whole"]
    for group, said in record["settings"].items():
        # Settings that came later stand beside those of that time.
        assert again["settings"][group] == {**again["settings"][group], **said}, group


def test_a_stopped_scan_goes_on_to_where_the_whole_one_came(legacy):
    stopped, finished = legacy / "stopped.metastasis", legacy / "finished.metastasis"
    before = read_map(stopped / MAPS[0])
    answered = ~np.isnan(before)
    whole = read_map(finished / MAPS[0])
    assert 0 < answered.sum() < (~np.isnan(whole)).sum()
    result = scan(legacy, stopped)
    assert result.output == stopped
    assert result.finished
    np.testing.assert_array_equal(read_map(stopped / MAPS[0])[answered], before[answered])
    for name in MAPS:
        np.testing.assert_allclose(read_map(stopped / name), read_map(finished / name), atol=1e-5, rtol=0)
    (features,) = stopped.glob("features-*.zarr")
    assert (finished / features.name).exists(), "it went on with what was encoded"
    for name in ("detections.csv", "lesions.csv"):
        assert as_then(stopped / name) == as_then(finished / name)


def test_a_finished_training_is_known_and_left_as_it_is(legacy):
    run = legacy / "refiner"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.suffix in {".json", ".safetensors", ".csv"}}
    train_refiner(legacy, run)
    assert {path: path.read_bytes() for path in before} == before


def test_a_stopped_training_goes_on_to_where_the_whole_one_came(legacy):
    run = legacy / "refiner-stopped"
    assert not (run / "spatial" / "trained.safetensors").exists()
    resumed = train_refiner(legacy, run)
    expected = load_model(legacy / "refiner" / "spatial" / "trained.safetensors").network.state_dict()
    # Not to the bit: the files were made on another machine, whose processor may add in another order.
    for name, tensor in expected.items():
        torch.testing.assert_close(resumed[name], tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("known_as_then")
def test_the_texts_of_a_refiners_training_are_the_same_today(legacy):
    old, new = legacy / "refiner", legacy / "refiner-today"
    # What was mined of two equal probabilities is a matter of their last digit, and goes into the fingerprint.
    shutil.copytree(old / "mining-1", new / "mining-1")
    train_refiner(legacy, new)
    for name in ("cohort.csv", "mining-1/mining.json", "spatial/settings.json", "spatial/slides.json"):
        assert (new / name).read_text("utf-8") == (old / name).read_text("utf-8"), name
    card, before = (json.loads((run / "spatial" / "trained.json").read_text("utf-8")) for run in (new, old))
    assert card["task"] == "refine", "which earlier cards did not say"
    assert card.keys() - {"task"} == before.keys()
    assert card["spec"] == before["spec"]
    assert card["card"].keys() == before["card"].keys()
    assert card["card"]["settings"] == before["card"]["settings"]


@pytest.mark.usefixtures("known_as_then")
def test_the_texts_of_a_detectors_training_are_the_same_today(legacy):
    old, new = legacy / "detector", legacy / "detector-today"
    task = DetectorTask(patch_spec("staged", "scannet-small", 0.972))
    train(cohort_of(old), task, how(TrainSettings(**SMALL, epochs=1), AugmentSettings()), new)
    for name in ("cohort.csv", "stage-0/settings.json", "stage-0/slides.json", "stage-1/slides.json"):
        assert (new / name).read_text("utf-8") == (old / name).read_text("utf-8"), name
    for name in ("mining-1/mining.json", "stage-1/settings.json"):
        written, before = (_without_hashes(run / name) for run in (new, old))
        assert written == before, name


def _without_hashes(path: Path) -> str:
    """Return a text without what follows from weights, which differ from machine to machine."""
    values = json.loads(path.read_text("utf-8"))
    known = {name: None for name in ("weights_sha256", "initial_sha256", "training_sha256") if name in values}
    return json.dumps(values | known, indent=2)
