"""Many slides at once: which slides paths stand for, and the summary that grows as they are scanned."""

from __future__ import annotations

import csv
import os
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from dark_model import dark_model
from disc_slide import write_disc_slide
from read_only import make_read_only
from results import NO_TISSUE, PARTIAL, WHOLE, change_record, write_lesions
from scans import SCAN

from napari_metastasis.cli.scan_many import _say_slides
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import CohortError, ScanCancelledError, StorageError, StorageWarning
from napari_metastasis.models import ScanModels
from napari_metastasis.workflows.report import (
    SlideSummary,
    SummaryFiles,
    find_slides,
    is_one_slide,
    many,
    read_result,
    scan_slides,
    write_report,
)
from napari_metastasis.workflows.scan import EngineCache, ScanJob, batch

#: What a DICOM file begins with.
_DICOM = bytes(128) + b"DICM"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return write_disc_slide(tmp_path_factory.mktemp("drawn") / "node.tif")


def touch(folder: Path, *names: str, content: bytes = b"II*\0") -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_DICOM if path.suffix == ".dcm" else content)
    return paths


def scan(slides, *, output, summary, **how):
    with EngineCache(lambda _: ScanModels(dark_model())) as engines:
        job = ScanJob(slide=Path("many"), model="in memory", scan=SCAN)
        return list(scan_slides(slides, job, output=output, summary=SummaryFiles(summary), engines=engines, **how))


