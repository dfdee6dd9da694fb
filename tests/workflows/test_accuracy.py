"""The shipped model through the public path: on real regions scanned as a slide, and on the sample slide."""

from __future__ import annotations

import csv

import pytest
import shapely
from accuracy import region_auc

from napari_metastasis.annotations import read_asap_xml
from napari_metastasis.models import load_detector
from napari_metastasis.settings import DEFAULT_MODEL, RefineSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.synthetic import sample_slide_path, size_class
from napari_metastasis.workflows.scan import AtHand, PassRequest, ScanJob, scan_slide

#: A detection this near an outline counts for it, as the challenge's own masks are widened.
NEAR_UM = 75 / 2


@pytest.mark.shared
def test_tumour_is_told_from_other_tissue_on_real_regions(shared_data):
    # The weights have seen these regions: this is the public path's test, not the network's (docs/models.md).
    assert region_auc(load_detector(DEFAULT_MODEL), shared_data / "regions", mpp=0.7, views=1) >= 0.93


@pytest.mark.parametrize("refine", [False, True])
def test_the_sample_slides_metastases_are_found(tmp_path, refine):
    path = sample_slide_path()
    passes = (PassRequest(task="refine", settings=RefineSettings(refine=refine)),)
    with open_slide(path) as slide:
        result = scan_slide(ScanJob(slide=path, passes=passes, output=tmp_path / "result"), AtHand(slide=slide))
        mpp = slide.mpp
    # What other programs read, not what is in memory.
    with (tmp_path / "result" / "detections.csv").open() as stream:
        points = [shapely.Point(float(x), float(y)) for _, x, y in csv.reader(stream)]
    assert len(points) == len(result.detections)
    annotations = list(read_asap_xml(path.with_suffix(".xml")))
    outlines = [shapely.Polygon(annotation.exterior).buffer(NEAR_UM / mpp) for annotation in annotations]
    missed = [
        annotation.name
        for annotation, outline in zip(annotations, outlines, strict=True)
        if size_class(annotation, mpp) != "itc" and not any(outline.contains(point) for point in points)
    ]
    false = [point for point in points if not any(outline.contains(point) for outline in outlines)]
    assert missed == []
    assert len(false) <= 2
    if refine:
        # What the threshold leaves in pieces is joined.
        assert len(result.lesions) <= 10
        assert [lesion.size_class for lesion in result.lesions].count("macro") == 1
        assert [lesion.size_class for lesion in result.lesions].count("macro") == 1
