"""Slides that are scanned, and a cohort that detectors and refiners are trained on."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from cluster_cohort import SCAN as CLUSTER_SCAN
from dark_model import dark_model, mover
from disc_slide import write_disc_slide
from scans import SCAN, scan_with
from training_cohort import write_slide
from untrained import untrained_model

from napari_metastasis.annotations import Annotation, AnnotationSet, write_asap_xml
from napari_metastasis.cohorts.cohort import Cohort, CohortSlide
from napari_metastasis.models import Detector, Refiner
from napari_metastasis.settings import ClusterSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.cluster.opening import open_cluster
from napari_metastasis.workflows.scan import ScanJob


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory):
    return write_disc_slide(tmp_path_factory.mktemp("slides") / "node.tif")


@pytest.fixture
def slide(slide_path):
    with open_slide(slide_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def scanned(tmp_path_factory):
    """The result of a scan, which no test changes."""
    folder = tmp_path_factory.mktemp("scanned")
    path = write_disc_slide(folder / "node.tif")
    with open_slide(path) as opened:
        scan_with(opened, dark_model(), folder / "node.metastasis", scan=SCAN)
    return folder / "node.metastasis"


@pytest.fixture
def result(scanned, tmp_path):
    """A copy of it."""
    folder = tmp_path / "node.metastasis"
    shutil.copytree(scanned, folder)
    return folder


@pytest.fixture(scope="module")
def model() -> Detector:
    """A detector that answers how dark a patch is."""
    return dark_model()


@pytest.fixture(scope="module")
def refiner(model: Detector) -> Refiner:
    """A refiner behind it that moves its answers."""
    return mover(model)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    slides = []
    for number, (split, tumour) in enumerate(
        [("train", True), ("train", False), ("validation", True), ("validation", False)]
    ):
        path = folder / f"slide-{number}.tif"
        write_slide(path, number, tumour=tumour)
        outline = None
        if tumour:
            outline = folder / f"slide-{number}.xml"
            ring = np.array([(240, 200), (440, 200), (440, 400), (240, 400)], dtype=float)
            write_asap_xml(outline, AnnotationSet((Annotation.of_rings(name="square", group="_0", exterior=ring),)))
        slides.append(CohortSlide(name=path.stem, path=path, annotation=outline, split=split, tumour=tumour))
    return Cohort(slides=tuple(slides), origin=folder, layout="file")


@pytest.fixture(scope="session")
def cluster_job(tmp_path_factory):
    """A scan whose model lies in a file, for workers to load."""
    folder = tmp_path_factory.mktemp("model")
    model = untrained_model(folder / "untrained.safetensors")
    return ScanJob(slide=folder, model=str(model), scan=CLUSTER_SCAN)


@pytest.fixture(scope="session")
def two_workers():
    """Two processes of this machine; at one death of a worker more than one a slide fails."""
    with open_cluster(ClusterSettings(workers=2, retries=1), CLUSTER_SCAN) as scanner:
        yield scanner
