"""What dense scanning costs: one ROI at dense coefficients 1, 2 and 4, against its patches answered one by one.

Run with ``python benchmarks/dense_scan.py [--engine torch|openvino] [--architecture scannet-vgg16]``.
The paper's network answers its ROI of 2,868 px, extended for the dense coefficient (Lin et al. 2019, II-C); weights are
drawn at random, since they change no timing. Each figure is the best of several runs, and the patches are timed on a
sample: their cost is the same wherever they lie.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch

from napari_metastasis.models import ARCHITECTURES, DenseNetwork, ModelSpec, build_network
from napari_metastasis.scanning import Engine, OpenVinoEngine, TorchEngine

#: Map of the paper's ROI at the network's own stride (Lin et al. 2019, Table I).
NATIVE_CELLS = 83


def engine_for(network: DenseNetwork, arguments: argparse.Namespace) -> Engine:
    """Return what the program itself would run the network with."""
    if arguments.engine == "openvino":
        return OpenVinoEngine(network, precision=arguments.precision)
    return TorchEngine(network, devices=(arguments.device,), precision=arguments.precision)


def best_seconds(engine: Engine, side: int, repeats: int) -> float:
    """Return the shortest time that an image of ``side`` pixels takes, its way to the device and back included."""
    image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        engine.run(image)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="scannet-vgg16", choices=sorted(ARCHITECTURES))
    parser.add_argument("--engine", default="torch", choices=("torch", "openvino"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    network = build_network(arguments.architecture).eval()
    shape = network.architecture
    spec = ModelSpec(
        name="random", architecture=arguments.architecture, mpp=0.25, patch_px=shape.patch_px, stride_px=shape.stride_px
    )
    rows = []
    for alpha in (1, 2, 4):
        stride = spec.dense_stride_px(alpha)
        cells = NATIVE_CELLS * alpha
        side = shape.patch_px + (cells - 1) * stride
        dense = engine_for(DenseNetwork(network, spec, alpha), arguments)
        best_seconds(dense, shape.patch_px + 8 * stride, 2)
        roi = best_seconds(dense, side, arguments.repeats)
        dense.close()
        patch = engine_for(DenseNetwork(network, spec, 1), arguments)
        one = best_seconds(patch, shape.patch_px, 10 * arguments.repeats)
        patch.close()
        rows.append(
            {
                "dense_coefficient": alpha,
                "stride_px": stride,
                "roi_px": side,
                "seconds": round(roi, 3),
                "relative_to_native": round(roi / rows[0]["seconds"], 3) if rows else 1.0,
                "patch_seconds": round(one, 5),
                "times_cheaper_than_patches": round(one * cells * cells / roi, 1),
            }
        )
    if arguments.json:
        print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}))
        return
    print(f"{arguments.architecture}, {arguments.engine}, {arguments.device}, {arguments.precision}")
    print("| α | stride px | ROI px | s | against α = 1 | one patch, s | times cheaper than patches |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