def rows_of(folder):
    with (folder / "summary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class TestFinding:
    def test_a_file_is_one_slide_whatever_it_is_called(self, tmp_path):
        (file,) = touch(tmp_path, "odd.xyz")
        assert is_one_slide(file)
        assert is_one_slide(tmp_path / "nothing.svs")
        assert not is_one_slide(tmp_path / "LIST.CSV")

    def test_a_folder_of_dicom_files_is_one_slide(self, tmp_path):
        touch(tmp_path, "case/a.dcm", "case/b.dcm", "case/preview/small.tif")
        assert is_one_slide(tmp_path / "case")
        (slide,) = find_slides([tmp_path / "case"])
        assert (slide.path, slide.name) == (tmp_path / "case", "case")

    def test_an_empty_folder_is_no_list_of_none(self, tmp_path):
        """Whoever opens it says why it is no slide."""
        assert is_one_slide(tmp_path)

    def test_a_folder_stands_for_the_slides_in_it(self, tmp_path):
        touch(
            tmp_path,
            "b.svs",
            "a.tif",
            "deep/er/c.ndpi",
            "deep/1.2.3/x.dcm",
            "e.czi",
            "f.isyntax",
            "g.vsi",
            # None of these is a slide.
            "notes.txt",
            "a_mask.tif",
            "masks/a.tif",
            "picture.png",
            "a.metastasis/overview.tif",
            ".hidden/d.svs",
            "_g_/stack1/frame_t.tif",
        )
        assert not is_one_slide(tmp_path)
        found = find_slides([tmp_path])
        names = ["a.tif", "b.svs", "deep/1.2.3", "deep/er/c.ndpi", "e.czi", "f.isyntax", "g.vsi"]
        assert [slide.path.relative_to(tmp_path).as_posix() for slide in found] == names
        assert [slide.name for slide in found] == ["a", "b", "1.2.3", "c", "e", "f", "g"]

    def test_slides_and_dicom_files_in_one_folder_are_many(self, tmp_path):
        touch(tmp_path, "a.svs", "b.dcm")
        assert not is_one_slide(tmp_path)
        assert [slide.path for slide in find_slides([tmp_path])] == [tmp_path, tmp_path / "a.svs"]

    @pytest.mark.parametrize("column", ["slide", "path", "PATH"])
    def test_a_list_names_slides_relative_to_itself(self, tmp_path, column):
        touch(tmp_path, "in/a.tif", "in/dicom.1/x.dcm")
        table = tmp_path / "list.csv"
        table.write_text(f"{column},mpp,swap_red_blue\nin/a.tif,0.25,yes\nin/dicom.1,,\n/abs/b.svs,,no\n")
        a, dicom, b = find_slides([table], mpp=0.5)
        assert (a.path, a.name, a.mpp, a.swap_red_blue) == (tmp_path / "in/a.tif", "a", 0.25, True)
        assert (dicom.name, dicom.mpp, dicom.swap_red_blue) == ("dicom.1", 0.5, False)
        assert (b.path, b.mpp, b.swap_red_blue) == (Path("/abs/b.svs"), 0.5, False)

    @pytest.mark.parametrize("text", ["", "slide\n", "slides\na.tif\n", "path,slide\na,b\n", "slide,mpp\na.tif,wide\n"])
    def test_a_list_that_is_not_understood_is_one_error(self, tmp_path, text):
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises(CohortError, match=r"list\.csv"):
            find_slides([tmp_path / "list.csv"])

    @pytest.mark.parametrize(
        "lines", ["a.tif,0.25,\na.tif,0.5,\n", "a.tif,,yes\n./a.tif,,no\n", "a.tif,0.25,\na.tif,,\n"]
    )
    def test_a_slide_that_lists_say_different_things_of_is_one_error(self, tmp_path, lines):
        first, *rest = lines.splitlines(keepends=True)
        (tmp_path / "all.csv").write_text(f"slide,mpp,swap_red_blue\n{lines}")
        (tmp_path / "one.csv").write_text(f"slide,mpp,swap_red_blue\n{first}")
        (tmp_path / "other.csv").write_text(f"slide,mpp,swap_red_blue\n{''.join(rest)}")
        for paths in (["all.csv"], ["one.csv", "other.csv"]):
            with pytest.raises(CohortError, match=r"a\.tif, got it listed twice with different ones") as raised:
                find_slides([tmp_path / path for path in paths])
            assert "\n" not in str(raised.value)
        assert len(find_slides([tmp_path / "one.csv", tmp_path / "one.csv"])) == 1

    def test_a_list_knows_more_than_the_folder_that_a_slide_lies_in(self, tmp_path):
        touch(tmp_path, "a.tif")
        (tmp_path / "list.csv").write_text("slide,mpp,swap_red_blue\na.tif,0.25,yes\n")
        for paths in ([tmp_path, tmp_path / "list.csv"], [tmp_path / "list.csv", tmp_path]):
            (slide,) = find_slides(paths, mpp=0.5)
            assert (slide.mpp, slide.swap_red_blue) == (0.25, True)

    def test_a_slide_that_is_named_twice_is_scanned_once(self, tmp_path):
        touch(tmp_path, "a.tif", "b.tif")
        found = find_slides([tmp_path / "b.tif", tmp_path, tmp_path / "." / "a.tif"])
        assert [slide.name for slide in found] == ["b", "a"]

    def test_what_holds_for_all_holds_for_slides_that_no_list_knows(self, tmp_path):
        touch(tmp_path, "a.tif")
        (slide,) = find_slides([tmp_path], mpp=0.3, swap_red_blue=True)
        assert (slide.mpp, slide.swap_red_blue) == (0.3, True)


class TestScanning:
    def test_each_slide_gets_its_report_and_a_row(self, drawn, tmp_path):
        folder = tmp_path / "in & out"
        folder.mkdir()
        for name in ("=a.tif", "b #1?.tif"):
            shutil.copy(drawn, folder / name)
        touch(folder, "broken.svs", content=b"no slide")
        done = scan(find_slides([folder]), output=None, summary=tmp_path, picture=True)
        assert [row.slide.name for row, _ in done] == ["=a.tif", "b #1?.tif", "broken.svs"]
        assert [bool(values) for _, values in done] == [True, True, False]
        first, second, broken = rows_of(tmp_path)
        assert broken["state"] == "failed"
        assert "broken.svs" in broken["error"]
        assert first["error"] == second["error"] == broken["result"] == broken["macro"] == ""
        assert first["slide"] == str(folder / "=a.tif")
        for row in (first, second):
            result = Path(row["result"])
            assert result.parent == folder
            assert (result / "report.html").stat().st_size > 10_000
            assert (result / "overview.png").stat().st_size > 10_000
            assert [row[name] for name in ("itc", "micro", "macro")] == ["0", "1", "0"]
            assert float(row["largest_mm"]) == pytest.approx(0.25, abs=0.03)
            assert float(row["slide_score"]) > 0.9
            assert float(row["seconds"]) > 0
            assert row["model"] == read_result(result).models[0].name
        html = (tmp_path / "index.html").read_text("utf-8")
        links = [unquote(link) for link in re.findall(r'href="([^"]+)"', html)]
        assert [(tmp_path / link).resolve() for link in links] == [
            (Path(row["result"]) / "report.html").resolve() for row in (first, second)
        ]
        assert html.count("data:image/jpeg") == 2
        assert "Not a medical device" in html

    def test_again_nothing_is_scanned_again(self, drawn, tmp_path):
        shutil.copy(drawn, tmp_path / "a.tif")
        slides = find_slides([tmp_path])
        ((before, _),) = scan(slides, output=tmp_path / "out", summary=tmp_path / "out")
        ((after, values),) = scan(slides, output=tmp_path / "out", summary=tmp_path / "out")
        assert values["mpx_per_s"] == 0
        # What it took stays what it took.
        assert after.result.seconds == pytest.approx(before.result.seconds, abs=0.2)
        assert (tmp_path / "out" / "a.metastasis" / "report.html").exists()

    def test_a_summary_that_takes_long_is_written_now_and_then_and_at_the_end(self, monkeypatch):
        clock, written = SimpleNamespace(now=0.0), []
        monkeypatch.setattr(many, "time", SimpleNamespace(monotonic=lambda: clock.now))

        def write():
            clock.now += 10
            written.append(clock.now)

        with many._paced(write) as now_and_then:
            # After the first slide; not after one that comes soon; after one that comes when enough time has passed.
            for pause, count in ((0, 1), (1, 1), (198, 1), (2, 2), (5, 2)):
                clock.now += pause
                now_and_then()
                assert len(written) == count
        assert len(written) == 3

    def test_the_summary_grows_as_slides_are_done(self, drawn, tmp_path):
        for name in "ab":
            shutil.copy(drawn, tmp_path / f"{name}.tif")
        asked = []

        def stop_in_the_second():
            asked.append((tmp_path / "summary.csv").exists())
            return asked[-1]

        with pytest.raises(ScanCancelledError):
            scan(find_slides([tmp_path]), output=None, summary=tmp_path, should_stop=stop_in_the_second)
        first, second = rows_of(tmp_path)
        assert first["micro"] == "1"
        assert (second["state"], second["micro"]) == ("not scanned yet", "")
        assert "Not scanned yet" in (tmp_path / "index.html").read_text("utf-8")
        assert len(scan(find_slides([tmp_path]), output=None, summary=tmp_path)) == 2
        assert [row["micro"] for row in rows_of(tmp_path)] == ["1", "1"]

    @pytest.mark.parametrize("output", [None, "out"])
    def test_slides_of_one_name_are_told_before_anything_is_scanned(self, tmp_path, output):
        names = ("x/a.tif", "y/a.tif") if output else ("x/a.tif", "x/a.svs")
        touch(tmp_path, *names, "x/b.tif")
        where = None if output is None else tmp_path / output
        with pytest.raises(CohortError, match="got a twice") as raised:
            scan(find_slides([tmp_path]), output=where, summary=tmp_path)
        assert all(str(tmp_path / name) in str(raised.value) for name in names)
        assert not list(tmp_path.rglob("*.metastasis"))
        assert not (tmp_path / "summary.csv").exists()

    def test_slides_of_one_name_in_two_folders_have_results_of_their_own_beside_them(self, drawn, tmp_path):
        for name in "xy":
            (tmp_path / name).mkdir()
            shutil.copy(drawn, tmp_path / name / "a.tif")
        done = scan(find_slides([tmp_path]), output=None, summary=tmp_path)
        assert [row.result.folder for row, _ in done] == [tmp_path / "x/a.metastasis", tmp_path / "y/a.metastasis"]

    @pytest.mark.parametrize("name", ["summary.csv", "index.html"])
    def test_files_of_somebody_else_are_not_written_over(self, drawn, tmp_path, name):
        shutil.copy(drawn, tmp_path / "a.tif")
        (tmp_path / name).write_text("mine")
        with pytest.raises(StorageError, match=f"{name} .*move it away"):
            scan(find_slides([tmp_path]), output=None, summary=tmp_path)
        assert (tmp_path / name).read_text() == "mine"
        assert not list(tmp_path.glob("*.metastasis"))

    def test_a_folder_that_may_not_be_written_is_that_of_its_slides(self, drawn, tmp_path, monkeypatch):
        for name in "ab":
            (tmp_path / name).mkdir()
            shutil.copy(drawn, tmp_path / name / f"{name}.tif")
        whole = batch.scan_slide

        def refuse(job, *rest, **more):
            if job.slide.stem == "a":
                error = StorageError("expected to write a, got no permission; choose another folder")
                error.errno = 13
                raise error
            return whole(job, *rest, **more)

        monkeypatch.setattr(batch, "scan_slide", refuse)
        slides = find_slides([tmp_path])
        failed, scanned = (row for row, _ in scan(slides, output=None, summary=tmp_path))
        assert "no permission" in failed.error
        assert scanned.error == ""
        # The one folder of all results is nobody's own.
        with pytest.raises(StorageError):
            scan(slides, output=tmp_path / "out", summary=tmp_path / "out")

    def test_a_report_that_fails_is_that_slides_own_fault(self, drawn, tmp_path, monkeypatch):
        for name in "ab":
            shutil.copy(drawn, tmp_path / f"{name}.tif")

        def odd(folder):
            if folder.name == "a.metastasis":
                raise RuntimeError("odd")
            return write_report(folder)

        monkeypatch.setattr(many, "write_report", odd)
        first, second = (row for row, _ in scan(find_slides([tmp_path]), output=None, summary=tmp_path))
        assert first.error == "unexpected RuntimeError: odd"
        assert second.error == ""

    @pytest.mark.parametrize("picture", [False, True])
    def test_a_slide_that_was_scanned_before_and_is_read_only_now_ends_nothing(
        self, drawn, tmp_path, monkeypatch, picture
    ):
        for name in "ab":
            (tmp_path / name).mkdir()
            shutil.copy(drawn, tmp_path / name / f"{name}.tif")
        slides = find_slides([tmp_path])
        scan(slides[:1], output=None, summary=tmp_path)
        make_read_only(monkeypatch, tmp_path / "a")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StorageWarning)
            first, second = (row for row, _ in scan(slides, output=None, summary=tmp_path, picture=picture))
        assert "report.html" in first.error
        assert first.error.endswith("; copy the result folder to another disk and report the copy")
        assert second.error == ""

    @pytest.mark.parametrize("name", ["report.html", "overview.png"])
    def test_a_file_that_cannot_be_written_is_that_slides_own_fault(self, drawn, tmp_path, name):
        for slide in "ab":
            shutil.copy(drawn, tmp_path / f"{slide}.tif")
        (tmp_path / "a.metastasis" / name).mkdir(parents=True)
        first, second = (row for row, _ in scan(find_slides([tmp_path]), output=None, summary=tmp_path, picture=True))
        assert name in first.error
        assert second.error == ""


