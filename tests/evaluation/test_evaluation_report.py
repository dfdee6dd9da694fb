"""The report: one file, nothing from elsewhere, nothing that a name could inject, nothing overwritten."""

from __future__ import annotations

import builtins
import json
import re
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest
from evaluation_cohorts import outcome, random_outcomes

from napari_metastasis.errors import MissingDependencyError, StorageError
from napari_metastasis.evaluation import (
    LeftOut,
    ScoredCells,
    count_cells,
    prepare_report,
    report_html,
    score_slides,
    write_report,
)
from napari_metastasis.settings import EvaluationSettings

QUICK = EvaluationSettings(resamples=100)


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.open, self.cells = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in {"src", "href", "srcset"}]
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in {"td", "th"}:
            self.cells.append(data)


def test_a_page_of_its_own():
    report = score_slides(random_outcomes(2), QUICK)
    page = Page(report_html(report))
    assert page.open == []
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert "script" not in page.tags
    pictures = [b64decode(source.partition(",")[2]).decode() for source in page.sources]
    # Nothing is loaded: addresses occur as names of dialects alone.
    assert not re.search(r'(?:href|src)="(?!#)', "".join(pictures))
    for figure in report.figures().values():
        assert f"{figure.value:.4f}" in page.cells
    for slide in report.outcomes:
        assert slide.slide in page.cells


def test_cells_have_a_picture_and_figures_of_their_own():
    outcomes = random_outcomes(2)
    rng = np.random.default_rng(3)
    counts = {
        one.slide: count_cells(
            rng.random((40, 40), dtype=np.float32), rng.random((40, 40)) < 0.1 * one.is_tumour, cell_um=16.0
        )
        for one in outcomes
    }
    report = score_slides(outcomes, QUICK, cells=ScoredCells(counts, 0.5, 0.01))
    page = Page(report_html(report))
    assert len(page.sources) == 4
    assert "calibration error of cells" in page.cells
    assert "false detections in a mm² of normal tissue" in page.cells
    assert report.to_json()["cell_prior"] == 0.01


def test_the_same_figures_give_the_same_page():
    first, second = (report_html(score_slides(random_outcomes(2), QUICK)) for _ in range(2))
    assert first == second


def test_names_are_text():
    name = '<script>alert("1")</script>&amp;'
    slides = [outcome(0.5, slide=name), outcome(slide="b")]
    report = score_slides(slides, QUICK, left_out=[LeftOut("<b>", "<img src=x>", is_failure=True)])
    page = Page(report_html(report))
    assert {"script", "b"}.isdisjoint(page.tags)
    assert page.tags.count("img") == 3
    assert name in "".join(page.cells)
    assert "<img src=x>" in page.cells


def test_published_figures_are_listed_and_ours_only_beside_the_same_slides():
    page = Page(report_html(score_slides(random_outcomes(2), QUICK)))
    for text in ("Fast ScanNet-16", "0.8533", "0.9875", "Human performance"):
        assert text in page.cells
    assert "These detections" not in page.cells
    slides = [outcome(0.5, slide=f"Test_{number:03d}") for number in range(1, 131) if number not in (49, 114)]
    slides[0] = outcome(false=[0.2], slide="Test_001")
    assert "These detections" in Page(report_html(score_slides(slides, QUICK))).cells


def test_a_cohort_that_allows_no_curve_has_a_page_all_the_same():
    page = Page(report_html(score_slides([outcome(false=[0.1])], QUICK)))
    assert page.sources == []


def test_nothing_is_overwritten(tmp_path):
    report = score_slides(random_outcomes(2), QUICK)
    folder = tmp_path / "a" / "b"
    path = write_report(report, folder)
    assert sorted(one.name for one in folder.iterdir()) == ["evaluation.json", "report.html"]
    assert json.loads((folder / "evaluation.json").read_text()) == json.loads(json.dumps(report.to_json()))
    before = path.read_bytes()
    other = score_slides(random_outcomes(3), QUICK)
    with pytest.raises(StorageError, match=r"without an earlier report, got .*report\.html; choose"):
        write_report(other, folder)
    assert path.read_bytes() == before


def test_the_same_report_may_lie_there(tmp_path):
    report = score_slides(random_outcomes(2), QUICK)
    assert not prepare_report(tmp_path)
    write_report(report, tmp_path)
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in tmp_path.iterdir()}
    assert prepare_report(tmp_path)
    write_report(report, tmp_path)
    assert {path: (path.read_bytes(), path.stat().st_ino) for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("left", [["evaluation.json"], ["report.html"]])
def test_half_a_report_is_completed_and_half_of_another_one_is_kept(tmp_path, left):
    report, other = (score_slides(random_outcomes(seed), QUICK) for seed in (2, 3))
    write_report(report, tmp_path / "whole")
    (tmp_path / "half").mkdir()
    for name in left:
        (tmp_path / "half" / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    assert not prepare_report(tmp_path / "half")
    with pytest.raises(StorageError, match="without an earlier report"):
        write_report(other, tmp_path / "half")
    assert [path.name for path in (tmp_path / "half").iterdir()] == left
    write_report(report, tmp_path / "half")
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "half" / path.name).read_bytes() == path.read_bytes()


def test_a_report_of_something_else_is_met_before_anything_is_computed(tmp_path):
    report = score_slides(random_outcomes(2), QUICK, measured={"model": "a", "interval": (1, 2)})
    write_report(report, tmp_path)
    assert prepare_report(tmp_path, {"model": "a", "interval": (1, 2)})
    with pytest.raises(StorageError, match="without an earlier report"):
        prepare_report(tmp_path, {"model": "b", "interval": (1, 2)})
    (tmp_path / "evaluation.json").write_text("[" * 100_000)
    with pytest.raises(StorageError, match="without an earlier report"):
        prepare_report(tmp_path, {"model": "a"})


def test_without_what_draws_the_plots_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r"expected matplotlib .*napari-metastasis\[evaluate\]"):
        write_report(score_slides(random_outcomes(2), QUICK), tmp_path / "report")
    assert not (tmp_path / "report").exists()
