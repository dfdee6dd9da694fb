"""A window, a slide with a dark disc, and a network that answers how dark its patch is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from napari_metastasis.geometry import Point, Size
from napari_metastasis.models import ModelSpec, build_network
from napari_metastasis.models.checkpoint import save_checkpoint
from napari_metastasis.synthetic.phantoms import DiscPhantom, disc_slide

ARCHITECTURE = "scannet-small"
MODEL_MPP = 0.972


@pytest.fixture(scope="session")
def darkness_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a real architecture that answer the darkness of a patch's middle: what they find is known beforehand."""
    network = build_network(ARCHITECTURE).eval()
    state = network.state_dict()
    with torch.no_grad():
        for name, tensor in state.items():
            if name.endswith(("running_var",)):
                tensor.fill_(1)
            elif tensor.is_floating_point():
                tensor.zero_()
        convolutions = [name for name, tensor in state.items() if tensor.ndim == 4]
        features = [name for name in convolutions if name.startswith("features")]
        for name in features:
            state[name][0, 0, 1, 1] = 1  # the middle pixel of the first channel is handed on
            norm = name.split(".")
            state[f"features.{int(norm[1]) + 1}.weight"].fill_(1)
        # The first layer turns grey into darkness: 0 on glass, 1 on black.
        state[features[0]][0, :, 1, 1] = -1 / 3
        state["features.1.bias"][0] = 0.0
        first, last = (name for name in convolutions if name.startswith("head"))
        state[first][0, 0] = 1 / state[first][0, 0].numel()
        state[last][0, 0, 0, 0], state[last][1, 0, 0, 0] = -20.0, 20.0
        state[last.replace("weight", "bias")][0], state[last.replace("weight", "bias")][1] = 10.0, -10.0
    network.load_state_dict(state)
    spec = ModelSpec(
        name="darkness",
        architecture=ARCHITECTURE,
        mpp=MODEL_MPP,
        patch_px=network.architecture.patch_px,
        stride_px=network.architecture.stride_px,
        mean=(1.0, 1.0, 1.0),  # normalised glass is 0 and black -1
        std=(1.0, 1.0, 1.0),
    )
    path = tmp_path_factory.mktemp("models") / "darkness.safetensors"
    save_checkpoint(path, network, spec, {})
    return path


@pytest.fixture
def make_disc(tmp_path: Path) -> Callable[..., tuple[Path, DiscPhantom]]:
    """Write a slide of 2 x 1.6 mm with one dark disc, off the middle and off every grid."""

    def make(mpp: float, name: str = "disc") -> tuple[Path, DiscPhantom]:
        path = tmp_path / f"{name}.tif"
        size = Size(round(2000 / mpp), round(1600 / mpp))
        center = Point(900.0 / mpp + 3.3, 700.0 / mpp - 2.7)
        return path, disc_slide(path, size=size, mpp=mpp, center=center, radius_px=200 / mpp)

    return make


@pytest.fixture
def settings_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that a test changes reaches the user's settings."""
    return
    yield
