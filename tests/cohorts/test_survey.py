"""A slide is looked at once: its header, and what it is annotated with."""

from __future__ import annotations

import json
import pickle
import struct

import numpy as np
import pytest
from cohort_files import write_mask, write_outline, write_slide

from napari_metastasis.cohorts import survey as survey_module
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import MaskReference, NoTumour, OutlineReference
from napari_metastasis.cohorts.survey import survey_slide, survey_slides
from napari_metastasis.errors import AnnotationError, SlideError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame
from napari_metastasis.slides import open_slide

MPP, DISC_UM, RADIUS_UM = 0.972, (150.0, 100.0), 40.0


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """A slide with outlines, with a mask, and without either."""
    folder = tmp_path_factory.mktemp("survey")
    size = write_slide(folder / "a.tif", mpp=MPP, size_um=(300.0, 200.0), disc_um=DISC_UM)
    write_outline(folder / "a.xml", DISC_UM, RADIUS_UM, MPP)
    write_mask(folder / "a.png", size, DISC_UM, RADIUS_UM, MPP, values=(0, 1))
    names = {"outlines": "a.xml", "mask": "a.png", "none": None}
    return {
        kind: CohortSlide(name="a", path=folder / "a.tif", annotation=name and folder / name)
        for kind, name in names.items()
    }


@pytest.mark.parametrize(
    ("kind", "reference"), [("outlines", OutlineReference), ("mask", MaskReference), ("none", NoTumour)]
)
def test_header_and_reference(annotated, kind, reference):
    survey = pickle.loads(pickle.dumps(survey_slide(annotated[kind])))
    with open_slide(annotated[kind].path) as slide:
        header = survey.opened()
        assert (header.fingerprint, header.size) == (slide.fingerprint, slide.size)
        assert (header.bounds, header.mpp) == (slide.bounds, slide.mpp)
    found = survey.reference(1)
    assert isinstance(found, reference)
    assert (survey.mask is not None) == (kind == "mask")
    frame = ModelFrame(scale=1.0, mpp=MPP, size=header.size)
    cells = found.over_cells(HeatmapFrame(model=frame, patch_px=16, stride_px=16)).may_hold
    assert cells.any() == (kind != "none")


def test_an_annotation_that_nobody_asked_for_is_not_read(annotated):
    survey = survey_slide(annotated["outlines"], reads=lambda path: path.suffix == ".png")
    assert survey.areas is None
    # It is not taken for a normal slide.
    with pytest.raises(AnnotationError, match=r"expected .*a\.xml to be read, got a look at a\.tif alone; survey"):
        survey.reference(1)
    assert survey_slide(annotated["mask"], reads=lambda path: path.suffix == ".png").mask is not None


def test_points_are_another_question_to_the_same_slide(annotated, tmp_path):
    assert len(survey_slide(annotated["none"]).points()) == 0
    assert len(survey_slide(annotated["outlines"]).points()) == 0
    feature = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [3, 4]}, "properties": {"name": "cell"}}
    (tmp_path / "a.geojson").write_text(json.dumps([feature]))
    slide = CohortSlide(name="a", path=annotated["none"].path, annotation=tmp_path / "a.geojson")
    found = survey_slide(slide).points()
    np.testing.assert_array_equal(found.xy, [[3, 4]])
    assert found.classes == ("cell",)
    with pytest.raises(AnnotationError, match=r"expected points as .*a\.png"):
        survey_slide(annotated["mask"]).points()


def test_what_fails_is_kept_and_raised_when_it_is_needed(annotated, tmp_path):
    gone = CohortSlide(name="gone", path=tmp_path / "gone.tif", annotation=annotated["mask"].annotation)
    (tmp_path / "bad.xml").write_text("<no/>")
    bad = CohortSlide(name="bad", path=annotated["none"].path, annotation=tmp_path / "bad.xml")
    told = []
    surveys = survey_slides([gone, bad, gone], threads=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    with pytest.raises(SlideError, match=r"gone\.tif"):
        surveys[gone].opened()
    # Its mask has a say in what tumour is all the same.
    assert surveys[gone].mask.values() == {0, 1}
    assert surveys[bad].opened().mpp == pytest.approx(MPP)
    for slide, error in ((gone, SlideError), (bad, AnnotationError)):
        with pytest.raises(error):
            surveys[slide].reference(1)


@pytest.mark.parametrize(("module", "reads"), [("open_slide", "header"), ("read_areas", "areas")])
def test_whatever_a_damaged_file_raises_is_kept(annotated, monkeypatch, module, reads):
    def fail(*_args, **_kwargs):
        raise struct.error("unpack requires a buffer")

    monkeypatch.setattr(survey_module, module, fail)
    survey = survey_slide(annotated["outlines"])
    assert str(getattr(survey, reads)) == "unexpected error: unpack requires a buffer"
    with pytest.raises((SlideError, AnnotationError)):
        survey.reference(1)
