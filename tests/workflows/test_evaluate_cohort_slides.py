"""A model on a cohort: from slides to figures, worked out by hand."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from dark_model import dark_model

from napari_metastasis.annotations import Annotation, AnnotationSet, read_asap_xml, read_mask, write_asap_xml
from napari_metastasis.cohorts.cohort import CohortSlide, read_cohort
from napari_metastasis.cohorts.survey import survey_slide
from napari_metastasis.errors import CohortError, EvaluationError, ScanCancelledError
from napari_metastasis.evaluation.cohort_lesions import slide_reference
from napari_metastasis.geometry import Size
from napari_metastasis.models import ScanModels
from napari_metastasis.settings import DetectionSettings, EvaluationSettings, ScanSettings
from napari_metastasis.slides import open_slide, write_pyramid
from napari_metastasis.workflows import evaluate as evaluate_module
from napari_metastasis.workflows.evaluate import CohortEvaluation, evaluate_cohort
from napari_metastasis.workflows.evaluated_slides import evaluation_output, split_to_evaluate
from napari_metastasis.workflows.scan import ScanResult, cohort_output
from napari_metastasis.workflows.scan.result_folder import stored_maps, stored_scans
from napari_metastasis.workflows.scan_job import ScanJob

MPP = 0.972
HOW = CohortEvaluation(
    job=ScanJob(
        slide=Path("none"),
        scan=ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=512),
        detection=DetectionSettings(nms_radius_um=1000.0),
    ),
    scoring=EvaluationSettings(resamples=100),
)
#: Dark squares of each slide, (left, top, side) in pixels, and which of them are outlined.
PAINTED = {
    # A lesion of 0.5 mm that the model finds, and one of the same size that it does not see: outlined, not dark.
    "test_001": ([(200, 200, 500)], [(200, 200, 500), (900, 1000, 500)]),
    # Isolated cells of 0.12 mm, found; and a dark place that nobody outlined.
    "test_002": ([(150, 150, 120), (1100, 1100, 200)], [(150, 150, 120)]),
    "test_003": ([], []),
    # A normal slide with a dark place.
    "test_004": ([(600, 600, 150)], []),
}


def write_square(path, squares, mpp=MPP, side=1500):
    pixels = np.full((side, side, 3), 245, np.uint8)
    pixels[60:-60, 60:-60] = (225, 150, 195)
    for left, top, size in squares:
        pixels[top : top + size, left : left + size] = (60, 20, 80)
    write_pyramid(path, pixels, mpp=mpp, size=Size(side, side), compression="deflate")


def outline(path, squares):
    rings = [
        np.array([(x, y), (x + size, y), (x + size, y + size), (x, y + size)], dtype=float) for x, y, size in squares
    ]
    write_asap_xml(
        path, AnnotationSet(tuple(Annotation.of_rings(name="a", group="_0", exterior=ring) for ring in rings))
    )


@pytest.fixture(scope="session")
def painted(tmp_path_factory):
    """CAMELYON16's layout: four painted test slides, one that is no slide, and one that is never scored."""
    root = tmp_path_factory.mktemp("painted")
    (root / "testing" / "images").mkdir(parents=True)
    (root / "testing" / "lesion_annotations").mkdir()
    for name, (dark, outlined) in PAINTED.items():
        write_square(root / "testing" / "images" / f"{name}.tif", dark)
        if outlined:
            outline(root / "testing" / "lesion_annotations" / f"{name}.xml", outlined)
    for name in ("test_005", "test_049"):
        (root / "testing" / "images" / f"{name}.tif").write_bytes(b"no slide")
    return root


@contextlib.contextmanager
def no_bar(title):
    del title

    def progress(done, total):
        assert 0 <= done <= total

    yield progress


def measure(root, output, how=HOW, *, split="test", should_stop=lambda: False, bar=no_bar, **more):
    cohort = read_cohort(root, validation_share=0.15, seed=1, **more)
    return evaluate_cohort(
        cohort, ScanModels(dark_model()), replace(how, split=split), output=output, bar=bar, should_stop=should_stop
    )


