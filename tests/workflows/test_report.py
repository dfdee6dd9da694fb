"""The report of a slide: what stands on the page is what the files of its result folder say."""

from __future__ import annotations

import base64
import locale
import re
import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from dark_model import dark_model
from disc_slide import write_disc_slide
from legacy_files import unpack_legacy
from PIL import Image
from read_only import make_read_only
from results import NO_TISSUE, PARTIAL, WHOLE, change_record, write_lesions
from scans import SCAN, scan_with

from napari_metastasis._napari.words import for_window
from napari_metastasis.errors import NotASlideError, SlideError, StorageError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.scanning import journal_path
from napari_metastasis.slides import open_slide, write_pyramid
from napari_metastasis.workflows import report as report_room
from napari_metastasis.workflows.report import find_results, read_result, results_inside, write_picture, write_report
from napari_metastasis.workflows.scan.result_files import one_writer

NOW = datetime(2026, 11, 29, 20, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A slide that was scanned, and its result folder beside it."""
    folder = tmp_path_factory.mktemp("scanned")
    path = write_disc_slide(folder / "node.tif")
    with open_slide(path) as slide:
        scan_with(slide, dark_model(), folder / "node.metastasis", scan=SCAN)
    return folder


@pytest.fixture
def result(scanned, tmp_path):
    """A copy of that folder, to be changed."""
    shutil.copytree(scanned, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "node.metastasis"
    change_record(folder, lambda record: record["slide"].update(folder=str(tmp_path)))
    return folder


def html_of(folder, **how):
    return write_report(folder, now=NOW, **how).path.read_text("utf-8")


def pictures_in(html):
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [np.asarray(Image.open(BytesIO(base64.b64decode(one)))) for one in found]


class Text(HTMLParser):
    """What a reader sees."""

    def __init__(self, html):
        super().__init__()
        self.seen, self.tags = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.seen.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.seen).split())


def test_the_page_tells_what_was_found_and_how(result):
    change_record(result, lambda record: record["coverage"].update(WHOLE))
    (lesion,) = read_result(result).lesions
    page = Text(html_of(result))
    assert ("title", {}) in page.tags
    for words in (
        "node",
        "Whole slide scanned",
        "1 micro-metastasis",
        "Verdict on the slide by the findings Micro-metastasis Found",
        f"{lesion.x:.0f}, {lesion.y:.0f}",
        f"{lesion.x * 0.486 / 1000:.2f}, {lesion.y * 0.486 / 1000:.2f}",
        "0.486 µm",
        str(result.parent / "node.tif"),
        "29 Nov 2026, 20:15 UTC",
        read_result(result).models[0].name,
    ):
        assert words in page.text
    assert page.text.count("Not a medical device. For research only.") == 2
    assert "not a result for the slide" not in page.text


def test_the_page_needs_nothing_beside_it(result):
    page = Text(html_of(result))
    assert all(attributes["src"].startswith("data:image/jpeg;base64,") for tag, attributes in page.tags if tag == "img")
    assert not any(tag in ("script", "link", "iframe") for tag, _ in page.tags)
    assert not any("href" in attributes for _, attributes in page.tags)
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in page.tags)


def test_the_same_files_and_date_give_the_same_page(result):
    assert html_of(result) == html_of(result)


def test_a_part_of_the_slide_is_no_result_for_it(result):
    change_record(result, lambda record: record["coverage"].update(PARTIAL))
    html = html_of(result)
    page = Text(html)
    assert page.text.index("36 % of the tissue scanned: not a result for the slide") < page.text.index("Found")
    assert ("div", {"class": "coverage partial"}) in page.tags
    verdict = "Verdict on the slide by the findings"
    assert f"{verdict} At least micro-metastasis 36 % of the tissue scanned" in page.text
    write_lesions(result, [])
    assert f"{verdict} Negative so far 36 % of the tissue scanned" in Text(html_of(result)).text


def test_a_result_of_an_earlier_version_says_that_coverage_is_not_recorded(result):
    def forget(record):
        del record["coverage"]
        record.pop("shown", None)

    change_record(result, forget)
    (result / "lesions.csv").write_text(
        "id,x,y,probability,area_mm2,length_mm,size_class,detections\n1,1130.00,640.00,0.9,0.04,0.24,micro,1\n"
    )
    page = Text(html_of(result))
    assert "How much of the tissue was scanned is not recorded" in page.text
    assert ("div", {"class": "coverage partial"}) in page.tags
    assert "not recorded" in page.text.partition("1130, 640")[2][:40]
    assert "Whole slide scanned" not in page.text


@pytest.mark.parametrize(
    ("size_class", "mm", "words"),
    [
        ("itc", 0.1, "ITC or larger, cut by the scanned area"),
        ("micro", 0.8, "Micro or larger, cut by the scanned area"),
        ("macro", 2.4, "Macro-metastasis, cut by the scanned area"),
    ],
)
def test_a_finding_that_is_cut_may_be_larger(result, size_class, mm, words):
    cut = {"id": 4, "x": 1130, "y": 640, "mm": mm, "size_class": size_class, "cut": True}
    whole = {"id": 5, "x": 800, "y": 640, "mm": 0.05, "size_class": "itc", "cut": False}
    write_lesions(result, [cut, whole])
    page = Text(html_of(result))
    assert words in page.text
    assert f"≥ {mm:.3f}" in page.text or f"≥ {mm:.2f}" in page.text
    assert "1 of them is cut by the scanned area, and may be larger" in page.text
    assert f"Largest {read_result(result).largest_text} mm" in page.text
    assert page.text.count("or larger, cut by") == 2 * (size_class != "macro")  # in the table and below the picture


def test_a_finding_that_its_nuclei_class_says_that_they_are_an_estimate(result):
    write_lesions(result, [{"id": 4, "x": 1130, "y": 640, "mm": 0.4, "size_class": "itc", "cut": False}])
    table = result / "lesions.csv"
    head, row = table.read_text("utf-8").split()
    table.write_text(f"{head},nuclei_estimated,size_class_by\n{row},80,nuclei_estimated\n", "utf-8")
    (lesion,) = read_result(result).lesions
    assert (lesion.nuclei, lesion.size_class_by) == (80, "nuclei_estimated")
    assert "Isolated tumour cells: about 80 nuclei, estimated from the area" in Text(html_of(result)).text


def test_the_largest_finding_may_be_one_that_is_cut_and_looks_smaller(result):
    cut = {"id": 4, "x": 1130, "y": 640, "mm": 0.1, "size_class": "itc", "cut": True}
    write_lesions(result, [cut, {**cut, "id": 5, "x": 800, "mm": 0.5, "size_class": "micro", "cut": False}])
    assert read_result(result).largest_text == "≥ 0.500"
    assert "Largest ≥ 0.500 mm" in Text(html_of(result)).text


def test_a_slide_without_tissue_says_so_in_every_width(result):
    change_record(result, lambda record: record["coverage"].update(NO_TISSUE))
    found = read_result(result).coverage
    assert (found.state, found.short, found.share) == ("No tissue found", "no tissue", None)
    assert "No tissue found: nothing was scanned" in Text(html_of(result)).text


@pytest.mark.parametrize("coverage", [{}, {"tissue_cells": 5, "answered_cells": 9}, {"whole": True, "text": "Whole"}])
def test_a_coverage_that_cannot_be_so_is_not_recorded(result, coverage):
    change_record(result, lambda record: record.update(coverage=coverage))
    assert read_result(result).coverage.short == "unknown"


@pytest.mark.parametrize(
    ("threshold", "text"), [(0.5, "0.5"), (0.999, "0.999"), (0.9996, "0.9996"), (0.0004, "0.0004"), (1.0, "1")]
)
def test_a_threshold_is_shown_with_all_its_digits(result, threshold, text):
    """Rounded to 1, it would say that nothing could be found."""
    shown = {"threshold": threshold, "shares": {}, "map": "probability"}
    change_record(result, lambda record: record.update(shown=shown))
    page = Text(html_of(result)).text
    assert f"Findings shown from probability {text} " in page
    assert f"Findings from probability {text} " in page


def test_dates_do_not_follow_the_desktops_language(result):
    class Nowhere(tzinfo):
        def utcoffset(self, _):
            return timedelta(hours=-3, minutes=-30)

        def dst(self, _):
            return timedelta(0)

        def tzname(self, _):
            return "Neufundland-Normalzeit"

    before = locale.setlocale(locale.LC_TIME)
    for wanted in ("de_DE.UTF-8", "fr_FR.UTF-8", "C"):
        with suppress(locale.Error):
            locale.setlocale(locale.LC_TIME, wanted)
            break
    try:
        written = write_report(result, now=datetime(2026, 5, 3, 4, 5, tzinfo=Nowhere()))
    finally:
        locale.setlocale(locale.LC_TIME, before)
    text = Text(written.path.read_text("utf-8")).text
    assert "report of 3 May 2026, 04:05 UTC-03:30." in text
    assert "Neufundland" not in text


def test_threshold_shares_and_map_are_those_that_were_shown(result):
    def show(record):
        record["passes"] = [
            {
                "task": "refine",
                "map": "refined",
                "file": "refined.ome.zarr",
                "model": {"name": "mover", "weights_sha256": "0" * 64},
                "share": 1.0,
            }
        ]
        record["shown"] = {"threshold": 0.31, "shares": {"refined": 0.25}, "map": "probability"}

    change_record(result, show)
    found = read_result(result)
    assert (found.threshold, found.shares, found.shown_map) == (0.31, {"refined": 0.25}, "probability")
    text = Text(html_of(result)).text
    assert "0.31" in text
    assert "refined 25%" in text
    change_record(result, lambda record: record.pop("shown"))
    found = read_result(result)
    assert found.threshold != 0.31
    assert (found.shares, found.shown_map) == ({"refined": 1.0}, "refined")


def test_the_map_of_a_pass_that_was_ended_by_force_has_its_share(result):
    """A window showed it, and wrote the files from it, though no record says which model made it."""
    shown = {"threshold": 0.5, "shares": {"refined": 1.0}, "map": "refined"}
    change_record(result, lambda record: record.update(passes=[], shown=shown))
    assert read_result(result).shares == {"refined": 1.0}
    assert "Refined map; share of later maps: refined 100%" in Text(html_of(result)).text


def test_names_are_text_and_no_markup(scanned, tmp_path):
    name = "<b>a & 'b'\"</b>"
    slide = tmp_path / "x" / f"{name[:3]}img src=x onerror=alert(1)> & 'q'.tif"
    slide.parent.mkdir()
    shutil.copy(scanned / "node.tif", slide)
    folder = tmp_path / "out"
    shutil.copytree(scanned / "node.metastasis", folder)

    def rename(record):
        record["slide"] |= {"path": slide.name, "folder": str(slide.parent)}
        record["model"]["name"] = "<script>alert(1)</script>"
        record["scans"][-1]["notes"] = ["<script>alert(2)</script>"]

    change_record(folder, rename)
    page = Text(html_of(folder))
    assert "<script>alert(1)</script>" in page.text
    assert "<script>alert(2)</script>" in page.text
    assert not any(tag == "script" or "onerror" in attributes for tag, attributes in page.tags)
    assert len(pictures_in(html_of(folder))) == 2


def test_a_slide_that_is_gone_leaves_the_report_without_pictures(result):
    (result.parent / "node.tif").rename(result.parent.parent / "elsewhere.tif")
    written = write_report(result, now=NOW)
    assert "does not exist" in written.without_pictures
    page = Text(written.path.read_text("utf-8"))
    assert "This report has no pictures" in page.text
    assert not any(tag == "img" for tag, _ in page.tags)
    assert "1 micro-metastasis" in page.text
    moved = write_report(result, slide=result.parent.parent / "elsewhere.tif", now=NOW)
    assert moved.without_pictures == ""
    assert len(pictures_in(moved.path.read_text("utf-8"))) == 2


def test_slide_and_result_may_be_moved_together(result, tmp_path):
    change_record(result, lambda record: record["slide"].update(path="D:\\slides\\node.tif", folder=""))
    assert write_report(result).without_pictures == ""
    (tmp_path / "slides").mkdir()
    (tmp_path / "node.tif").rename(tmp_path / "slides" / "node.tif")
    assert write_report(result).without_pictures
    assert write_report(result, slide=tmp_path / "slides").without_pictures == ""


def test_a_result_of_other_settings_is_found_and_finds_its_slide(result, tmp_path):
    """It lies inside the result folder, and was moved with it."""
    inside = result / "scan-0123abcd"
    shutil.copytree(result, tmp_path / "copy")
    shutil.move(tmp_path / "copy", inside)
    change_record(inside, lambda record: record["slide"].update(path="node.tif", folder="/gone"))
    assert write_report(inside).without_pictures == ""
    assert results_inside(result) == [inside]
    assert find_results(result) == [result]
    (result / "run.json").unlink()
    assert find_results(result) == [inside]


def test_the_slide_may_be_named_by_the_folder_that_it_is(result, tmp_path):
    """A folder of DICOM files is a slide itself, unless another one of the slide's name lies in it."""
    (tmp_path / "slides").mkdir()
    (tmp_path / "node.tif").rename(tmp_path / "slides" / "node.tif")
    (tmp_path / "slides" / "other.dcm").write_bytes(bytes(128) + b"DICM")
    assert write_report(result, slide=tmp_path / "slides").without_pictures == ""


def test_a_slide_that_was_moved_is_asked_for(result, tmp_path):
    (tmp_path / "node.tif").rename(tmp_path / "moved.tif")
    why = write_report(result).without_pictures
    assert why == (
        f"expected the slide where it was scanned, but {tmp_path / 'node.tif'} does not exist; give its new place with "
        "--slide"
    )
    assert "--" not in for_window(why)


@pytest.mark.parametrize(("slide", "title"), [({"name": "1.2.3"}, "1.2.3"), ({"name": None}, "1.2")])
def test_a_folder_keeps_what_stands_behind_its_dots(result, slide, title):
    change_record(result, lambda record: record["slide"].update(path="1.2.3", **slide))
    assert read_result(result).slide_name == title


def test_a_scan_records_what_the_slide_is_called(result):
    assert read_result(result).record["slide"]["name"] == "node"


def test_a_report_that_cannot_be_written_advises_what_can_be_done(result, monkeypatch):
    make_read_only(monkeypatch, result)
    for work in (write_report, write_picture):
        with pytest.raises(StorageError, match=r"; copy the result folder to another disk and report the copy$"):
            work(result)


def test_another_slide_of_that_name_is_not_shown(result):
    pixels = np.full((600, 600, 3), 240, np.uint8)
    pixels[100:500, 100:500] = (225, 150, 195)
    write_pyramid(result.parent / "node.tif", pixels, mpp=0.486, size=Size(600, 600), compression="deflate")
    assert "another one" in write_report(result).without_pictures
    with pytest.raises(NotASlideError, match="another one"):
        write_report(result, slide=result.parent / "node.tif")


def test_a_slide_that_is_named_has_to_be_there(result, tmp_path):
    (result / "report.html").write_text("before")
    with pytest.raises(SlideError, match="does not exist"):
        write_report(result, slide=tmp_path / "nothing.svs")
    assert (result / "report.html").read_text() == "before"


def test_the_longest_findings_are_shown_and_the_others_counted(result):
    lesions = [
        {"id": k, "x": 600 + 20 * k, "y": 640, "mm": round(0.01 + 0.001 * k, 4), "size_class": "itc", "half": 5}
        for k in range(30)
    ]
    write_lesions(result, lesions)
    html = html_of(result)
    page = Text(html)
    assert len(pictures_in(html)) == 1 + 24
    assert "24 are shown; 6 smaller ones are not shown here" in page.text
    shown = [attributes["alt"] for tag, attributes in page.tags if tag == "img"][1:]
    assert shown == [f"Finding {k}" for k in range(29, 5, -1)]
    # The table keeps the order of the files.
    rows = re.findall(r"<tr><td class=\"number\">(\d+)</td>", html)
    assert rows == [str(k) for k in range(30)]


def test_a_page_of_very_many_findings_stays_small(result):
    lesions = [
        {"id": k, "x": 510 + k % 980, "y": 310 + k // 10, "mm": 0.02 + k / 1e5, "size_class": "itc", "half": 3}
        for k in range(3000)
    ]
    write_lesions(result, lesions)
    written = write_report(result, now=NOW)
    assert written.path.stat().st_size < 6e6
    assert "The 500 longest are listed; 2500 more stand in lesions.csv" in Text(written.path.read_text("utf-8")).text


def test_a_page_of_noise_can_be_sent_by_mail(tmp_path):
    """Of all pictures, those of noise are the largest."""
    pixels = np.random.default_rng(3).integers(60, 255, (1600, 1600, 3), dtype=np.uint8)
    path = tmp_path / "noise.tif"
    write_pyramid(path, pixels, mpp=0.5, size=Size(1600, 1600), compression="deflate")
    with open_slide(path) as slide:
        scan_with(slide, dark_model(), tmp_path / "out", scan=SCAN, region=Region(0, 0, 200, 200))
    lesions = [{"id": k, "x": 300 + 40 * k, "y": 800, "mm": 0.1, "size_class": "itc"} for k in range(24)]
    write_lesions(tmp_path / "out", lesions)
    assert write_report(tmp_path / "out").path.stat().st_size < 6e6


def test_the_models_card_is_told_where_it_is_at_hand(result):
    from napari_metastasis.models import list_models, load_model

    shipped = load_model(next(entry.name for entry in list_models("detect") if entry.shipped))

    def name(record):
        record["model"].update(name=shipped.name, weights_sha256=shipped.weights_sha256)

    change_record(result, name)
    text = Text(html_of(result)).text
    for words in (shipped.card["licence"], shipped.card["intended_use"], shipped.card["data"]):
        assert " ".join(words.split()) in text
    change_record(result, lambda record: record["model"].update(weights_sha256="0" * 64))
    text = Text(html_of(result)).text
    assert "other weights" in text
    assert shipped.card["licence"] not in text


def test_no_finding_in_a_part_is_not_said_of_the_slide(result):
    write_lesions(result, [])
    change_record(result, lambda record: record["coverage"].update(PARTIAL))
    text = Text(html_of(result)).text
    assert "in what was scanned" in text
    assert "36 % of the tissue scanned" in text


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", "{"),
        ("run.json", "[]"),
        ("run.json", '{"slide": {"path": 3}}'),
        ("lesions.csv", "id,x\n1,2\n"),
        ("lesions.csv", "id,x,y,probability,area_mm2,length_mm,size_class,detections\n1,nan,2,1,1,1,itc,1\n"),
        ("lesions.csv", "id,x,y,probability,area_mm2,length_mm,size_class,detections\n1,1,2,1,1,1,giant,1\n"),
        ("lesions.csv", ""),
        ("lesions.geojson", "{"),
    ],
)
def test_damaged_files_are_one_error_and_no_report(result, file, content):
    (result / file).write_text(content)
    with pytest.raises(StorageError) as raised:
        write_report(result)
    assert file in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (result / "report.html").exists()


@pytest.mark.parametrize("grown", ["heatmap.ome.zarr", "refined.ome.zarr"])
def test_findings_of_before_a_scan_that_was_ended_by_force_are_not_shown(result, grown):
    """They would stand beside a picture that has more."""
    journal = journal_path(result / grown)
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("ab") as file:
        file.write(b"more answers")
    for work in (read_result, write_report, write_picture):
        with pytest.raises(StorageError, match=r"got older ones in .*; scan the slide again") as raised:
            work(result)
        assert "\n" not in str(raised.value)
    assert not (result / "report.html").exists()


def test_files_that_do_not_belong_to_the_record_are_not_shown(result):
    """Those of a scan, or of another threshold, that was ended by force before the record was written."""
    table = result / "lesions.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    with pytest.raises(StorageError, match=r"expected 1 lesions as run\.json counts them, got 0 in"):
        write_report(result)


def test_a_result_whose_maps_were_taken_away_is_read(result):
    shutil.rmtree(result / "heatmap.ome.zarr")
    assert len(read_result(result).lesions) == 1


@pytest.mark.parametrize("file", ["run.json", "lesions.csv", "lesions.geojson"])
def test_what_is_missing_is_named(result, file):
    (result / file).unlink()
    with pytest.raises(StorageError, match=file):
        write_report(result)


def test_results_are_found_in_a_folder(result, tmp_path):
    assert find_results(result) == [result]
    assert find_results(tmp_path) == [result]
    assert find_results(tmp_path / "nothing") == []


def test_public_names_are_sorted():
    assert report_room.__all__ == sorted(report_room.__all__)


def test_results_of_the_first_version_have_a_report(tmp_path):
    unpack_legacy(tmp_path)
    for name in ("finished", "stopped"):
        written = write_report(tmp_path / f"{name}.metastasis", now=NOW)
        page = Text(written.path.read_text("utf-8"))
        assert "How much of the tissue was scanned is not recorded" in page.text
        assert written.without_pictures == ""
        assert len(written.result.lesions) > 0


def test_files_are_read_while_nobody_writes_them(result, monkeypatch):
    """Else a table of one threshold would stand beside the outlines of another."""
    tried = []

    def read_and_try(folder):
        with pytest.raises(StorageError), one_writer(folder):
            tried.append("written")
        tried.append("refused")
        return read_result(folder)

    monkeypatch.setattr("napari_metastasis.workflows.scan.result_files._PATIENCE_S", 0.0)
    monkeypatch.setattr("napari_metastasis.workflows.report.write.read_result", read_and_try)
    write_report(result)
    assert tried == ["refused"]
