"""Passes that read each other's maps: what a region must hold for them, their order, and what is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy_chain
import toy_pass
from dark_model import dark_model
from scans import SCAN

from napari_metastasis import tasks
from napari_metastasis.errors import ModelError
from napari_metastasis.geometry import Region
from napari_metastasis.models import Refiner, RefinerSpec, ScanModels, SpatialNetwork
from napari_metastasis.scanning import MapStore, journal_path
from napari_metastasis.settings import RefineSettings
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan import AtHand, PassRequest, ScanJob, earlier_result, scan_slide, settle_job
from napari_metastasis.workflows.scan.job_models import feature_reader

REGION = Region(900, 400, 300, 300)
TOY = PassRequest(task="toy", settings=toy_pass.ToySettings(toy=True))
AGAIN = PassRequest(task="again", settings=toy_chain.AgainSettings(again=True))
SMOOTHED = PassRequest(task="smoothed", settings=toy_chain.AgainSettings(again=True))
REFINE = PassRequest(task="refine", settings=RefineSettings(refine=True))


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    added = (toy_pass.TOY, toy_chain.AGAIN, toy_chain.SMOOTHED)
    monkeypatch.setattr(tasks, "TASKS", (*tasks.TASKS, *added))


@pytest.fixture
def models():
    """A detector, and a model for every pass after it."""
    detector = dark_model()
    average = torch.nn.Conv2d(1, 1, 3, bias=False).requires_grad_(requires_grad=False)
    torch.nn.init.constant_(average.weight, 1 / 9)
    toy = toy_pass.ToyModel(spec=toy_pass.ToySpec("averager"), network=average, weights_sha256="c" * 64, card={})
    spec = RefinerSpec(
        name="mover", encoder=detector.spec.name, encoder_sha256=detector.weights_sha256,
        encoder_features=detector.network.architecture.feature_channels, projected=3, hidden=4, grid=4,
        grid_step=1, window_step=2,
        order="raster-four", residual=True, smoothing=3, dense_coefficient=2,
    )  # fmt: skip
    torch.manual_seed(4)
    refiner = Refiner(spec=spec, network=SpatialNetwork(spec).eval(), weights_sha256="b" * 64, card={})
    return ScanModels(detector, {"refine": refiner, "toy": toy, "again": toy, "smoothed": toy})


def scan(slide, models, output, passes, region=None):
    job = ScanJob(slide=slide.path, passes=passes, output=output, scan=SCAN, region=region)
    with EngineCache(lambda _: models) as engines:
        return scan_slide(job, AtHand(slide=slide, engines=engines))


@pytest.mark.parametrize(("passes", "stem"), [((TOY, AGAIN), "again"), ((REFINE, SMOOTHED), "smoothed")])
def test_a_region_is_answered_as_in_the_whole_slide(slide, models, tmp_path, passes, stem):
    scan(slide, models, tmp_path / "whole", passes)
    assert scan(slide, models, tmp_path / "part", passes, REGION).finished
    with (
        MapStore.open(tmp_path / "whole" / f"{stem}.ome.zarr") as whole,
        MapStore.open(tmp_path / "part" / f"{stem}.ome.zarr") as part,
    ):
        inside = whole.frame.cells_over(REGION)
        expected = whole.values(inside)
        assert np.isfinite(expected).any()
        np.testing.assert_allclose(part.values(inside), expected, atol=1e-6)


def test_stored_maps_come_in_the_order_of_the_passes(slide, models, tmp_path):
    result = scan(slide, models, tmp_path / "out", (REFINE, TOY))
    # The first pass may well be the last to write.
    for stem, written in (("refined", 1), ("averaged", 2)):
        os.utime(journal_path(result.output / f"{stem}.ome.zarr"), (written, written))
    names = [one.kind.name for one in earlier_result(slide, result.output).maps]
    assert names == ["probability", "refined", "averaged"]


def test_a_pass_without_what_it_reads_is_refused(slide, models, tmp_path):
    with pytest.raises(ModelError, match="averaged"):
        scan(slide, models, tmp_path / "out", (AGAIN,))
    assert not (tmp_path / "out").exists()


def test_a_named_model_keeps_the_order_of_the_passes(slide):
    named = replace(REFINE, settings=RefineSettings(), model="mover")
    job = settle_job(ScanJob(slide=slide.path, passes=(replace(AGAIN, model="averager"), named)))
    assert [one.task for one in job.passes] == ["refine", "again"]
    assert all(one.settings.wanted for one in job.passes)


def test_the_pass_that_is_made_gets_the_features_before_one_that_may_be_made_later():
    first, second = (SimpleNamespace(name=name, encoder_sha256="e" * 64) for name in ("first", "second"))
    models = ScanModels(None, {"refine": first, "toy": second})
    later, made = RefineSettings(), RefineSettings(refine=True)

    def reader(*settings):
        requests = (PassRequest(task=task, settings=one) for task, one in zip(("refine", "toy"), settings, strict=True))
        return feature_reader(ScanJob(slide=Path("none"), passes=tuple(requests)), models)

    assert reader(later, later) is reader(made, later) is first
    assert reader(later, made) is second
    with pytest.raises(ModelError, match="first, second"):
        reader(made, made)
