"""``evaluate --cohort`` and ``--camelyon16``: from slides to the report."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dark_model import dark_model

from cli.conftest import FIXED_ENGINE, Run
from napari_metastasis.annotations import Annotation, AnnotationSet, write_asap_xml
from napari_metastasis.cli import main
from napari_metastasis.geometry import Size
from napari_metastasis.models import ScanModels
from napari_metastasis.slides import write_pyramid
from napari_metastasis.workflows import scan as scan_room
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan import batch as cohort_room


@pytest.fixture
def painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tumour slide whose lesion the model finds, and a normal one, laid out as CAMELYON16; any model is the fake."""
    monkeypatch.setattr(scan_room, "load_job_models", lambda _: ScanModels(dark_model()))
    root = tmp_path / "slides"
    (root / "testing" / "annotations").mkdir(parents=True)
    for name, dark in (("test_001", True), ("test_002", False)):
        pixels = np.full((900, 900, 3), 245, np.uint8)
        pixels[60:-60, 60:-60] = (225, 150, 195)
        if dark:
            pixels[200:600, 200:600] = (60, 20, 80)
            ring = np.array([(200, 200), (600, 200), (600, 600), (200, 600)], dtype=float)
            outlines = AnnotationSet((Annotation.of_rings(name="a", group="Tumor", exterior=ring),))
            write_asap_xml(root / "testing" / "annotations" / f"{name}.xml", outlines)
        write_pyramid(root / "testing" / f"{name}.tif", pixels, mpp=0.972, size=Size(900, 900), compression="deflate")
    return root


def test_tables_report_and_nothing_overwritten(here: Run, painted: Path) -> None:
    command = ("evaluate", "--cohort", painted, *FIXED_ENGINE)
    answer = here(*command)
    assert answer.status == 0, answer.err
    output = painted.parent / "slides-dark.evaluation"
    written = json.loads((output / "report" / "evaluation.json").read_text())
    assert written["froc_score_linear"] == written["auc"] == 1
    assert written["measured"]["layout"] == "camelyon16"
    assert f"Report: {output / 'report' / 'report.html'}" in answer.out
    assert "Fast ScanNet-16" not in answer.out
    # Refused before anything is scanned again.
    here(*command, "--detection-threshold", "0.7").fails_with("without an earlier report", "choose another folder")
    assert json.loads((output / "report" / "evaluation.json").read_text()) == written


def test_the_challenge_is_told_beside_its_table(here: Run, painted: Path, tmp_path: Path) -> None:
    (painted / "testing" / "test_003.tif").write_bytes(b"no slide")
    answer = here("evaluate", "--camelyon16", painted, "--output", tmp_path / "out", *FIXED_ENGINE)
    assert answer.status == 1
    assert "Fast ScanNet-16" in answer.out
    assert "dark (on 2 other slides: does not compare)" in answer.out
    assert "test_003.tif" in answer.err
    assert "got 1 that cannot be read" in answer.err
    written = json.loads((tmp_path / "out" / "report" / "evaluation.json").read_text())
    # The challenge takes one pixel size for all slides.
    assert (written["mpp_level0"], written["level"]) == (0.243, 5)
    (painted / "cohort.csv").write_text("slide\ntesting/test_001.tif\n")
    here("evaluate", "--camelyon16", painted / "cohort.csv").fails_with("laid out as camelyon16", "--cohort")


def test_ctrl_c_stops_and_the_same_command_goes_on(
    here: Run, painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cohort_room.scan_slide
    scanned: list[str] = []

    def interrupted(job, *arguments, **options):  # type: ignore[no-untyped-def]
        scanned.append(job.slide.stem)
        if len(scanned) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(job, *arguments, **options)

    monkeypatch.setattr(cohort_room, "scan_slide", interrupted)
    command = ("evaluate", "--cohort", painted, "--output", tmp_path / "out", *FIXED_ENGINE, "--json")
    stopped = here(*command)
    assert stopped.status == 130
    assert stopped.out == ""
    assert stopped.err.splitlines() == [
        "napari-metastasis: stopped; what was finished is kept, and the same command goes on from there"
    ]
    answer = here(*command)
    assert answer.status == 0, answer.err
    assert set(answer.json["slides"]) == {"test_001", "test_002"}


def test_everything_is_said_before_the_engine_is_closed(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CrashError(BaseException):
        pass

    def crash(_: EngineCache) -> None:
        raise CrashError

    monkeypatch.setattr(EngineCache, "close", crash)
    command = ["evaluate", "--cohort", str(painted), "--output", str(tmp_path / "out"), *FIXED_ENGINE, "--json"]
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr(sys, "stdout", SimpleNamespace(write=written.append, flush=lambda: written.append("flushed")))
        with pytest.raises(CrashError):
            main(command)
    assert set(json.loads(written[0])["slides"]) == {"test_001", "test_002"}
    assert written[1] == "flushed"
    assert (tmp_path / "out" / "report" / "report.html").exists()


@pytest.mark.parametrize("at", ["test_001", "test_002"])
def test_an_output_folder_that_is_taken_away_is_named(
    here: Run, painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    whole, output = cohort_room.scan_slide, tmp_path / "out"

    def taken_away(job, *arguments, **options):  # type: ignore[no-untyped-def]
        result = whole(job, *arguments, **options)
        if job.slide.stem == at:
            output.rename(tmp_path / "elsewhere")
        return result

    monkeypatch.setattr(cohort_room, "scan_slide", taken_away)
    answer = here("evaluate", "--cohort", painted, "--output", output, *FIXED_ENGINE, "--json")
    answer.fails_with("deleted, renamed or unmounted", "put it back")
    assert not output.exists()


def test_a_model_is_calibrated_on_slides(here: Run, painted: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.undo()
    made = tmp_path / "slides.safetensors"
    command = (
        "models", "calibrate", "scannet-pcam", "--cohort", painted, "--split", "test", "--output", made,
        "--false-area", "0.02", "--engine", "torch", "--precision", "float32",
    )  # fmt: skip
    answer = here(*command, "--json")
    assert answer.status == 0, answer.err
    said = json.loads(answer.out)
    shown = json.loads(here("models", "show", made, "--json").out)
    assert shown["spec"]["name"] == "scannet-pcam-calibrated"
    assert (shown["spec"]["prior"], shown["spec"]["threshold"]) == (0.01, said["threshold"])
    assert shown["card"]["calibration"] == said
    assert said["error_after"] < said["error_before"]
    assert said["slides"] == 2
    here(*command).fails_with("a new .safetensors file", "choose another --output")
