"""A synthetic cohort: its layout, its shares, its outlines, and that an interrupted one is gone on with."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import shapely
from tiny_cohort import TINY, tiny_cohort
from typer.testing import CliRunner

from napari_metastasis.annotations import rasterize, read_asap_xml
from napari_metastasis.cli.app import app
from napari_metastasis.errors import SettingsError, StorageError
from napari_metastasis.geometry import LevelFrame, Region
from napari_metastasis.settings import CohortSampleSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.stopping import stoppable
from napari_metastasis.synthetic import SyntheticSlide, make_cohort, plan_cohort
from napari_metastasis.synthetic import _cohort as room
from napari_metastasis.synthetic._optics import Stain
from napari_metastasis.synthetic._tissue import Kind


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_cohort(tmp_path_factory), plan_cohort(TINY)


def files(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_files_lie_as_camelyon16_has_them(tiny):
    folder, plan = tiny
    assert set(files(folder)) == {
        "cohort.csv",
        "synthetic-cohort.json",
        "testing/reference.csv",
        "training/normal/normal_1001.tif",
        "training/normal/normal_1002.tif",
        "training/tumor/tumor_1001.tif",
        "training/tumor/tumor_1002.tif",
        "training/lesion_annotations/tumor_1001.xml",
        "training/lesion_annotations/tumor_1002.xml",
        "testing/images/test_1001.tif",
        "testing/images/test_1002.tif",
        "testing/lesion_annotations/test_1002.xml",
    }
    assert rows(folder / "testing/reference.csv") == [
        ["test_1001", "Normal", "None", "None"],
        ["test_1002", "Tumor", "IDC", "ITC"],
    ]
    head, *lines = rows(folder / "cohort.csv")
    assert head == ["slide", "annotation", "split", "patient", "node"]
    assert [line[2] for line in lines] == ["train", "train", "validation", "validation", "test", "test"]
    for slide, annotation, _, _, node in lines:
        assert (folder / slide).is_file()
        assert (annotation == "") == ("normal" in slide or "test_1001" in slide)
        assert not annotation or (folder / annotation).is_file()
        assert node == "1"
    assert len({line[3] for line in lines}) == 6 == len(plan.slides)


def test_both_readings_of_the_folder_agree(tiny):
    """The cohort file, and the layout as any copy of CAMELYON16 is recognised."""
    from napari_metastasis.cohorts.cohort import read_cohort
    from napari_metastasis.cohorts.layouts import read_layout

    folder, _ = tiny
    listed = read_cohort(folder / "cohort.csv", validation_share=0.0, seed=1)
    survey = read_layout(folder)
    assert survey.layout == "camelyon16"
    assert not survey.left_out

    def seen(slides):
        return {
            (slide.path.stem, slide.annotation and slide.annotation.resolve(), slide.split == "test", slide.exhaustive)
            for slide in slides
        }

    assert seen(listed.slides) == seen(survey.slides)


def test_outlines_lie_on_the_tumour_that_is_drawn(tiny):
    folder, plan = tiny
    for planned in plan.slides:
        if planned.annotation is None:
            continue
        slide = SyntheticSlide(planned.settings)
        annotations = read_asap_xml(folder / planned.annotation)
        with open_slide(folder / planned.slide) as stored:
            assert (stored.size, stored.mpp) == (slide.size, pytest.approx(slide.mpp, rel=1e-6))
            whole = stored.read_level(0, Region.of(stored.size))
        x, y = np.meshgrid(np.arange(0, slide.size.width, 4) + 0.5, np.arange(0, slide.size.height, 4) + 0.5)
        kinds, depth = slide.kinds_at((x * slide.mpp).astype(np.float32), (y * slide.mpp).astype(np.float32))
        mask = rasterize(annotations, LevelFrame(downsample=1, mpp=slide.mpp), Region.of(slide.size))
        inside = mask[::4, ::4]
        assert ((depth > 0) == inside).mean() > 0.999
        assert not (kinds[~inside & (depth < -1)] == Kind.NEST).any()
        # Not the drawing's own word for it: the pixels that were stored are more even within the outlines than around.
        outline = shapely.union_all([shapely.Polygon(each.exterior) for each in annotations])
        ring = shapely.contains_xy(outline.buffer(60), x, y) & ~shapely.contains_xy(outline.buffer(8), x, y)
        green = whole[::4, ::4, 1].astype(float)
        assert green[inside].std() < green[ring].std() - 10


def test_an_interrupted_cohort_is_gone_on_with(tiny, tmp_path, monkeypatch):
    """What is there stays, what is missing is drawn, and the result is that of a call that was not interrupted.

    Two slides are missing, for two processes to draw.
    """
    folder, plan = tiny
    draw, drawn = room._draw, []

    def interrupted(root, planned):
        if len(drawn) == 1:
            raise KeyboardInterrupt
        drawn.append(planned.name)
        draw(root, planned)

    monkeypatch.setattr(room, "_draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_cohort(tmp_path, TINY)
    assert "cohort.csv" not in files(tmp_path)
    # As a killed process leaves it: outlines without their slide, and a part of a file.
    (tmp_path / "training/tumor/.0123.part").write_bytes(b"half")
    missing = [planned.slide for planned in plan.slides if planned.name not in drawn][:2]
    for planned in plan.slides:
        if planned.annotation:
            shutil.copy(folder / planned.annotation, tmp_path / planned.annotation)
        if planned.name not in drawn and planned.slide not in missing:
            shutil.copy(folder / planned.slide, tmp_path / planned.slide)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tif")}
    assert kept
    monkeypatch.setattr(room, "_draw", draw)
    make_cohort(tmp_path, replace(TINY, processes=2))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    again = files(tmp_path)
    del again["training/tumor/.0123.part"]
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in files(folder).items()
    }


def test_what_is_there_is_never_drawn_over(tiny, tmp_path):
    folder, plan = tiny
    before = {name: path.stat().st_mtime_ns for name, path in files(folder).items()}
    with pytest.raises(StorageError, match=r"expected the cohort in .* to be of these settings, got another one"):
        make_cohort(folder, replace(TINY, seed=4))
    assert {name: path.stat().st_mtime_ns for name, path in files(folder).items()} == before
    theirs = tmp_path / plan.slides[0].slide
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"a slide of somebody's")
    with pytest.raises(StorageError, match="expected no cohort of others in"):
        make_cohort(tmp_path, TINY)
    assert theirs.read_bytes() == b"a slide of somebody's"


@pytest.mark.parametrize("name", ["cohort.csv", "testing/reference.csv", "training/tumor/tumor_001.tif"])
def test_tables_of_real_cohorts_are_never_overwritten(tmp_path, name):
    theirs = tmp_path / name
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("of somebody's")
    with pytest.raises(StorageError, match="expected no cohort of others in"):
        make_cohort(tmp_path, TINY)
    assert theirs.read_text() == "of somebody's"
    assert files(tmp_path) == {name: theirs}


def test_tables_that_somebody_edited_stay(tiny, tmp_path):
    folder, _ = tiny
    shutil.copytree(folder, tmp_path / "cohort")
    edited = tmp_path / "cohort" / "cohort.csv"
    edited.write_text(edited.read_text().replace("test", "validation"))
    before = edited.read_text()
    make_cohort(tmp_path / "cohort", TINY)
    assert edited.read_text() == before


def test_every_split_has_its_share_of_every_kind():
    plan = plan_cohort(CohortSampleSettings(slides=100))
    kinds = {split: [s.kind for s in plan.slides if s.split == split] for split in ("train", "validation", "test")}
    assert {split: len(found) for split, found in kinds.items()} == {"train": 50, "validation": 20, "test": 30}
    for found in kinds.values():
        assert found.count("normal") == len(found) // 2
        tumour = len(found) - found.count("normal")
        # One slide is as near as whole slides come.
        for kind, share in (("macro", 2 / 6), ("micro", 3 / 6), ("itc", 1 / 6)):
            assert abs(found.count(kind) - share * tumour) <= 1
    for planned in plan.slides:
        shown = planned.settings
        assert (shown.macro > 0) == (planned.kind == "macro")
        assert planned.kind != "normal" or shown.micro == shown.itc == 0
        assert planned.kind not in {"micro", "itc"} or getattr(shown, planned.kind) > 0
    for trait in ("seed", "grade", "mimics", "variety", "fat_mm"):
        assert len({getattr(planned.settings, trait) for planned in plan.slides}) == 100
    assert {Stain.from_settings(planned.settings).sharpen for planned in plan.slides} == {0.55, 0.3}


def test_plans_repeat_themselves_and_seeds_differ():
    settings = CohortSampleSettings(slides=12)
    assert plan_cohort(settings) == plan_cohort(settings)
    other = plan_cohort(replace(settings, seed=2))
    mine = {planned.settings.seed for planned in plan_cohort(settings).slides}
    assert mine.isdisjoint({planned.settings.seed for planned in other.slides})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"slides": 2}, "expected slides between 6 and 2000, got 2"),
        ({"mpp": 2.0}, "expected mpp between 0.2 and 1"),
        ({"test_share": 0.6, "validation_share": 0.5}, "expected test-share and validation-share of at most 0.9"),
        ({"macro": 0, "micro": 0, "itc": 0}, "expected macro, micro or itc above 0"),
    ],
)
def test_settings_that_make_no_cohort_are_refused(wrong, told):
    with pytest.raises(SettingsError, match=told):
        CohortSampleSettings(**wrong)


def test_the_command_goes_on_and_prints_one_json_object(tiny):
    folder, _ = tiny
    options = [
        "--slides=6", "--seed=3", "--width-px=1100", "--height-px=1000", "--macro=0", "--micro=0", "--itc=1",
        "--test-share=0.34", "--validation-share=0.34",
    ]  # fmt: skip
    result = CliRunner().invoke(app, ["sample", "cohort", str(folder), *options, "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["slides"] == 6
    assert told["splits"]["test"] == {"normal": 1, "itc": 1, "micro": 0, "macro": 0}


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGTERM from another process")
def test_processes_that_draw_end_when_the_drawing_is_stopped(tmp_path) -> None:
    """Slides of minutes: half drawn, they are cleared away."""

    def stop() -> None:
        until = time.monotonic() + 100
        while not list(tmp_path.rglob(".*.part")) and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = set(multiprocessing.active_children())
    settings = replace(TINY, width_px=8000, height_px=8000, processes=2)
    stopper = threading.Thread(target=stop)
    with stoppable("") as stopped:
        stopper.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            make_cohort(tmp_path, settings)
    stopper.join()
    assert stopped.number == signal.SIGTERM
    assert time.monotonic() - began < 100
    assert set(multiprocessing.active_children()) == before
    assert not list(tmp_path.rglob(".*"))
