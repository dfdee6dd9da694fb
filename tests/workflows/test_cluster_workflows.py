"""Evaluating and mining on several workers, and on those of a scheduler that goes and comes back."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster_cohort import SCAN
from result_bytes import result_bytes
from training_cohort import no_bar

from napari_metastasis.errors import ClusterError
from napari_metastasis.settings import (
    AugmentSettings,
    ClusterSettings,
    EvaluationSettings,
    MiningSettings,
    SamplingSettings,
    TissueSettings,
    TrainSettings,
)
from napari_metastasis.workflows.cluster import opening
from napari_metastasis.workflows.cluster.opening import open_cluster
from napari_metastasis.workflows.evaluate import CohortEvaluation, evaluate_cohort
from napari_metastasis.workflows.scan import cohort_output, load_job_models, scan_cohort
from napari_metastasis.workflows.train.mine import MiningSteps, mine_cohort
from napari_metastasis.workflows.train.plan import CohortTraining

#: Seconds for a process to come as far as it has to; this machine may be busy.
PATIENCE_S = 120
_DASK = [sys.executable, "-W", "ignore", "-m"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")


def wait_for(what, process=None):
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until
        assert process is None or process.poll() is None
        time.sleep(0.02)


class Daemons:
    """A scheduler and one worker, each a process, as somebody starts them."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._folder = folder
        self.address = f"tcp://127.0.0.1:{self._port}"
        self._running = []

    def start(self):
        options = ("--host", "127.0.0.1", "--no-dashboard")
        self.scheduler = self._begin("dask_scheduler", *options, "--port", str(self._port))
        # The worker waits for it.
        self._begin("dask_worker", self.address, *options, "--nthreads", "1", "--no-nanny")

    def _begin(self, module, *options):
        with open(self._folder / f"{module}.log", "ab") as log:
            process = subprocess.Popen(
                [*_DASK, f"distributed.cli.{module}", *options], stdout=log, stderr=log, cwd=self._folder
            )
        self._running.append(process)
        return process

    def end(self):
        for process in self._running:
            process.kill()
            process.wait()
        self._running.clear()


@pytest.fixture
def daemons(tmp_path):
    made = Daemons(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_a_scheduler_that_goes_and_comes_back(cohort, cluster_job, daemons, tmp_path, monkeypatch):
    """It halts and goes on; it dies, which is one line, and with the next one the same call goes on."""
    slides, output, job = cohort.slides, tmp_path / "out", cluster_job
    alone = {
        one.slide.name: result_bytes(one.result.output) for one in scan_cohort(slides, job, output=tmp_path / "alone")
    }
    how = ClusterSettings(scheduler=daemons.address, worker_wait_s=PATIENCE_S)
    daemons.start()
    wait_for(lambda: is_heard(daemons.address), daemons.scheduler)
    done = []
    with open_cluster(how, SCAN) as scanner:
        # Without bokeh nothing is shown there.
        assert not scanner.dashboard or scanner.dashboard.startswith("http")
        scans = scan_cohort(slides, job, output=output, scanner=scanner)
        done.append(next(scans).slide.name)
        daemons.scheduler.send_signal(signal.SIGSTOP)
        time.sleep(1)
        daemons.scheduler.send_signal(signal.SIGCONT)
        done.append(next(scans).slide.name)
        daemons.scheduler.kill()
        with pytest.raises(ClusterError, match="the same command goes on") as raised:
            done += [one.slide.name for one in scans]
    assert "\n" not in str(raised.value)
    assert 2 <= len(done) < len(slides)
    daemons.end()
    monkeypatch.setattr(opening, "_CONNECT_S", 1.0)
    with pytest.raises(ClusterError, match="got none that answers"), open_cluster(how, SCAN):
        pass
    daemons.start()
    wait_for(lambda: is_heard(daemons.address), daemons.scheduler)
    with open_cluster(how, SCAN) as scanner:
        found = list(scan_cohort(slides, job, output=output, scanner=scanner))
    assert {one.slide.name: result_bytes(one.result.output) for one in found} == alone
    # What was finished was not scanned again.
    assert {one.slide.name for one in found if not one.result.work_px} >= set(done)


def is_heard(address):
    host, _, port = address.removeprefix("tcp://").partition(":")
    with socket.socket() as asked:
        return asked.connect_ex((host, int(port))) == 0


def test_a_cohort_is_measured_alike(two_workers, cohort, cluster_job, tmp_path):
    how = CohortEvaluation(job=cluster_job, scoring=EvaluationSettings(resamples=100), split="train")
    models = load_job_models(cluster_job)
    reports = {
        name: evaluate_cohort(
            cohort, models, how, output=tmp_path / name, bar=no_bar, should_stop=lambda: False, scanner=scanner
        )
        for name, scanner in (("alone", None), ("workers", two_workers))
    }
    assert json.dumps(reports["alone"].to_json(), default=str) == json.dumps(reports["workers"].to_json(), default=str)
    for slide in cohort.of("train"):
        alone, workers = (result_bytes(cohort_output(tmp_path / name, slide)) for name in reports)
        assert alone == workers


def test_the_same_negatives_are_mined(two_workers, cohort, cluster_job, tmp_path, monkeypatch):
    opened = []

    def fail(slide, reason):
        pytest.fail(f"{slide.name}: {reason}")

    @contextmanager
    def already_open(settings, scan, _):
        opened.append((settings, scan))
        yield two_workers if settings.wanted else None

    monkeypatch.setattr("napari_metastasis.workflows.train.mine.open_cluster", already_open)
    mined = {}
    for settings in (ClusterSettings(), ClusterSettings(workers=2)):
        how = CohortTraining(
            train=TrainSettings(device="cpu"),
            augment=AugmentSettings(),
            sampling=SamplingSettings(tumour_value=255),
            mining=MiningSettings(mining_threshold=0.0, mined_per_slide=20, sheet_patches=5),
            scan=SCAN,
            tissue=TissueSettings(),
            cluster=settings,
        )
        steps = MiningSteps(lambda *_: None, lambda: False, fail)
        folder = tmp_path / str(settings.workers)
        mined[settings.workers] = mine_cohort(cohort.of("train"), Path(cluster_job.model), folder, how, steps)
    assert mined[None]
    assert mined[2] == mined[None]
    assert [settings.workers for settings, _ in opened] == [None, 2]
    assert (tmp_path / "2" / "hard_negatives.csv").read_bytes() == (
        tmp_path / "None" / "hard_negatives.csv"
    ).read_bytes()
