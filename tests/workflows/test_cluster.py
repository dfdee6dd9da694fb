"""Several workers: what they write is what one machine writes, whatever dies, stops or is unfit in the meantime."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from contextlib import closing, nullcontext
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import pytest
from cluster_cohort import write_slides
from distributed.scheduler import KilledWorker
from result_bytes import result_bytes

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import ClusterError, DeviceError, ScanCancelledError, SettingsError, StoreInUseError
from napari_metastasis.settings import ClusterSettings, ScanSettings
from napari_metastasis.slide_address import SlideUrl
from napari_metastasis.workflows.cluster import agreement, worker
from napari_metastasis.workflows.cluster import scanner as scanner_module
from napari_metastasis.workflows.cluster.errands import Errand, Seen, Terms
from napari_metastasis.workflows.cluster.opening import cores_of, open_cluster, worker_count, worker_environment
from napari_metastasis.workflows.cluster.preload import CORES
from napari_metastasis.workflows.cluster.scanner import ClusterScanner
from napari_metastasis.workflows.scan import FailedSlide, ScannedSlide, cohort_output, scan_cohort
from napari_metastasis.workflows.scan.batch import CohortWork

COUNT = 8
SETTINGS = ClusterSettings(workers=2, retries=1)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    return write_slides(tmp_path_factory.mktemp("cohort"), COUNT)


@pytest.fixture(scope="module")
def alone(slides, cluster_job, tmp_path_factory):
    """What one machine writes of each slide, by its name."""
    output = tmp_path_factory.mktemp("alone")
    return {
        one.slide.name: result_bytes(cohort_output(output, one.slide))
        for one in scan_cohort(slides, cluster_job, output=output)
    }


def journal(output, slide):
    return cohort_output(output, slide) / "heatmap.ome.zarr" / "0" / "journal.jsonl"


def journaled(output, slide):
    """The whole lines of a slide's journal; none before it was begun."""
    found = journal(output, slide).read_bytes() if journal(output, slide).exists() else b""
    return found.splitlines()[: found.count(b"\n")]


def test_a_worker_that_dies_costs_its_piece_and_nothing_else(two_workers, slides, cluster_job, alone, tmp_path):
    """One is killed in the middle, and there is a file among the slides that is none."""
    broken, output = tmp_path / "broken.tif", tmp_path / "out"
    broken.write_bytes(b"no slide")
    every = [*slides[:1], CohortSlide(name="broken", path=broken), *slides[1:]]
    told, found, before = [], {}, {}
    scans = scan_cohort(every, cluster_job, output=output, scanner=two_workers, progress=lambda *now: told.append(now))
    with closing(scans):
        for entry in scans:
            found[entry.slide.name] = entry
            if not before:
                before = {slide.name: journaled(output, slide) for slide in slides}
                first, _ = two_workers.client.run(os.getpid).values()
                os.kill(first, signal.SIGKILL)
    assert set(found) == {slide.name for slide in every}
    failed = {name: one.reason for name, one in found.items() if isinstance(one, FailedSlide)}
    assert set(failed) == {"broken"}
    assert "broken.tif" in failed["broken"]
    assert "\n" not in failed["broken"]
    for slide in slides:
        assert found[slide.name].slide == slide
        lines = journaled(output, slide)
        # Nothing that counted was scanned again.
        assert lines[: len(before[slide.name])] == before[slide.name]
        assert len(set(lines)) == len(lines)
        assert result_bytes(cohort_output(output, slide)) == alone[slide.name]
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_a_slide_at_which_every_worker_dies_is_named(slides, cluster_job):
    class Future:
        def result(self):
            raise KilledWorker("run_errand", SimpleNamespace(address="tcp://host:1"), 2)

    client = SimpleNamespace(status="running", cancel=lambda _: None)
    work = CohortWork(tuple(slides), cluster_job, None, lambda result: result)
    run = scanner_module._Run(client, SETTINGS, work, lambda *_: None)
    errand = Errand(Terms("run", "1", {}, ()), 3, replace(work, slides=(slides[3],)))
    run._todo.extend(errand.parts(2))
    failed = run._found(errand, Future())
    assert failed.slide == slides[3]
    assert "got 3 that died at it" in failed.reason
    # Its other parts are not even begun.
    assert not run._todo


def test_slides_in_parts_are_whole_ones(two_workers, slides, cluster_job, alone, tmp_path):
    in_parts = ClusterScanner(two_workers.client, replace(SETTINGS, part_mpx=0.1))
    for one in scan_cohort(slides[:3], cluster_job, output=tmp_path, scanner=in_parts):
        assert isinstance(one, ScannedSlide)
        folder = cohort_output(tmp_path, one.slide)
        assert result_bytes(folder) == alone[one.slide.name]
        assert one.result.answered.whole().shape == one.result.frame.cells.shape
        scans = json.loads((folder / "run.json").read_text())["scans"]
        assert len([scan for scan in scans if "part" in scan]) > 2
    # Nothing of this program is left behind.
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"slide-{n}.metastasis" for n in range(3)]


def test_a_stop_leaves_what_was_answered_and_no_worker_busy(two_workers, slides, cluster_job, alone, tmp_path):
    asked = []

    def stop_in_the_middle():
        asked.append(any(journal(tmp_path, slide).exists() for slide in slides))
        return asked[-1]

    with pytest.raises(ScanCancelledError, match="the same command goes on"):
        list(scan_cohort(slides, cluster_job, output=tmp_path, scanner=two_workers, should_stop=stop_in_the_middle))
    begun = [slide for slide in slides if journal(tmp_path, slide).exists()]
    assert begun
    # The locks are free at once, and one machine goes on where several workers stopped.
    for one in scan_cohort(begun, cluster_job, output=tmp_path):
        assert result_bytes(cohort_output(tmp_path, one.slide)) == alone[one.slide.name]


