"""Cohorts as a whole: sizes, slides, folders and what is left out."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile
from evaluation_cohorts import outcome, random_outcomes

from napari_metastasis.annotations import Annotation, AnnotationSet, write_asap_xml
from napari_metastasis.cohorts import annotation_files
from napari_metastasis.errors import AnnotationError, AnnotationWarning, EvaluationError
from napari_metastasis.evaluation import (
    LeftOut,
    LesionOutcome,
    find_detections,
    find_reference,
    score_folders,
    score_slides,
)
from napari_metastasis.evaluation import folders as folders_module
from napari_metastasis.settings import EvaluationSettings

QUICK = EvaluationSettings(resamples=100)


def test_sensitivity_by_size_counts_every_lesion_of_the_size():
    def lesion(size, hit):
        return LesionOutcome(is_target=size != "itc", size_class=size, probability=hit)

    slides = [
        replace(outcome(0.5, slide="a"), lesions=(lesion("macro", 0.9), lesion("itc", 0.2), lesion("micro", None))),
        replace(outcome(0.5, slide="b"), lesions=(lesion("micro", 0.1), lesion("itc", None))),
    ]
    itc, micro, macro = score_slides(slides, QUICK).sizes
    assert [(one.lesions, one.found, one.sensitivity.value) for one in (itc, micro, macro)] == [
        (2, 1, 0.5),
        (2, 1, 0.5),
        (1, 1, 1.0),
    ]


def test_a_cohort_says_what_it_allows_and_no_more():
    normal = score_slides([outcome(false=[0.4], slide="n")], QUICK)
    assert normal.curve is None
    assert normal.slides is None
    assert {"auc", "froc_score_linear", "sensitivity"}.isdisjoint(normal.to_json())
    tumour = score_slides([outcome(0.9, slide="t")], QUICK).to_json()
    assert tumour["froc_score_linear"] == tumour["froc_score_step"] == 1
    assert "auc" not in tumour
    both = score_slides(random_outcomes(1), QUICK).to_json()
    json.dumps(both, allow_nan=False)
    for name in ("auc", "froc_score_linear", "froc_score_step", "f1"):
        low, high = both[f"{name}_ci95"]
        assert low <= both[name] <= high
    assert score_slides(random_outcomes(1), QUICK).to_json() == both


@pytest.mark.parametrize(("slides", "words"), [([], "got none"), ([outcome(0.5), outcome(0.4)], "got s twice")])
def test_slides_are_scored_once(slides, words):
    with pytest.raises(EvaluationError, match=words):
        score_slides(slides, QUICK)


def test_only_the_whole_test_set_stands_beside_published_figures():
    slides = [outcome(0.5, slide=f"Test_{number:03d}") for number in range(1, 131) if number not in (49, 114)]
    slides[0] = outcome(false=[0.2], slide="test_001")
    assert score_slides(slides, QUICK).is_camelyon16_test
    assert len(score_slides(slides, QUICK).to_json()["table_iii"]["rows"]) == 12
    assert score_slides([*slides, outcome(0.5, slide="Test_049")], QUICK).is_camelyon16_test
    for others in (slides[1:], [*slides, outcome(slide="Normal_001")]):
        report = score_slides(others, QUICK)
        assert not report.is_camelyon16_test
        assert "table_iii" not in report.to_json()


@pytest.fixture
def mask():
    """A metastasis at x 640..1600, y 640..1280 in level-0 pixels."""
    tumour = np.zeros((60, 70), np.uint8)
    tumour[20:40, 20:50] = 1
    return tumour


@pytest.fixture
def folders(tmp_path, mask):
    """Two tumour slides and a normal one; one reference is an outline, the other a mask."""
    found, reference = tmp_path / "found", tmp_path / "reference"
    found.mkdir()
    (reference / "masks").mkdir(parents=True)
    (found / "Tumor_001.csv").write_text("0.9,1000,1000\n0.2,10,10\n")
    (found / "tumor_002.csv").write_text("p,x,y\n0.8,1000,1000\n")
    (found / "normal_001.csv").write_text("0.3,5,5\n")
    ring = np.array([(640, 640), (1600, 640), (1600, 1280), (640, 1280)], float)
    outline = Annotation.of_rings(name="a", group="_0", exterior=ring)
    write_asap_xml(reference / "tumor_001.xml", AnnotationSet((outline,)))
    tifffile.imwrite(reference / "masks" / "Tumor_002_Mask.tif", mask * 255)
    return found, reference


def test_folders_are_paired_by_name(folders):
    report = score_folders(*folders, QUICK)
    slides = report.to_json()["slides"]
    assert list(slides) == ["Tumor_001", "normal_001", "tumor_002"]
    assert [one["tumour"] for one in slides.values()] == [True, False, True]
    assert [one["hits"] for one in slides.values()] == [1, 0, 1]
    assert [one["false_positives"] for one in slides.values()] == [1, 1, 0]
    assert report.left_out == ()
    assert report.to_json()["auc"] == 1


def test_results_of_scans_are_detections_and_no_reference(folders):
    found, reference = folders
    results = found / "normal_002.metastasis"
    results.mkdir()
    (results / "detections.csv").write_text("")
    (results / "lesions.csv").write_text("id,x\n")
    (results / "lesions.geojson").write_text("[]")
    assert list(find_detections(found)) == ["Tumor_001", "normal_001", "normal_002", "tumor_002"]
    assert "lesions" not in find_reference(found)
    assert score_folders(found, reference, QUICK).to_json()["slides"]["normal_002"]["score"] == 0


@pytest.mark.parametrize(("values", "hits"), [((0, 255), 1), ((0, 1), 1), ((0, 2), 1), ((1, 2), 1)])
def test_the_tumour_value_is_detected(folders, mask, values, hits):
    found, reference = folders
    path = reference / "masks" / "Tumor_002_Mask.tif"
    tifffile.imwrite(path, np.where(mask, values[1], values[0]).astype(np.uint8))
    report = score_folders(found, reference, QUICK)
    assert report.settings.tumour_value == values[1]
    assert report.to_json()["slides"]["tumor_002"]["hits"] == hits


def test_a_mask_of_normal_tissue_alone_is_told_from_tumour_by_the_others(folders, mask):
    found, reference = folders
    tifffile.imwrite(reference / "masks" / "Tumor_002_Mask.tif", mask * 2)
    # The PNG's ones are normal tissue: the other mask has twos.
    (reference / "normal_001_mask_level5.png").write_bytes(imagecodecs.png_encode(mask))
    report = score_folders(found, reference, QUICK)
    assert not report.to_json()["slides"]["normal_001"]["tumour"]
    assert report.to_json()["slides"]["tumor_002"]["hits"] == 1


def test_ambiguous_masks_are_named_and_the_value_can_be_said(folders, mask):
    found, reference = folders
    tifffile.imwrite(reference / "masks" / "Tumor_002_Mask.tif", mask * 7)
    with pytest.raises(AnnotationError, match=r"got the values 7 in .*Tumor_002_Mask\.tif; .*--tumour-value"):
        score_folders(found, reference, QUICK)
    chosen = score_folders(found, reference, replace(QUICK, tumour_value=7))
    assert chosen.to_json()["slides"]["tumor_002"]["hits"] == 1


def test_outlines_or_masks_can_be_asked_for(folders, mask):
    found, reference = folders
    tifffile.imwrite(reference / "masks" / "Tumor_001_Mask.tif", mask * 0)

    def tumour(truth_from):
        report = score_folders(found, reference, replace(QUICK, truth_from=truth_from))
        why = [one.why for one in report.left_out if one.slide == "Tumor_001"]
        return "Tumor_001" in report.to_json()["slides"], why

    # The mask is empty, which the slide's name belies: it is no normal slide.
    for kind in ("auto", "masks"):
        scored, (why,) = tumour(kind)
        assert not scored
        assert "Tumor_001_Mask.tif without tumour; add them, or rename" in why
    assert tumour("outlines") == (True, [])


def test_slides_without_reference_are_told(folders):
    assert score_folders(*folders, QUICK).measured == {"normal_without_truth": ["normal_001"]}


@pytest.mark.parametrize("group", ["Carcinoma", "None"])
def test_outlines_that_do_not_say_tumour_make_no_slide_normal(folders, group):
    found, reference = folders
    (found / "b.csv").write_text("0.9,1000,1000\n")
    ring = np.array([(640, 640), (1600, 640), (1600, 1280)], float)
    write_asap_xml(reference / "b.xml", AnnotationSet((Annotation.of_rings("a", group, ring),)))
    (left_out,) = score_folders(found, reference, QUICK).left_out
    assert left_out.slide == "b"
    assert f"got only {group} in" in left_out.why
    assert "rename the group" in left_out.why


@pytest.mark.parametrize("group", ["Macro-metastasis", "Micro-metastasis", "Isolated tumour cells", "Metastasis"])
def test_our_own_lesions_can_be_corrected_and_taken_for_reference(folders, group):
    found, reference = folders
    (found / "b.csv").write_text("0.9,1000,1000\n")
    ring = np.array([(640, 640), (1600, 640), (1600, 1280), (640, 1280)], float)
    write_asap_xml(reference / "b.xml", AnnotationSet((Annotation.of_rings("a", group, ring),)))
    assert score_folders(found, reference, QUICK).to_json()["slides"]["b"]["hits"] == 1


def test_two_references_of_one_slide_are_not_chosen_between(folders):
    found, reference = folders
    (reference / "second").mkdir()
    (reference / "second" / "Tumor_001.xml").write_bytes((reference / "tumor_001.xml").read_bytes())
    with pytest.raises(EvaluationError, match=r"expected one file of truth for tumor_001, got .* and .*; remove one"):
        score_folders(found, reference, QUICK)


@pytest.fixture
def scan(folders):
    """A folder of the results of one scan, of a slide of 2,000 x 1,500 px whose bounds begin at (300, 200)."""
    found, reference = folders

    def write(name="c", *, finished=True, region=None, sha="a", inside="", places="0.9,1300,1200\n", **more):
        folder = found / f"{name}.metastasis" / inside
        folder.mkdir(parents=True)
        (folder / "detections.csv").write_text(places)
        record = {
            "slide": {"size": [2000, 1500], "bounds": [300, 200, 1600, 1200]},
            "model": {"name": f"model-{sha}", "weights_sha256": sha},
            "scans": [{"finished": finished, "region": region}],
            **more,
        }
        (folder / "run.json").write_text(json.dumps(record))
        return folder

    (reference / "c.geojson").write_text(
        json.dumps(
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[340, 440], [1300, 440], [1300, 1080], [340, 1080], [340, 440]]],
                },
                "properties": {"classification": {"name": "Tumor"}},
            }
        )
    )
    return write


def test_a_scan_says_where_its_geojson_counts_from_and_which_model_it_was(folders, scan):
    scan(places="0.9,660,660\n0.8,500,500\n")
    report = score_folders(*folders, QUICK)
    # Without the bounds' corner, the outline would begin at (340, 440) and hold both places.
    assert report.to_json()["slides"]["c"]["hits"] == 1
    assert report.to_json()["slides"]["c"]["false_positives"] == 1
    assert report.measured["model"] == "model-a"
    assert report.measured["weights_sha256"] == "a"


@pytest.mark.parametrize("place", ["2000,10", "10,1500", "-1,10"])
def test_a_place_off_a_scanned_slide_is_an_error(folders, scan, place):
    scan(places=f"0.9,{place}\n")
    (left_out,) = score_folders(*folders, QUICK).left_out
    assert "expected detections on c, which is 2000 x 1500 px" in left_out.why


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"finished": False}, "stopped or is of a region"),
        ({"region": {"x": 0}}, "stopped or is of a region"),
    ],
)
def test_parts_of_scans_are_not_scored_as_wholes(folders, scan, changes, words):
    scan(**changes)
    (left_out,) = score_folders(*folders, QUICK).left_out
    assert left_out.slide == "c"
    assert left_out.is_failure
    assert words in left_out.why


def test_scans_are_of_one_model(folders, scan):
    scan()
    scan("d", sha="b", places="")
    with pytest.raises(EvaluationError, match=r"got those of model-a \(a\), model-b \(b\)"):
        score_folders(*folders, QUICK)


def _refined(share, *, sha="r"):
    model = {"name": "mover", "weights_sha256": sha}
    return [{"task": "refine", "map": "refined", "model": model, "share": share, "tissue_cells_answered": 0}]


def _shown(threshold=0.5, **shares):
    return {"threshold": threshold, "shares": shares, "map": "refined" if any(shares.values()) else "probability"}


EMPTY = {"answered_cells": 0}


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"shown": _shown(0.5)}, {"shown": _shown(0.9)}, ("from 0.5 and some from 0.9", "at one --threshold")),
        ({"settings": {"detection": {"threshold": 0.5}}}, {"shown": _shown(0.9)}, ("from 0.5 and some from 0.9",)),
        (
            {"shown": _shown()},
            {"shown": _shown(refined=1.0), "passes": _refined(1.0), "coverage": EMPTY},
            ("some from probability and some from refined 100% by mover (r)", "with the same options"),
        ),
        (
            {"shown": _shown(refined=1.0), "passes": _refined(1.0), "coverage": EMPTY},
            {"shown": _shown(refined=0.5), "passes": _refined(1.0), "coverage": EMPTY},
            ("refined 100% by mover (r) and some from refined 50% by mover (r)",),
        ),
        (
            {"shown": _shown(refined=1.0), "passes": _refined(1.0), "coverage": EMPTY},
            {"shown": _shown(refined=1.0), "passes": _refined(1.0, sha="s"), "coverage": EMPTY},
            ("by mover (r) and some from refined 100% by mover (s)",),
        ),
    ],
)
def test_detections_that_were_written_in_several_ways_are_not_mixed(folders, scan, one, other, words):
    """A window writes its files as it shows them, slide by slide."""
    scan(**one)
    scan("d", places="", **other)
    with pytest.raises(EvaluationError) as raised:
        score_folders(*folders, QUICK)
    assert all(word in str(raised.value) for word in words)


def test_detections_that_were_written_in_one_way_are_scored_together(folders, scan):
    scan(shown=_shown())
    scan("d", places="", shown=_shown(refined=0.0), passes=_refined(1.0), coverage=EMPTY)
    assert {"c", "d"} < set(score_folders(*folders, QUICK).to_json()["slides"])


def test_two_scans_of_a_slide_are_not_chosen_between(folders, scan):
    scan()
    scan(sha="b", inside="scan-0123abcd")
    (left_out,) = score_folders(*folders, QUICK).left_out
    assert "got another one in scan-0123abcd" in left_out.why


def test_a_damaged_record_is_named(folders, scan):
    (scan() / "run.json").write_text("{}")
    (left_out,) = score_folders(*folders, QUICK).left_out
    assert "run.json" in left_out.why


def test_bad_files_are_named_and_the_rest_is_scored(folders):
    found, reference = folders
    (found / "Tumor_001.csv").write_text("0.9,ten,1000\n")
    (found / "tumor_003.csv").write_text("")
    (found / "normal_004.csv").write_bytes(b"\xff\xfe\x00")
    (reference / "normal_001.xml").write_text("<no/>")
    (reference / "tumor_099.xml").write_text("<no/>")
    report = score_folders(found, reference, QUICK)
    assert [one.slide for one in report.outcomes] == ["tumor_002"]
    named = {one.slide: one for one in report.left_out}
    assert set(named) == {"Tumor_001", "normal_001", "normal_004", "tumor_003", "tumor_099"}
    assert "line 1 of" in named["Tumor_001"].why
    assert "normal_001.xml" in named["normal_001"].why
    assert "rename the slide if it is normal" in named["tumor_003"].why
    assert named["tumor_099"] == LeftOut(
        "tumor_099", "it has truth but no detections; an empty CSV says that nothing was found", is_failure=False
    )
    assert sum(one.is_failure for one in report.left_out) == 4


@pytest.mark.parametrize(
    ("detections", "truth"),
    [("s.ome.csv", "s.geojson"), ("s.csv", "s.geojson.gz"), ("s.csv", "s.json"), ("s.ome.csv", "S.ome.xml")],
)
def test_names_with_two_suffixes_pair(tmp_path, detections, truth):
    (tmp_path / "det").mkdir()
    (tmp_path / "truth").mkdir()
    (tmp_path / "det" / detections).write_text("0.9,2000,2000\n")
    corners = [[1000, 1000], [3000, 1000], [3000, 3000], [1000, 3000], [1000, 1000]]
    features = {"type": "FeatureCollection", "features": [{
        "type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": {"classification": {"name": "Tumor"}},
    }]}  # fmt: skip
    path = tmp_path / "truth" / truth
    if truth.endswith(".xml"):
        write_asap_xml(path, AnnotationSet((Annotation.of_rings("a", "_0", corners),)))
    else:
        text = json.dumps(features).encode()
        path.write_bytes(gzip.compress(text) if truth.endswith(".gz") else text)
    (tmp_path / "truth" / "figures.json").write_text('{"auc": 1}')
    report = score_folders(tmp_path / "det", tmp_path / "truth", QUICK)
    (outcome,) = report.outcomes
    assert (outcome.is_tumour, len(outcome.hits)) == (True, 1)
    assert report.left_out == ()


def test_names_that_do_not_pair_make_no_slide_normal(folders):
    found, reference = folders
    (found / "slide 1.csv").write_text("0.9,1000,1000\n")
    write_asap_xml(
        reference / "slide_1.xml", AnnotationSet((Annotation.of_rings("a", "_0", [(0, 0), (900, 0), (900, 900)]),))
    )
    with pytest.raises(EvaluationError, match=r"detections alone of slide 1, and truth alone of slide_1; rename"):
        score_folders(found, reference, QUICK)
    meant = score_folders(found, reference, replace(QUICK, allow_unpaired=True))
    assert "slide 1" in meant.measured["normal_without_truth"]


def test_what_was_not_understood_of_the_truth_is_told(folders):
    found, reference = folders
    ring = [(640, 640), (1600, 640), (1600, 1280)]
    areas = [Annotation.of_rings("a", "_0", ring), Annotation.of_rings("b", "unclear", ring)]
    write_asap_xml(reference / "tumor_001.xml", AnnotationSet(tuple(areas)))
    with pytest.warns(AnnotationWarning, match="1 outline of group 'unclear'"):
        report = score_folders(found, reference, QUICK)
    (note,) = report.to_json()["notes"]
    assert "tumor_001.xml" in note


def test_a_mask_of_another_level_is_noticed(folders):
    found, reference = folders
    report = score_folders(found, reference, replace(QUICK, mask_downsample=16))
    (left_out,) = report.left_out
    assert left_out.slide == "tumor_002"
    assert left_out.is_failure
    assert "got one at (1000, 1000); check the mask's downsample" in left_out.why


def test_a_mask_of_level_0_without_a_pyramid_is_no_mask_of_level_5(folders):
    found, reference = folders
    tifffile.imwrite(reference / "masks" / "Tumor_002_Mask.tif", np.zeros((100, 12_500), np.uint8), compression="zlib")
    (left_out,) = score_folders(found, reference, QUICK).left_out
    assert "--mask-downsample" in left_out.why


def test_tumour_between_the_pixels_of_a_mask_makes_a_tumour_slide_without_lesions(folders):
    found, reference = folders
    level0 = np.zeros((1920, 2240), np.uint8)
    level0[705:715, 705:715] = 255
    with tifffile.TiffWriter(reference / "masks" / "Tumor_002_Mask.tif") as file:
        for step in (1, 32):
            file.write(level0[::step, ::step], tile=(64, 64), metadata=None, subfiletype=int(step > 1))
    slide = score_folders(found, reference, QUICK).to_json()["slides"]["tumor_002"]
    assert (slide["tumour"], slide["lesions"], slide["false_positives"]) == (True, 0, 1)


def test_slides_that_camelyon16_does_not_score_are_left_out_with_a_note(folders):
    found, reference = folders
    (found / "Test_049.csv").write_text("0.9,1,1\n")
    (found / "test_114.csv").write_text("")
    report = score_folders(found, reference, QUICK)
    assert {one.slide for one in report.left_out} == {"Test_049", "test_114"}
    assert not any(one.is_failure for one in report.left_out)
    assert len(score_folders(found, reference, replace(QUICK, keep_flawed=True)).outcomes) == 5


def test_folders_that_are_wrong_are_named(folders, tmp_path):
    found, reference = folders
    with pytest.raises(EvaluationError, match=r"expected a folder with detections, got .*missing"):
        score_folders(tmp_path / "missing", reference, QUICK)
    with pytest.raises(EvaluationError, match=r"expected a folder with truth, got .*missing"):
        score_folders(found, tmp_path / "missing", QUICK)
    with pytest.raises(EvaluationError, match="got no CSV files"):
        score_folders(reference, reference, QUICK)
    for path in found.iterdir():
        path.write_text("nonsense\n")
    with pytest.raises(EvaluationError, match=r"got none of 3: .*, for one: expected probability"):
        score_folders(found, reference, QUICK)


@pytest.mark.parametrize("step", ["_outcome", "read_scan_record"])
def test_whatever_a_file_raises_the_others_are_scored(folders, monkeypatch, step):
    found, _ = folders
    if step == "read_scan_record":
        (found / "normal_001.metastasis").mkdir()
        (found / "normal_001.csv").rename(found / "normal_001.metastasis" / "detections.csv")
    whole = getattr(folders_module, step)

    def fail(slide, *rest):
        if "normal_001" in str(slide):
            raise RecursionError("maximum recursion depth exceeded")
        return whole(slide, *rest)

    monkeypatch.setattr(folders_module, step, fail)
    report = score_folders(*folders, QUICK)
    (left,) = report.left_out
    assert (left.slide, left.is_failure) == ("normal_001", True)
    assert left.why == "unexpected RecursionError: maximum recursion depth exceeded"
    assert len(report.outcomes) == 2


def test_a_mask_that_its_reader_cannot_bear_is_its_slides_fault_alone(folders, monkeypatch):
    def fail(_path):
        raise MemoryError

    monkeypatch.setattr(annotation_files, "MaskFile", fail)
    report = score_folders(*folders, QUICK)
    assert [(one.slide, one.why) for one in report.left_out] == [("tumor_002", "unexpected MemoryError")]
