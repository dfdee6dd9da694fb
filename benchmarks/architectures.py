"""What a slide costs with each network: seconds for one ROI, the networks in turns, so that the ratio is one of a run.

Run with ``python benchmarks/architectures.py [--engine torch|openvino] [--dense-coefficient 2] [--roi-px 1632]``;
without a dense coefficient, each network is measured at its own.
Weights are drawn at random, since they change no timing. Each figure is the best of several turns. A network answers
for less than the ROI that it reads, the less the further it sees: rates are of the area that it answers for.
"""

from __future__ import annotations

import argparse

import torch
from dense_scan import best_seconds, engine_for

from napari_metastasis.models import DenseNetwork, ModelSpec, build_network

#: The first one is what the others are compared with.
ARCHITECTURES = ("scannet-small", "scannet-compact", "efficientnet-lite0", "efficientnet-lite0-enlarged")
TURNS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="openvino", choices=("torch", "openvino"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--dense-coefficient", type=int, default=0)
    parser.add_argument("--roi-px", type=int, default=1632)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    engines, answered, densities = {}, {}, {}
    for name in ARCHITECTURES:
        network = build_network(name).eval()
        shape = network.architecture
        spec = ModelSpec(
            name=name, architecture=name, mpp=0.972, patch_px=shape.patch_px, stride_px=shape.stride_px,
            field_px=shape.field_px,
        )  # fmt: skip
        alpha = densities[name] = arguments.dense_coefficient or shape.dense_coefficient
        stride = spec.dense_stride_px(alpha)
        answered[name] = (((arguments.roi_px - spec.field_px) // stride + 1) * stride) ** 2 / 1e6
        engines[name] = engine_for(DenseNetwork(network, spec, alpha), arguments)
    best = dict.fromkeys(ARCHITECTURES, float("inf"))
    for _ in range(TURNS):
        for name, engine in engines.items():
            best[name] = min(best[name], best_seconds(engine, arguments.roi_px, 1))
    print(f"| {arguments.engine}, {arguments.precision} | α | s | Mpx/s | cost against {ARCHITECTURES[0]} |")
    print("|---|---|---|---|---|")
    costs = {name: seconds / answered[name] for name, seconds in best.items()}
    for name, cost in costs.items():
        print(
            f"| {name} | {densities[name]} | {best[name]:.3f} | {1 / cost:.2f} | {cost / costs[ARCHITECTURES[0]]:.3f} |"
        )


if __name__ == "__main__":
    main()
