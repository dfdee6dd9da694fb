"""What a scan says of how much of the slide it answers for: in its files, its JSON and on the command line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from dark_model import mover
from disc_slide import DISC_CENTER, DISC_RADIUS
from scans import SCAN, scan_with

from napari_metastasis.cli.scan import say_result
from napari_metastasis.evaluation.scan_records import read_scan_record
from napari_metastasis.geometry import Region, Size
from napari_metastasis.scanning import Coverage
from napari_metastasis.settings import RefineSettings, TissueSettings
from napari_metastasis.slides import open_slide, tissue_mask, write_pyramid
from napari_metastasis.workflows.report import read_result
from napari_metastasis.workflows.scan import earlier_result, recorded_tissue

#: The left half of the disc, and tissue and glass around it.
HALF = Region(300, 300, round(DISC_CENTER.x) - 300, 700)


def run(slide, model, output, **changes):
    return scan_with(slide, model, output, **({"scan": SCAN} | changes))


def record_of(result):
    return json.loads((result.output / "run.json").read_text())


def test_a_part_of_a_slide_says_in_every_file_that_it_is_one(slide, model, tmp_path, capsys):
    result = run(slide, model, tmp_path / "out", region=HALF)
    tissue = tissue_mask(slide).over(result.frame)
    answered = tissue & ~np.isnan(result.probabilities)
    assert result.finished
    assert result.coverage == Coverage(int(tissue.sum()), int(answered.sum()))
    assert 0.2 < result.coverage.share < 0.6
    told = record_of(result)["coverage"]
    summary = json.loads(json.dumps(result.summary(), allow_nan=False))
    assert told == summary["coverage"]
    assert told["share"] == pytest.approx(result.coverage.share, abs=1e-6)
    assert (told["whole"], told["text"]) == (False, result.coverage.text)
    (lesion,) = result.lesions
    assert lesion.cut_by_edge
    assert summary["lesions"][0]["cut_by_edge"] is True
    assert summary["counts"] == {"itc": 0, "micro": 1, "macro": 0}
    state = f"{result.coverage.percent} of the tissue scanned"
    assert summary["verdict"] == {
        "slide": slide.name,
        "verdict": "micro",
        "settled": False,
        "whole": False,
        "why": state,
        "review": "",
        "text": f"at least micro ({state})",
    }
    assert summary["threshold"] == record_of(result)["settings"]["detection"]["threshold"] == 0.5
    with (result.output / "lesions.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["cut_by_edge"] == "1"
    (feature,) = json.loads((result.output / "lesions.geojson").read_text())["features"]
    assert feature["properties"]["name"] == "Lesion 1: Micro or larger, cut by the scanned area"
    assert feature["properties"]["measurements"]["Cut by edge"] == 1
    say_result(result)
    said = capsys.readouterr().out
    assert "micro or larger" in said
    assert "Verdict on the slide: at least micro\n" in said
    assert f"≥ {lesion.length_mm:.3f}" in said
    assert f"≥ {lesion.area_mm2:.4f}" in said
    assert f"Only {result.coverage.percent} of the tissue scanned: not a result for the slide\n" in said


def test_what_is_scanned_to_its_end_is_whole_in_however_many_goes(slide, model, tmp_path, capsys):
    run(slide, model, tmp_path / "out", region=HALF)
    result = run(slide, model, tmp_path / "out")
    assert result.coverage.whole
    assert record_of(result)["coverage"]["share"] == 1
    (lesion,) = result.lesions
    assert not lesion.cut_by_edge
    with (result.output / "lesions.csv").open() as file:
        assert [row["cut_by_edge"] for row in csv.DictReader(file)] == ["0"]
    say_result(result)
    said = capsys.readouterr().out
    assert "Verdict on the slide: micro\nWhole slide scanned\n" in said
    assert result.summary()["verdict"]["text"] == read_result(result.output).verdict.text == "micro"
    assert "or larger" not in said


def test_a_scan_that_does_not_mind_tissue_counts_the_same_cells(slide, model, tmp_path):
    minding = run(slide, model, tmp_path / "a", region=HALF)
    everywhere = run(slide, model, tmp_path / "b", region=HALF, scan=replace(SCAN, tissue_only=False))
    assert everywhere.coverage == minding.coverage
    assert record_of(everywhere)["coverage"]["cells_answered"] > record_of(minding)["coverage"]["cells_answered"]


def test_a_region_that_ends_beside_the_lesion_does_not_cut_it(slide, model, tmp_path):
    around = Region.of(Size(round(2 * DISC_RADIUS) + 200, round(2 * DISC_RADIUS) + 200)).shifted(
        round(DISC_CENTER.x - DISC_RADIUS) - 100, round(DISC_CENTER.y - DISC_RADIUS) - 100
    )
    result = run(slide, model, tmp_path / "out", region=around)
    assert not result.coverage.whole
    assert [lesion.cut_by_edge for lesion in result.lesions] == [False]


def test_the_scans_own_answers_count_where_a_later_pass_has_none(slide, model, tmp_path):
    refiner = mover(model)
    seen = []
    stopped = run(
        slide,
        model,
        tmp_path / "out",
        refiner=refiner,
        refine=RefineSettings(refine=True),
        progress=lambda *call: seen.append(call),
        should_stop=lambda: len(seen) > 3,
    )
    assert not stopped.finished
    tissue = tissue_mask(slide).over(stopped.frame)
    assert stopped.coverage.answered_cells == np.count_nonzero(tissue & ~np.isnan(stopped.probabilities))
    assert not stopped.coverage.whole


def test_a_pass_that_ends_before_the_scan_does_says_so_everywhere(slide, model, tmp_path, capsys):
    refiner, refine = mover(model), RefineSettings(refine=True)
    kept = run(slide, model, tmp_path / "out", refiner=refiner, refine=RefineSettings(keep_features=True))
    assert kept.partly == ()
    partly = run(slide, model, tmp_path / "out", refiner=refiner, refine=refine, region=HALF)
    assert partly.finished
    assert partly.coverage.whole
    record = record_of(partly)
    counted = record["passes"][0]["tissue_cells_answered"]
    assert 0 < counted < record["coverage"]["answered_cells"]
    (line,) = partly.partly
    assert line == (
        f"Refined: {round(100 * counted / partly.coverage.tissue_cells)} % of the tissue; elsewhere the scan's own "
        "answers count"
    )
    assert line in record["scans"][-1]["notes"]
    assert partly.summary()["notes"] == [line]
    say_result(partly)
    said = capsys.readouterr()
    assert f"Whole slide scanned\n{line}\n" in said.out
    assert "the maps beside the scan's own were made in" in said.err
    assert line in read_result(partly.output).notes
    assert line in earlier_result(slide, tmp_path / "out").told
    whole = run(slide, model, tmp_path / "out", refiner=refiner, refine=refine)
    assert whole.partly == ()
    assert record_of(whole)["passes"][0]["tissue_cells_answered"] == record_of(whole)["coverage"]["answered_cells"]
    assert read_scan_record(whole.output) is not None
    say_result(whole)
    assert "nothing was left to scan" not in capsys.readouterr().err
    say_result(run(slide, model, tmp_path / "out", refiner=refiner, refine=refine))
    assert "nothing was left to scan" in capsys.readouterr().err


def test_a_slide_without_tissue_says_that_nothing_was_scanned(model, tmp_path):
    write_pyramid(tmp_path / "glass.tif", np.full((600, 800, 3), 245, np.uint8), mpp=0.486, size=Size(800, 600))
    with open_slide(tmp_path / "glass.tif") as glass:
        result = run(glass, model, tmp_path / "out")
        assert result.finished
        assert record_of(result)["coverage"] == {
            "tissue_fraction": 0.0, "cells_answered": 0, "tissue_cells": 0, "answered_cells": 0, "share": None,
            "whole": False, "text": "No tissue found: nothing was scanned",
        }  # fmt: skip
        everything = run(glass, model, tmp_path / "out", scan=replace(SCAN, tissue_only=False))
        assert everything.coverage.whole


def test_the_tissue_that_a_stored_scan_counted_is_found_again(slide, model, tmp_path):
    settings = TissueSettings(margin_um=200.0, min_object_um=50)
    result = run(slide, model, tmp_path / "out", tissue=settings)
    assert result.coverage.whole
    assert recorded_tissue(result.output) == settings
    assert result.coverage.tissue_cells > np.count_nonzero(tissue_mask(slide).over(result.frame))


@pytest.mark.parametrize(
    "told",
    [None, [], {}, {"margin_um": None}, {"margin_um": "64"}, {"margin_um": True}, {"margin_um": -1.0}, {"mpp": 1e9}],
)
def test_tissue_settings_that_cannot_be_so_are_not_believed(tmp_path, told):
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"tissue": told}}))
    assert recorded_tissue(tmp_path) is None
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"tissue": {"margin_um": 10}}}))
    assert recorded_tissue(tmp_path) == TissueSettings(margin_um=10)
    assert recorded_tissue(tmp_path / "nowhere") is None
