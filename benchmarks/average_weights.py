"""Average the weights of a model and of one that was trained on from it (Wortsman et al. 2022, WiSE-FT).

Run with ``python benchmarks/average_weights.py BEFORE AFTER OUTPUT [--share 0.5]``. A short training on few data gains
on tissue like theirs and loses a little elsewhere; half-way between both, most of the gain and little of the loss are
left. OUTPUT is a weights file; its card is that of AFTER and names both.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

from napari_metastasis.models import Detector, PatchNetwork, load_detector, save_model


def averaged(before: Detector, after: Detector, share: float) -> PatchNetwork:
    """Return a network whose weights lie between those of two models, ``share`` of the way to the second."""
    network = copy.deepcopy(after.network)
    first, second = before.network.state_dict(), after.network.state_dict()
    network.load_state_dict(
        {
            # Counters of batches are whole numbers, and have no mean.
            name: first[name].lerp(tensor, share) if tensor.is_floating_point() else tensor
            for name, tensor in second.items()
        }
    )
    return network


def main() -> None:
    """Average and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("output", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the way from the first to the second")
    arguments = parser.parse_args()
    before, after = load_detector(arguments.before), load_detector(arguments.after)
    # What training measured was measured on the second alone.
    card = {name: value for name, value in after.card.items() if not name.startswith("validation_")}
    averages = {"before": before.weights_sha256, "after": after.weights_sha256, "share": arguments.share}
    network = averaged(before, after, arguments.share)
    save_model(arguments.output, network, after.spec, {**card, "averages": averages})


if __name__ == "__main__":
    main()
