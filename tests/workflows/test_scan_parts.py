"""A slide scanned in parts is the slide scanned whole, byte for byte, with every pass and after any interruption."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from dark_model import dark_model, dark_segmenter, mover
from result_bytes import result_bytes
from scans import SCAN, models_of

from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size
from napari_metastasis.scanning import SlidePart, Wanted, plan_part
from napari_metastasis.settings import RefineSettings, SegmentSettings
from napari_metastasis.workflows.scan import AtHand, EngineCache, PassRequest, ScanJob, scan_slide
from napari_metastasis.workflows.scan.parts import part_of
from napari_metastasis.workflows.scan.runner import scan_part

PARTS = 3
#: Passes that read features, and pixels of all tissue or of what looks suspicious.
PASSES = {
    "scan": (),
    "refine": (PassRequest(task="refine", settings=RefineSettings(refine=True, keep_features=True)),),
    "segment": (PassRequest(task="segment", settings=SegmentSettings(segment=True)),),
    "suspicious": (PassRequest(task="segment", settings=SegmentSettings(segment=True, segment_above=0.5)),),
}


@pytest.fixture
def engines():
    with EngineCache(lambda _: models_of(dark_model(), mover(dark_model()), dark_segmenter())) as cache:
        yield cache


@pytest.fixture(params=list(PASSES))
def job(request, slide_path, tmp_path):
    root = tmp_path / "parts" / "node.metastasis"
    return ScanJob(slide=slide_path, model="in memory", passes=PASSES[request.param], scan=SCAN, output=root)


def whole(job, engines, output):
    """Scan the slide whole, as one machine does."""
    return scan_slide(ScanJob(**{name: getattr(job, name) for name in job.__slots__} | {"output": output}), engines)


def parts(job, held, numbers=range(PARTS), **how):
    for number in numbers:
        scan_part(part_of(job, job.output, SlidePart(number, PARTS)), held, **how)


def test_parts_are_the_whole(job, engines, tmp_path):
    held = AtHand(engines=engines)
    expected = whole(job, held, tmp_path / "whole" / "node.metastasis")
    counted = []
    parts(job, held, progress=lambda done, total: counted.append((done, total)))
    assert all(done <= total for done, total in counted)
    assert len(list((job.output / ".parts").iterdir())) == PARTS
    result = scan_slide(job, held)
    assert result.finished
    assert result.lesions == expected.lesions
    assert len(result.lesions) == 1
    assert result_bytes(job.output) == result_bytes(expected.output)
    assert not (job.output / ".parts").exists()
    *of_parts, last = json.loads((job.output / "run.json").read_text())["scans"]
    assert [one["part"] for one in of_parts] == [[number + 1, PARTS] for number in range(PARTS)]
    # The scan of the whole took what they had.
    assert sum(one["model_px"] for one in of_parts) > 0
    assert last["model_px"] == 0


def test_what_a_part_did_not_come_to_is_scanned(job, engines, tmp_path):
    held = AtHand(engines=engines)
    expected = whole(job, held, tmp_path / "whole" / "node.metastasis")
    asked = []

    def after_some():
        asked.append(True)
        return len(asked) > 4

    parts(job, held, [0])
    parts(job, held, [1], should_stop=after_some)
    # Damaged: scanned again.
    (chunk, *_) = (job.output / ".parts" / f"1-of-{PARTS}").glob("heatmap.ome.zarr/0/c/*/*")
    chunk.write_bytes(chunk.read_bytes()[:-3])
    result = scan_slide(job, held)
    assert result.finished
    assert result.lesions == expected.lesions


def test_parts_begin_with_what_the_slide_has(slide_path, tmp_path, engines):
    held = AtHand(engines=engines)
    job = ScanJob(slide=slide_path, model="in memory", scan=SCAN, output=tmp_path / "node.metastasis")
    before = scan_slide(job, held)
    counted = []
    parts(job, held, progress=lambda *now: counted.append(now))
    assert counted == [(0, 0)] * PARTS
    assert scan_slide(job, held).lesions == before.lesions


def test_every_piece_has_one_part_and_parts_are_alike():
    frame = HeatmapFrame(ModelFrame(size=Size(4000, 3000), scale=1.0, mpp=0.972), patch_px=12, stride_px=4)
    wanted = Wanted(cells=Region.of(frame.cells))
    everything = plan_part(frame, wanted, None, roi_px=160).rois
    shares = [plan_part(frame, wanted, SlidePart(number, 7), roi_px=160).rois for number in range(7)]
    assert Counter(roi for rois in shares for roi in rois) == Counter(everything)
    areas = [sum(roi.write.size.area for roi in rois) for rois in shares]
    assert max(areas) < 1.2 * min(areas)
