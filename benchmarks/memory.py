"""Peak memory: of a slide of 100,000 x 100,000 px, and of one piece of tissue on slides of any size.

    python benchmarks/memory.py                                   opening it, and scanning a region; goal: under 1.5 GB
    python benchmarks/memory.py --same-tissue 5000 20000 60000    scanning slides whose glass alone differs; goal: all
                                                                  within 10 %

Each is measured in a process of its own, imports included, with the slide's file (5 GB for the first) written once
beforehand and kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slides_for_benchmarks import write_piece_on_glass, write_repeated_slide

#: An architecture whose weights may be random.
_UNTRAINED = "scannet-small"


def _peak_mb(usage: resource.struct_rusage) -> float:
    # Kilobytes on Linux, bytes on macOS.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return usage.ru_maxrss / unit


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
        job = ScanJob(slide=path, scan=settings, region=region, output=Path(output))
        scan_with(_model(arguments.model or _UNTRAINED), job)


_WORK = {"open": _open, "tissue": _tissue, "scan a region": _scan}


def _measured(what: str, path: Path, arguments: argparse.Namespace, results: multiprocessing.Queue) -> None:
    begun = time.perf_counter()
    _WORK[what](path, arguments)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    results.put({"what": what, "peak_mb": round(_peak_mb(usage)), "seconds": round(time.perf_counter() - begun, 1)})


def _repeated(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Open a slide of tissue from edge to edge, find its tissue, and scan a region."""
    path = arguments.slides / f"repeated-{arguments.side_px}.tif"
    write_repeated_slide(path, arguments.side_px, mpp=arguments.mpp)
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
    return rows


def _on_glass(side_px: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Run the command ``scan`` on a piece of tissue in the middle of a slide."""
    path = arguments.slides / f"piece-{arguments.piece_px}-on-{side_px}-{arguments.mpp}.tif"
    write_piece_on_glass(path, side_px, piece_px=arguments.piece_px, mpp=arguments.mpp)
    with tempfile.TemporaryDirectory() as output, (Path(output) / "said").open("w+") as said:
        command = [sys.executable, "-m", "napari_metastasis", "scan", str(path), "--json", "--output", output]
        command += ["--engine", arguments.engine, "--precision", arguments.precision, "--roi-px", str(arguments.roi_px)]
        command += ["--model", arguments.model] if arguments.model else []
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        if status != 0:
            raise SystemExit(f"expected to scan {path}, but the command ended with {os.waitstatus_to_exitcode(status)}")
        said.seek(0)
        told = json.load(said)
    return {
        "what": f"{side_px} px",
        "peak_mb": round(_peak_mb(usage)),
        "seconds": round(seconds, 1),
        "scan_s": told["seconds"],
        "lesions": len(told["lesions"]),
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side-px", type=int, default=100_000)
    parser.add_argument("--same-tissue", type=int, nargs="+", metavar="SIDE", help="sides of slides with one piece, px")
    parser.add_argument("--piece-px", type=int, default=3000, help="side of the piece")
    parser.add_argument("--mpp", type=float, default=0.25, help="of the slides' level 0")
    parser.add_argument("--region-px", type=int, default=16_000, help="side of the scanned region, level 0")
    parser.add_argument("--model", default="", help=f"by default {_UNTRAINED}, for --same-tissue the command's")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--roi-px", type=int, default=0)
    parser.add_argument("--slides", type=Path, default=Path(tempfile.gettempdir()) / "napari-metastasis-benchmarks")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.slides.mkdir(parents=True, exist_ok=True)
    if arguments.same_tissue:
        rows = [_on_glass(side, arguments) for side in arguments.same_tissue]
    else:
        rows = _repeated(arguments)
    if arguments.json:
        print(json.dumps(rows))
        return
    for row in rows:
        scanned = f"{row['scan_s']:>9} s scanning" if "scan_s" in row else ""
        print(f"{row['what']:16}{row['peak_mb']:>8} MB{row['seconds']:>9} s{scanned}")


if __name__ == "__main__":
    main()