class TestSummary:
    @pytest.fixture
    def written(self, drawn, tmp_path):
        ((_, _),) = scan([CohortSlide(name="node", path=drawn)], output=tmp_path, summary=tmp_path)
        return tmp_path / "node.metastasis"

    def test_the_state_is_how_much_was_scanned(self, written, drawn, tmp_path):
        states, verdicts = [], []
        for coverage in (WHOLE, PARTIAL, NO_TISSUE):
            change_record(written, lambda record: record["coverage"].update(coverage))  # noqa: B023
            row = SlideSummary.of(drawn, write_report(written))
            states.append((row.state, row.result.coverage.short))
            SummaryFiles(tmp_path).write([row])
            (cells,) = rows_of(tmp_path)
            share = "" if coverage["share"] is None else f"{coverage['share']:.6f}"
            assert (cells["state"], cells["coverage"]) == (row.state, share)
            verdicts.append(cells["verdict"])
        assert verdicts == ["micro", "at least micro", "at least micro"]
        assert states == [
            ("Whole slide scanned", "whole"),
            ("36 % of the tissue scanned", "36 %"),
            ("No tissue found", "no tissue"),
        ]
        html = (tmp_path / "index.html").read_text("utf-8")
        assert "0 of 1 slides wholly scanned, 1 without tissue." in html
        assert "<td>At least micro-metastasis</td>" in html
        assert '<span class="state empty">No tissue found</span>' in html
        change_record(written, lambda record: record.pop("coverage"))
        row = SlideSummary.of(drawn, write_report(written))
        assert (row.state, row.result.coverage.short) == ("Coverage not recorded", "unknown")

    def test_a_slide_whose_report_failed_is_failed_everywhere_and_counts_once(self, written, tmp_path, capsys):
        change_record(written, lambda record: record["coverage"].update(WHOLE))
        row = replace(SlideSummary.of(Path("a.tif"), write_report(written)), error="no report")
        SummaryFiles(tmp_path).write([row])
        html = (tmp_path / "index.html").read_text("utf-8")
        assert '<span class="state failed">Failed</span>' in html
        assert "0 of 1 slides wholly scanned, 1 failed." in html
        _say_slides([row])
        assert re.search(r"a\.tif +failed", capsys.readouterr().out)

    def test_a_lesion_that_is_cut_bounds_the_largest(self, written, tmp_path, capsys):
        lesion = {"id": 1, "x": 1130, "y": 640, "mm": 0.25, "size_class": "micro", "cut": True}
        for cut, text in ((True, "≥ 0.250"), (False, "0.250")):
            write_lesions(written, [{**lesion, "cut": cut}])
            row = SlideSummary.of(Path("a.tif"), write_report(written))
            SummaryFiles(tmp_path).write([row])
            (cells,) = rows_of(tmp_path)
            assert (cells["largest_mm"], cells["largest_cut_by_edge"]) == ("0.2500", str(int(cut)))
            assert f'<td class="number">{text}</td>' in (tmp_path / "index.html").read_text("utf-8")
            _say_slides([row])
            assert (text in capsys.readouterr().out, cut) == (True, text.startswith("≥"))
        write_lesions(written, [])
        SummaryFiles(tmp_path).write([SlideSummary.of(Path("a.tif"), write_report(written))])
        (cells,) = rows_of(tmp_path)
        assert (cells["largest_mm"], cells["largest_cut_by_edge"]) == ("", "")

    def test_of_a_thousand_slides_no_lesion_is_held(self, written):
        row = SlideSummary.of(Path("a.tif"), write_report(written))
        held = [value for name in row.result.__slots__ if isinstance(value := getattr(row.result, name), tuple)]
        assert held == [("dark",)]

    def test_what_a_spreadsheet_would_compute_is_text(self, written, tmp_path):
        row = SlideSummary.of(Path("=1+1.tif"), write_report(written))
        SummaryFiles(tmp_path).write([row, replace(row, error="=cmd()", result=None)])
        first, second = rows_of(tmp_path)
        assert first["slide"] == "'=1+1.tif"
        assert second["error"] == "'=cmd()"

    def test_names_are_text_and_no_markup(self, tmp_path):
        SummaryFiles(tmp_path).write([SlideSummary(slide=Path("<b>.tif"), error="<script>")])
        html = (tmp_path / "index.html").read_text("utf-8")
        assert "<script>" not in html
        assert "&lt;b&gt;.tif" in html

    def test_a_link_to_another_folder_is_relative(self, written, tmp_path):
        row = SlideSummary.of(Path("a.tif"), write_report(written))
        elsewhere = tmp_path / "else" / "where"
        SummaryFiles(elsewhere).write([row])
        (link,) = re.findall(r'href="([^"]+)"', (elsewhere / "index.html").read_text("utf-8"))
        assert not os.path.isabs(link)
        assert (elsewhere / link).resolve() == (written / "report.html").resolve()
