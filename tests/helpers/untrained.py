"""A model that nobody trained: enough for everything but finding metastases."""

from __future__ import annotations

from pathlib import Path

import torch

from napari_metastasis.models import ARCHITECTURES, ModelSpec, build_network, save_model

__all__ = ["untrained_model"]


def untrained_model(path: Path) -> Path:
    """Write a model that nobody trained, the same each time; return its file."""
    architecture = ARCHITECTURES["scannet-small"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network("scannet-small")
    spec = ModelSpec(
        name="untrained",
        architecture="scannet-small",
        mpp=0.972,
        patch_px=architecture.patch_px,
        stride_px=architecture.stride_px,
    )
    save_model(path, network, spec, {"data": "none"})
    return path
