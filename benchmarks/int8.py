"""What eight-bit integers would cost and gain: time, the largest difference of a map, and the area under the curve.

Run with ``python benchmarks/int8.py DATA [--model NAME]`` where the package ``nncf`` is installed. DATA holds
``regions/images`` and ``pcam_valid.zip``. The network is quantised after training by NNCF, on half of the regions; what
it says of the other half, and of the patches, each in the middle of a window of gray, is compared with float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from region_folds import MPP
from sklearn.metrics import roc_auc_score

from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.geometry import Region
from napari_metastasis.models import Detector, load_detector
from napari_metastasis.scanning.engines.openvino_graph import openvino_graph
from napari_metastasis.settings import DEFAULT_MODEL
from napari_metastasis.slides import open_slide

_Pixels = NDArray[np.uint8]
#: Side of the image that is timed, and how often.
_TIMED_PX, _TURNS = 1632, 5
_BATCH = 8
_CONVOLUTIONS = ("Convolution", "GroupConvolution")


def region_pixels(path: Path, model: Detector) -> _Pixels:
    """Return a region at the model's resolution, mirrored at its edges as far as the network sees."""
    with open_slide(path, MPP) as slide:
        frame = slide.frame(model.spec.mpp)
        pixels = slide.read(frame, Region.of(frame.size))
    margin = model.spec.field_px // 2
    return np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")


def runner(graph: Any, precision: str) -> Callable[[_Pixels], NDArray[np.float32]]:
    """Return what answers for images, n x h x w x 3."""
    compiled = openvino.Core().compile_model(
        graph, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    )
    request = compiled.create_infer_request()
    return lambda images: np.array(request.infer({0: np.ascontiguousarray(images)})[0], dtype=np.float32)


def windows(source: Any, model: Detector) -> Iterator[_Pixels]:
    """Yield batches of patches, each in the middle of a window of gray."""
    spec = model.spec
    before = (spec.field_px - spec.patch_px) // 2
    inside = slice(before, before + spec.patch_px)
    for start in range(0, len(source), _BATCH):
        patches = [source.read(k) for k in range(start, min(start + _BATCH, len(source)))]
        images = np.full((len(patches), spec.field_px, spec.field_px, 3), np.rint(255 * np.array(spec.mean)), np.uint8)
        images[:, inside, inside] = patches
        yield images


def main() -> None:
    """Quantise, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    arguments = parser.parse_args()
    import nncf

    model = load_detector(arguments.model)
    regions = [region_pixels(path, model) for path in sorted((arguments.data / "regions" / "images").iterdir())]
    seen, others = regions[::2], regions[1::2]
    dense = model.dense(model.spec.dense_coefficient)
    graph = openvino_graph(dense)
    convolutions = [
        node.get_friendly_name() for node in graph.get_ordered_ops() if node.get_type_name() in _CONVOLUTIONS
    ]
    quantised = nncf.quantize(
        graph,
        nncf.Dataset([image[None] for image in seen]),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        # What reads the pixels and what answers stays as it is: both gain little and cost most.
        ignored_scope=nncf.IgnoredScope(names=[*convolutions[:2], *convolutions[-2:]]),
    )
    engines = {
        "float32": runner(openvino_graph(dense), "f32"),
        "bfloat16": runner(openvino_graph(dense), "bf16"),
        "int8": runner(quantised, "f32"),
    }
    rng = np.random.default_rng(2016)
    timed = rng.integers(0, 256, (1, _TIMED_PX, _TIMED_PX, 3), dtype=np.uint8)
    best = dict.fromkeys(engines, float("inf"))
    for _ in range(_TURNS):
        for name, engine in engines.items():
            began = time.perf_counter()
            engine(timed)
            best[name] = min(best[name], time.perf_counter() - began)
    maps = {name: [engine(image[None]).ravel() for image in others] for name, engine in engines.items()}
    source = open_patches(arguments.data / "pcam_valid.zip")
    labels = np.array(source.labels)
    print("| format | s | against float32 | largest difference | mean difference | cells that change sides | AUC |")
    print("|---|---|---|---|---|---|---|")
    plain, threshold = np.concatenate(maps["float32"]), model.spec.threshold
    for name, engine in engines.items():
        answers = np.concatenate(maps[name])
        apart = np.abs(answers - plain)
        moved = ((answers >= threshold) != (plain >= threshold)).mean()
        scores = np.concatenate([engine(images).ravel() for images in windows(source, model)])
        times = f"{best[name]:.3f} | {best[name] / best['float32']:.2f}"
        differences = f"{apart.max():.3f} | {apart.mean():.4f} | {moved:.2%}"
        print(f"| {name} | {times} | {differences} | {roc_auc_score(labels, scores):.4f} |", flush=True)


if __name__ == "__main__":
    main()
