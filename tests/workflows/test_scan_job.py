"""A job says everything about a scan: it is a plain value that a cluster can be sent."""

import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from toy_pass import ToySettings

from napari_metastasis.geometry import Point, Region
from napari_metastasis.settings import RefineSettings, ScanSettings
from napari_metastasis.workflows.scan_job import PassRequest, ScanJob


@pytest.fixture
def job():
    return ScanJob(
        slide=Path("slide.tif"),
        mpp=0.25,
        model="fast-scannet",
        passes=(
            PassRequest(task="refine", settings=RefineSettings(keep_features=False)),
            PassRequest(task="toy", settings=ToySettings(toy=True), model="averager"),
        ),
        region=Region(0, 0, 512, 512),
        focus=Point(256, 256),
        scan=ScanSettings(roi_px=512),
        output=Path("results"),
    )


def test_arrives_whole_in_another_process(job):
    assert pickle.loads(pickle.dumps(job)) == job


def test_is_frozen(job):
    with pytest.raises(FrozenInstanceError):
        job.model = "scannet"


def test_knows_models_that_were_named_and_no_others(job):
    assert job.named_models == {"toy": "averager"}


def test_needs_the_models_of_passes_that_are_wanted(job):
    assert job.needed_tasks == ("toy",)


def test_needs_the_model_of_a_pass_that_may_be_made_later(job):
    later = PassRequest(task="refine", settings=RefineSettings(keep_features=True))
    assert replace(job, passes=(later,)).needed_tasks == ("refine",)


def test_of_another_slide_keeps_no_place(job):
    other = job.on(Path("other.tif"), mpp=None, swap_red_blue=True, output=Path("elsewhere"))
    assert (other.slide, other.mpp, other.output) == (Path("other.tif"), None, Path("elsewhere"))
    assert other.region is None
    assert other.focus is None
    assert other.passes == job.passes
