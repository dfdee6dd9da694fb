"""How long segmenting takes: the paper's network beside U-Net, and all tissue beside what is suspicious.

    python benchmarks/segmentation.py [--side 8000] [--width 0.25] [--engine torch] [--json]

Networks are untrained, since that does not change their speed; the slide is tissue from edge to edge, at 0.25 µm.
``suspicious`` segments the twentieth of the tissue that the map before it marks. ``peak`` is the memory of a process of
its own that segments the whole slide. Khalil et al. (2022) report their network as four times as fast as U-Net.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from memory import _peak_mb
from model_scan import prepared_with
from scan_end_to_end import _model
from slides_for_benchmarks import write_repeated_slide

from napari_metastasis.geometry import Region
from napari_metastasis.models import Segmenter, SegmenterSpec
from napari_metastasis.models.nets.architectures import build_segmentation
from napari_metastasis.settings import ScanSettings, SegmentSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.scan import PassRequest, ScanJob

MPP, SEGMENTED_MPP, CELL_PX = 0.25, 0.972, 4
#: Share of the tissue that is suspicious.
SUSPICIOUS = 0.05


def untrained(encoder: str, decoder: str, width: float) -> Segmenter:
    """Return a segmenter with random weights."""
    torch.manual_seed(0)
    spec = SegmenterSpec(
        name=f"{decoder}-{width:g}", encoder=encoder, decoder=decoder, width=width, mpp=SEGMENTED_MPP, cell_px=CELL_PX
    )
    network = build_segmentation(spec.built).eval().requires_grad_(requires_grad=False)
    return Segmenter(spec=spec, network=network, weights_sha256=f"{hash(spec) & (1 << 64) - 1:064x}", card={})


def seconds(path: Path, segmenter: Segmenter, arguments: argparse.Namespace, *, above: float = 0.0) -> float:
    """Return how long a slide takes to be segmented, without preparing it; above 0 a twentieth of it."""
    settings = ScanSettings(
        tissue_only=False, device="cpu", engine=arguments.engine, precision=arguments.precision, roi_px=arguments.roi_px
    )
    with tempfile.TemporaryDirectory() as output, open_slide(path) as slide:
        job = ScanJob(
            slide=path,
            detects=False,
            passes=(PassRequest(task="segment", settings=SegmentSettings(segment=True, segment_above=above)),),
            scan=settings,
            output=Path(output) / "out",
        )
        with prepared_with(_model("scannet-small"), slide, job, segment=segmenter) as prepared:
            if above:
                cells = prepared.frame.cells
                marked = np.zeros(cells.shape, np.float32)
                marked[: round(SUSPICIOUS**0.5 * cells.height), : round(SUSPICIOUS**0.5 * cells.width)] = 1
                prepared.heatmap.write(Region.of(cells), marked)
            begun = time.perf_counter()
            for _ in prepared.run():
                pass
            return time.perf_counter() - begun


def _peak(path: Path, arguments: argparse.Namespace, answer: multiprocessing.Queue[float]) -> None:
    seconds(path, untrained("vgg16", "fcn-32s", arguments.width), arguments)
    answer.put(_peak_mb(resource.getrusage(resource.RUSAGE_SELF)))


def measure(path: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return seconds by what was segmented, all in one run, and the peak memory in MB."""
    vgg = {decoder: untrained("vgg16", decoder, arguments.width) for decoder in ("fcn-32s", "fcn-8s", "u-net")}
    lite = untrained("efficientnet-lite0-enlarged", "fcn-32s", 1.0)
    found = {name: seconds(path, segmenter, arguments) for name, segmenter in {**vgg, "lite": lite}.items()}
    found["fcn-32s, suspicious"] = seconds(path, vgg["fcn-32s"], arguments, above=0.5)
    found["lite, suspicious"] = seconds(path, lite, arguments, above=0.5)
    context = multiprocessing.get_context("spawn")
    answer: multiprocessing.Queue[float] = context.Queue()
    process = context.Process(target=_peak, args=(path, arguments, answer))
    process.start()
    found["peak, MB"] = answer.get()
    process.join()
    return found


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8000, help="side of the slide at level 0, in pixels")
    parser.add_argument("--width", type=float, default=0.25, help="share of VGG16's channels")
    parser.add_argument("--engine", default="torch", choices=("torch", "openvino"))
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--roi-px", type=int, default=1152)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tissue.tif"
        write_repeated_slide(path, arguments.side, mpp=MPP)
        found = measure(path, arguments)
    if arguments.json:
        print(json.dumps(found))
        return
    mpx = (arguments.side * MPP / SEGMENTED_MPP) ** 2 / 1e6
    print(f"{mpx:.1f} Mpx at {SEGMENTED_MPP} µm, width {arguments.width:g}, {arguments.engine}, {arguments.precision}")
    for name, value in found.items():
        print(f"| {name} | {value:.1f} |")


if __name__ == "__main__":
    main()
