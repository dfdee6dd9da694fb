"""Eight synthetic slides scanned by one worker of one core, and by two of one core each, in one run.

Goal: two workers are at least 1.7 times as fast. The workers are processes of their own (``scan --workers``), started
before the clock runs; loading the model, scanning, lesions, files and reports are in the time. Beside the seconds
stands the processor time of the busiest worker: what the seconds come to where nobody else wants the cores.

    python benchmarks/cluster.py                  a few minutes
    python benchmarks/cluster.py --repeats 3      each way three times, in turn
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from napari_metastasis.settings import DEFAULT_MODEL, ClusterSettings, CohortSampleSettings, ScanSettings
from napari_metastasis.synthetic import make_cohort
from napari_metastasis.workflows.cluster.opening import open_cluster
from napari_metastasis.workflows.report import SummaryFiles, find_slides, scan_slides
from napari_metastasis.workflows.scan import ScanJob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_metastasis.cohorts.cohort import CohortSlide
    from napari_metastasis.workflows.cluster.scanner import ClusterScanner

GOAL = 1.7
_SLIDES = 8


@contextmanager
def _cores(cores: list[int]) -> Iterator[None]:
    """Let processes that are started in the block have these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _busy(scanner: ClusterScanner) -> dict[str, float]:
    """Return the processor time of each worker until now, in seconds."""
    found: dict[str, float] = scanner.client.run(time.process_time)
    return found


def _seconds(slides: tuple[CohortSlide, ...], job: ScanJob, cores: list[int], output: Path) -> tuple[float, float]:
    """Return how long as many workers take as there are cores, and the processor time of the busiest."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with ExitStack() as opened:
        with _cores(cores):
            cluster = open_cluster(ClusterSettings(workers=len(cores), part_mpx=0.0), job.scan)
            scanner = opened.enter_context(cluster)
        assert scanner is not None
        before, begun = _busy(scanner), time.perf_counter()
        rows = list(scan_slides(slides, job, output=output, summary=SummaryFiles(output), scanner=scanner))
        seconds, after = time.perf_counter() - begun, _busy(scanner)
    assert len(rows) == len(slides)
    assert not any(row.error for row, _ in rows), [row.error for row, _ in rows]
    return seconds, max(after[worker] - before[worker] for worker in before)


def measure(arguments: argparse.Namespace, work: Path) -> list[dict[str, float]]:
    """Return a row for each repeat."""
    cohort = arguments.slides / f"cohort-{arguments.width_px}x{arguments.height_px}"
    make_cohort(
        cohort,
        CohortSampleSettings(slides=_SLIDES, width_px=arguments.width_px, height_px=arguments.height_px),
    )
    slides = find_slides([cohort])[:_SLIDES]
    settings = ScanSettings(
        device="cpu", engine=arguments.engine, precision=arguments.precision, roi_px=arguments.roi_px
    )
    job = ScanJob(slide=cohort, model=arguments.model, scan=settings)
    first, second, *_ = sorted(os.sched_getaffinity(0))
    rows = []
    for _ in range(arguments.repeats):
        one, one_busy = _seconds(slides, job, [first], work / "one")
        two, two_busy = _seconds(slides, job, [first, second], work / "two")
        rows.append(
            {
                "one_worker_s": round(one, 1),
                "two_workers_s": round(two, 1),
                "times": round(one / two, 2),
                "one_busy_s": round(one_busy, 1),
                "two_busy_s": round(two_busy, 1),
                "times_busy": round(one_busy / two_busy, 2),
            }
        )
    return rows


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--roi-px", type=int, default=1152)
    parser.add_argument("--width-px", type=int, default=5120)
    parser.add_argument("--height-px", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--slides", type=Path, default=Path(tempfile.gettempdir()) / "napari-metastasis-benchmarks")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows = measure(arguments, Path(work))
    if arguments.json:
        print(json.dumps(rows))
        return
    names = ("one worker, s", "two workers, s", "times as fast", "one busy, s", "two busy, s", "times as fast")
    print("".join(f"{name:>16}" for name in names), f"  goal {GOAL}")
    for row in rows:
        print("".join(f"{value:16.2f}" for value in row.values()))


if __name__ == "__main__":
    main()
