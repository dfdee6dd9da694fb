"""Peak memory on a slide of 100,000 x 100,000 px: opening it, and scanning a region. Goal: under 1.5 GB.

Each is measured in a process of its own, imports included, with the slide's file (5 GB) written once beforehand and
kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

from slides_for_benchmarks import write_repeated_slide

_MPP = 0.25


def _peak_mb() -> float:
    # Kilobytes on Linux, bytes on macOS.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _open(path: Path, _arguments: argparse.Namespace) -> None:
    from napari_metastasis.slides import open_slide

    with open_slide(path) as slide:
        slide.levels[-1].array.compute()
        slide.levels[0].array[40_000:41_000, 40_000:41_000].compute()


def _tissue(path: Path, _arguments: argparse.Namespace) -> None:
    from napari_metastasis.slides import open_slide, tissue_mask

    with open_slide(path) as slide:
        tissue_mask(slide)


def _scan(path: Path, arguments: argparse.Namespace) -> None:
    from model_scan import scan_with
    from scan_end_to_end import _model

    from napari_metastasis.geometry import Region
    from napari_metastasis.settings import ScanSettings
    from napari_metastasis.workflows.scan import ScanJob

    middle = (arguments.side_px - arguments.region_px) // 2
    with tempfile.TemporaryDirectory() as output:
        settings = ScanSettings(
            tissue_only=False, engine=arguments.engine, precision=arguments.precision, roi_px=arguments.roi_px
        )
        region = Region(middle, middle, arguments.region_px, arguments.region_px)
        scan_with(_model(arguments.model), ScanJob(slide=path, scan=settings, region=region, output=Path(output)))


_WORK = {"open": _open, "tissue": _tissue, "scan a region": _scan}


def _measured(what: str, path: Path, arguments: argparse.Namespace, results: multiprocessing.Queue) -> None:
    begun = time.perf_counter()
    _WORK[what](path, arguments)
    results.put({"what": what, "peak_mb": round(_peak_mb()), "seconds": round(time.perf_counter() - begun, 1)})


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side-px", type=int, default=100_000)
    parser.add_argument("--region-px", type=int, default=16_000, help="side of the scanned region, level 0")
    parser.add_argument("--model", default="scannet-small", help="name, path, or an architecture with random weights")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--roi-px", type=int, default=0)
    parser.add_argument("--slides", type=Path, default=Path(tempfile.gettempdir()) / "napari-metastasis-benchmarks")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.slides.mkdir(parents=True, exist_ok=True)
    path = arguments.slides / f"large-{arguments.side_px}.tif"
    write_repeated_slide(path, arguments.side_px, mpp=_MPP)
    # A fresh interpreter for each, since a peak never falls.
    context = multiprocessing.get_context("spawn")
    rows = []
    for what in _WORK:
        results = context.Queue()
        process = context.Process(target=_measured, args=(what, path, arguments, results))
        process.start()
        process.join()
        if process.exitcode != 0:
            raise SystemExit(f"expected to measure '{what}', but its process ended with {process.exitcode}")
        rows.append(results.get())
    if arguments.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['what']:16}{row['peak_mb']:>8} MB{row['seconds']:>9} s")


if __name__ == "__main__":
    main()