@pytest.fixture(scope="module")
def scanned(painted, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluation")
    return output, measure(painted, output)


def test_every_figure_by_hand(scanned):
    output, report = scanned
    slides = report.to_json()["slides"]
    wanted = ("tumour", "lesions", "itc", "targets", "hits", "misses", "false_positives", "on_itc")
    assert {name: tuple(one[key] for key in wanted) for name, one in slides.items()} == {
        "test_001": (True, 2, 0, 2, 1, 1, 0, 0),
        "test_002": (True, 1, 1, 0, 0, 0, 1, 1),
        "test_003": (False, 0, 0, 0, 0, 0, 0, 0),
        "test_004": (False, 0, 0, 0, 0, 0, 1, 0),
    }
    # Every dark place is called with the same certainty, so that all enter the curve at once: half of the lesions at
    # half a false positive per slide; the line to it from the origin reaches half of that at a quarter.
    probabilities = {float(p) for one in report.outcomes for p in (*one.hits, *one.false_positives)}
    assert max(probabilities) - min(probabilities) < 1e-6
    assert max(probabilities) > 0.99
    figures = report.to_json()
    assert figures["sensitivity"][0] == 0.5
    assert figures["mean_fp_per_slide"][0] == 0.5
    assert figures["sensitivity_at_rates_linear"][1:] == [0.5] * 5
    assert {one.size_class: (one.lesions, one.found) for one in report.sizes} == {
        "itc": (1, 1),
        "micro": (2, 1),
        "macro": (0, 0),
    }
    # The normal slide with a dark place scores as high as both tumour slides: two of four pairs tie.
    assert figures["auc"] == 0.75
    assert figures["confusion"] == {
        "true_positives": 2, "false_positives": 1, "false_negatives": 0, "true_negatives": 1,
    }  # fmt: skip
    assert figures["mpp_level0"] == MPP
    check_cells(report, output)
    # A pixel of the scored masks is as large as in the challenge.
    assert figures["settings"]["downsample"] == 8
    assert figures["measured"]["model"] == "dark"
    assert figures["measured"]["split"] == "test"
    assert (output / "test_001.metastasis" / "detections.csv").exists()


def check_cells(report, output):
    """Work the figures of cells out from the saved maps and the painted squares."""
    normal, tumour = [], []
    for name, (_, outlined) in PAINTED.items():
        (stored,) = stored_scans(output / f"{name}.metastasis")
        (heatmap,) = stored_maps(stored)
        is_tumour = np.zeros(heatmap.values.shape, dtype=bool)
        for (row, column), _ in np.ndenumerate(is_tumour):
            # A centre that lies between four pixels is asked of the one behind it.
            center = heatmap.frame.cell_center(column, row)
            x, y = int(center.x) + 0.5, int(center.y) + 0.5
            is_tumour[row, column] = any(
                left <= x < left + side and top <= y < top + side for left, top, side in outlined
            )
        answered = ~np.isnan(heatmap.values)
        normal.append(heatmap.values[answered & ~is_tumour])
        tumour.append(heatmap.values[answered & is_tumour])
    cell_mm2 = (heatmap.frame.cell_um / 1000) ** 2
    normal, tumour = np.concatenate(normal), np.concatenate(tumour)
    figures = report.to_json()
    assert figures["cell_threshold"] == 0.5
    assert figures["false_positive_mm2_per_mm2"] == pytest.approx((normal >= 0.5).mean())
    assert figures["cell_sensitivity"] == pytest.approx((tumour >= 0.5).mean())
    assert figures["false_detections_per_mm2"] == pytest.approx(2 / (len(normal) * cell_mm2))


def test_slides_that_fail_are_named_and_those_never_scored_are_a_note(scanned):
    _, report = scanned
    assert [(one.slide, one.is_failure) for one in report.left_out] == [("test_049", False), ("test_005", True)]
    assert "test_005.tif" in report.left_out[1].why


def test_the_same_command_scans_nothing_again(scanned, painted, monkeypatch):
    output, report = scanned
    # Nor does it lay out the whole of a map, with all its glass.
    monkeypatch.delattr(ScanResult, "probabilities")
    again = measure(painted, output)
    assert again.to_json() == report.to_json()
    for name in PAINTED:
        record = json.loads((output / f"{name}.metastasis" / "run.json").read_text())
        assert record["scans"][-1]["mpx_per_s"] == 0


def test_a_slide_is_opened_once_to_be_looked_at_and_once_to_be_scanned(tmp_path, monkeypatch):
    root = tmp_path / "cohort"
    root.mkdir()
    # The same slide twice would be a fault.
    for number, name in enumerate(("outlined", "masked", "normal", "train", "validation")):
        write_square(root / f"{name}.tif", [(200, 200, 400)] if name != "normal" else [], side=800 + 16 * number)
    for name in ("outlined", "train"):
        outline(root / f"{name}.xml", [(200, 200, 400)])
    for name, side in (("masked", 816), ("validation", 864)):
        mask = np.zeros((side, side), np.uint8)
        mask[200:600, 200:600] = 255
        (root / f"{name}_mask.png").write_bytes(imagecodecs.png_encode(mask))
    (root / "cohort.csv").write_text(
        "slide,annotation,split\noutlined.tif,outlined.xml,test\nmasked.tif,masked_mask.png,test\n"
        "normal.tif,,test\ntrain.tif,train.xml,train\nvalidation.tif,validation_mask.png,validation\n"
    )
    opened, read = Counter(), Counter()

    def counted(function, counter):
        def call(path, *arguments, **options):
            counter[Path(getattr(path, "path", path)).stem] += 1
            return function(path, *arguments, **options)

        return call

    # Wherever they were imported to.
    rooms = [module for name, module in sys.modules.items() if name.startswith("napari_metastasis.")]
    for function, counter in ((open_slide, opened), (read_asap_xml, read), (read_mask, read)):
        for room in rooms:
            if getattr(room, function.__name__, None) is function:
                monkeypatch.setattr(room, function.__name__, counted(function, counter))
    report = measure(root, tmp_path / "out")
    assert [(one.slide, one.is_tumour) for one in report.outcomes] == [
        ("masked", True), ("normal", False), ("outlined", True),
    ]  # fmt: skip
    # Nobody measures on the others: their headers tell whether they are other slides, and the mask what tumour is.
    assert opened == {"outlined": 2, "masked": 2, "normal": 2, "train": 1, "validation": 1}
    assert read == {"outlined": 1, "masked_mask": 1}
    assert report.settings.tumour_value == 255


def test_a_stopped_evaluation_goes_on(scanned, painted, tmp_path):
    _, report = scanned
    stop = []

    @contextlib.contextmanager
    def bar(title):
        def progress(done, total):
            # Stopped once the second slide is being scanned.
            if title.startswith("Scanning") and 1000 < done < total:
                stop.append(True)

        yield progress

    with pytest.raises(ScanCancelledError):
        measure(painted, tmp_path, bar=bar, should_stop=lambda: bool(stop))
    assert (tmp_path / "test_001.metastasis").exists()
    assert not (tmp_path / "test_004.metastasis").exists()
    assert measure(painted, tmp_path).to_json() == report.to_json()


def test_a_slide_damaged_inside_is_passed_over(tmp_path):
    root = tmp_path / "damaged"
    root.mkdir()
    write_square(root / "good.tif", [])
    write_square(root / "bad.tif", [(300, 300, 300)])
    data = bytearray((root / "bad.tif").read_bytes())
    # Its directories, which lie last, are whole; its pixels are not.
    data[16 : len(data) // 2] = b"\xff" * (len(data) // 2 - 16)
    (root / "bad.tif").write_bytes(data)
    (root / "cohort.csv").write_text("slide,split\ngood.tif,test\nbad.tif,test\n")
    report = measure(root, tmp_path / "out")
    assert [one.slide for one in report.outcomes] == ["good"]
    assert [(one.slide, one.is_failure) for one in report.left_out] == [("bad", True)]


def test_nothing_to_score_is_one_error(painted, tmp_path):
    with pytest.raises(CohortError, match=r"expected train slides .* got none of 5; choose another --split"):
        measure(painted, tmp_path, split="train")
    root = tmp_path / "broken"
    root.mkdir()
    (root / "a.tif").write_bytes(b"no slide")
    (root / "cohort.csv").write_text("slide,split\na.tif,test\n")
    with pytest.raises(EvaluationError, match=r"expected test slides to score .* got none: a, for one: .*a\.tif"):
        measure(root, tmp_path / "out")
    with pytest.raises(CohortError, match=r"expected a folder laid out as camelyon16, got .*, which is file"):
        read_cohort(root / "cohort.csv", validation_share=0, seed=1, layout="camelyon16")


def test_slides_whose_tumour_is_not_all_outlined_have_no_part(tmp_path):
    root = tmp_path / "partial"
    root.mkdir()
    for number, name in enumerate("abc"):
        # The same slide thrice would be a fault.
        write_square(root / f"{name}.tif", [], side=600 + 16 * number)
    (root / "cohort.csv").write_text(
        "slide,split,tumour,exhaustive\na.tif,test,no,\nb.tif,test,yes,\nc.tif,test,no,no\n"
    )
    report = measure(root, tmp_path / "out")
    assert [one.slide for one in report.outcomes] == ["a"]
    assert [(one.slide, one.why, one.is_failure) for one in report.left_out] == [
        ("b", "its tumour is not outlined", False),
        ("c", "not all its tumour is outlined", False),
    ]
    kept = replace(HOW, scoring=replace(HOW.scoring, keep_flawed=True))
    assert [one.slide for one in measure(root, tmp_path / "out", kept).outcomes] == ["a", "c"]


@pytest.mark.parametrize("mpp", [0.243, 0.486, 1.0])
def test_a_slides_own_pixel_size_decides_what_a_target_is(tmp_path, mpp):
    # 0.2 mm of tumour and the growth of 37.5 µm at both ends: a target, whatever the pixel size.
    side = round(250 / mpp)
    pixels = round(700 / mpp)
    write_square(tmp_path / "a.tif", [], mpp=mpp, side=pixels)
    outline(tmp_path / "a.xml", [(100, 100, side)])
    slide = CohortSlide(name="a", path=tmp_path / "a.tif", annotation=tmp_path / "a.xml")
    reference = slide_reference(survey_slide(slide), EvaluationSettings(), own_mpp=True)
    (lesion,) = reference.lesions
    assert reference.mpp == pytest.approx(mpp)
    assert reference.downsample == {0.243: 32, 0.486: 16, 1.0: 8}[mpp]
    assert lesion.is_target
    # The axis of the ellipse with a square's second moments is 2 / sqrt(3) of its side.
    assert lesion.major_axis_um == pytest.approx((250 + 75) * 2 / np.sqrt(3), rel=0.08)
    challenge = slide_reference(survey_slide(slide), EvaluationSettings(), own_mpp=False)
    assert (challenge.mpp, challenge.downsample) == (0.243, 32)


@pytest.mark.parametrize(("downsample", "scored"), [(1, 8), (4, 8), (5, 10), (20, 20)])
def test_masks_and_outlines_tell_the_same_lesions(tmp_path, downsample, scored):
    write_square(tmp_path / "a.tif", [], side=1200)
    mask = np.zeros((1200 // downsample, 1200 // downsample), np.uint8)
    mask[400 // downsample : 800 // downsample, 200 // downsample : 600 // downsample] = 255
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(mask))
    slide = CohortSlide(name="a", path=tmp_path / "a.tif", annotation=tmp_path / "a.png")
    reference = slide_reference(survey_slide(slide), EvaluationSettings(tumour_value=255), own_mpp=True)
    assert reference.downsample == scored
    (lesion,) = reference.lesions
    outline(tmp_path / "a.xml", [(200, 400, 400)])
    drawn = slide_reference(
        survey_slide(replace(slide, annotation=tmp_path / "a.xml")), EvaluationSettings(), own_mpp=True
    )
    assert lesion.length_mm == pytest.approx(drawn.lesions[0].length_mm, rel=0.06)
    hits = reference.lesion_at(np.array([[400.0, 600.0], [190.0, 600.0], [100.0, 600.0]]))
    assert hits.tolist() == [0, 0, -1]


def test_split_and_folder_unless_told_otherwise(painted, tmp_path):
    cohort = read_cohort(painted, validation_share=0.15, seed=1)
    assert split_to_evaluate(cohort) == "test"
    rest = replace(cohort, slides=tuple(replace(slide, split="validation") for slide in cohort.slides))
    assert split_to_evaluate(rest) == "validation"
    assert evaluation_output(painted, "dark") == painted.parent / f"{painted.name}-dark.evaluation"
    assert evaluation_output(tmp_path / "mine.csv", "dark") == tmp_path / "mine-dark.evaluation"
    assert cohort_output(tmp_path, cohort.slides[0]).name == "test_001.metastasis"


@pytest.mark.parametrize("step", ["slide_reference", "match_slide", "_cells"])
def test_whatever_one_slide_raises_the_others_are_scored(painted, tmp_path, monkeypatch, step):
    whole, asked = getattr(evaluate_module, step), []

    def fail(*arguments, **options):
        asked.append(True)
        if len(asked) == 1:
            raise RuntimeError("odd")
        return whole(*arguments, **options)

    monkeypatch.setattr(evaluate_module, step, fail)
    report = measure(painted, tmp_path)
    (failed,) = [one for one in report.left_out if one.is_failure and one.slide != "test_005"]
    assert failed.why == "unexpected RuntimeError: odd"
    assert {one.slide for one in report.outcomes} == set(PAINTED) - {failed.slide}


def test_a_slide_that_is_a_link_to_itself_is_left_out(tmp_path):
    write_square(tmp_path / "good.tif", [])
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    (tmp_path / "cohort.csv").write_text("slide,split\ngood.tif,test\nloop.tif,test\n")
    report = measure(tmp_path / "cohort.csv", tmp_path / "out")
    assert [one.slide for one in report.outcomes] == ["good"]
    assert [(one.slide, one.is_failure) for one in report.left_out] == [("loop", True)]