@pytest.mark.parametrize(
    ("what", "words"),
    [("version", "install the same version"), ("weights", "put the same models"), ("folder", "mount its folder")],
)
def test_unfit_workers_are_refused_before_anything_is_scanned(
    two_workers, slides, cluster_job, tmp_path, monkeypatch, what, words
):
    if what == "version":
        monkeypatch.setattr(agreement, "__version__", "0.0.0")
    elif what == "weights":
        monkeypatch.setattr(agreement, "weights_of", lambda models: {models.detector.task: "0" * 64})
    else:
        # What is written here is not seen there.
        monkeypatch.setattr(agreement, "atomic_text", lambda _: nullcontext(StringIO()))
    with pytest.raises(ClusterError, match=words) as raised:
        list(scan_cohort(slides, cluster_job, output=tmp_path, scanner=two_workers))
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize(
    ("threads", "precisions", "words"),
    [
        ({"tcp://a:1": 1, "tcp://b:1": 8}, ["float32"] * 2, "got 8 at tcp://b:1; start them with --nthreads 1"),
        ({"tcp://a:1": 1, "tcp://b:1": 1}, ["float32", "float16"], "float32 at tcp://a:1 and float16 at tcp://b:1"),
    ],
)
def test_workers_that_would_scan_otherwise_are_refused(slides, cluster_job, monkeypatch, threads, precisions, words):
    looked = {
        address: Seen("1", {}, (), precision, "host") for address, precision in zip(threads, precisions, strict=True)
    }
    monkeypatch.setattr(agreement, "_looked", lambda _, wave, *__: {address: looked[address] for address in wave})
    link = agreement.SchedulerLink(SimpleNamespace(status="running", nthreads=lambda: threads))
    work = CohortWork(tuple(slides), cluster_job, None, lambda result: result)
    with pytest.raises(ClusterError, match=words):
        agreement.agree(link, work, "run", lambda: False)


def test_slides_at_an_address_need_a_folder_for_their_results(two_workers, cluster_job):
    """The current folder of a worker is another one."""
    url = CohortSlide(name="far", path=SlideUrl("http://127.0.0.1:9/far.tif"))
    with pytest.raises(ClusterError, match="choose one with --output"):
        list(scan_cohort([url], cluster_job, output=None, scanner=two_workers))


@pytest.mark.parametrize("patience_s", [60.0, 0.0])
def test_a_slide_that_somebody_else_writes_is_waited_for(slides, cluster_job, monkeypatch, patience_s):
    """A worker that was taken for dead may still be at it; what does not end is the slide's own fault."""
    tries = []

    def locked_twice(*_, **__):
        tries.append(1)
        if len(tries) < 3:
            raise StoreInUseError("expected to be the only scan, but another one is at work")
        return FailedSlide(slides[0], "reached")

    monkeypatch.setattr(worker, "scan_one", locked_twice)
    monkeypatch.setattr(worker, "_LOCK_WAIT_S", patience_s)
    monkeypatch.setattr(worker, "_LOCK_PAUSE_S", 0.0)
    errand = Errand(
        Terms("run", "1", {}, ()), 0, CohortWork(tuple(slides[:1]), cluster_job, None, lambda result: result)
    )
    found = worker._found(errand, None, lambda *_: None, lambda: False)
    assert found.reason.endswith("reached" if patience_s else "another one is at work")


def test_warnings_of_workers_are_said_once(two_workers, slides, cluster_job, tmp_path):
    coarse = [replace(slide, mpp=1.2) for slide in slides[:2]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert all(
            isinstance(one, ScannedSlide)
            for one in scan_cohort(coarse, cluster_job, output=tmp_path, scanner=two_workers)
        )
    ours = [str(one.message) for one in caught if one.category.__name__ == "ResolutionWarning"]
    assert len(ours) == 1
    assert "expected a slide of at most" in ours[0]


class TestSharing:
    def test_every_core_has_one_worker(self):
        for workers in (1, 2, 3, 7):
            shares = [cores_of(number, workers, range(4, 11)) for number in range(workers)]
            assert sorted(core for share in shares for core in share) == list(range(4, 11))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1

    def test_more_workers_than_cores_share_them(self):
        assert sorted(cores_of(number, 4, [2, 5])[0] for number in range(4)) == [2, 2, 5, 5]
        assert all(len(cores_of(number, 4, [2, 5])) == 1 for number in range(4))

    def test_each_worker_has_a_gpu_and_its_share_of_threads(self):
        """On a machine with three GPUs, of which a queue gave this job the last two."""
        made = [worker_environment(number, 4, cores=range(8), gpus=["1", "2"]) for number in range(4)]
        assert [one["CUDA_VISIBLE_DEVICES"] for one in made] == ["1", "2", "1", "2"]
        assert {one["OMP_NUM_THREADS"] for one in made} == {"2"}
        assert [one[CORES] for one in made] == ["0,1", "2,3", "4,5", "6,7"]

    def test_a_single_gpu_is_everybodys(self):
        assert "CUDA_VISIBLE_DEVICES" not in worker_environment(0, 2, cores=range(2), gpus=["0"])

    def test_workers_are_counted_by_gpus(self):
        assert worker_count(0, ["0", "1", "2"]) == 3
        assert worker_count(2, ["0", "1", "2"]) == 2
        with pytest.raises(DeviceError, match="say how many"):
            worker_count(0, [])

    def test_one_cluster_at_a_time(self):
        with pytest.raises(SettingsError, match="leave one out"):
            ClusterSettings(workers=2, scheduler="tcp://host:8786")

    def test_no_cluster_is_none(self):
        with open_cluster(ClusterSettings(), ScanSettings()) as scanner:
            assert scanner is None
