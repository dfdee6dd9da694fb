"""Networks of other libraries, computed by the names of their published tensors alone: oracles of those here."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_metastasis.models import build_network

__all__ = ["densenet_logits", "lively_state", "normalised", "patches_of", "resnet_logits", "tiatoolbox_names"]

#: Layers of TIAToolbox's and MONAI's adapters, which number those of a ResNet.
NUMBERS = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def lively_state(architecture: str, patches: Tensor, *, rectified: bool = True, seed: int = 7) -> dict[str, Tensor]:
    """Return random weights, under torchvision's names, whose log-odds for these patches have mean 0 and deviation 1.

    Parameters
    ----------
    architecture
        Of a ResNet or a DenseNet.
    patches
        As the network reads them.
    rectified
        Of a DenseNet: whether its features are.
    seed
        Of the weights.
    """
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        network = build_network(architecture)
        for norm in (each for each in network.modules() if isinstance(each, nn.BatchNorm2d)):
            norm.running_var.uniform_(0.5, 2.0)
            norm.running_mean.normal_(0, 0.1)
        state = {name.replace("last.", "classifier."): tensor for name, tensor in network.state_dict().items()}
        last = "fc" if "fc.weight" in state else "classifier"
        if last == "fc":
            logits = resnet_logits(state, patches, 32 if "next" in architecture else 1)
        else:
            logits = densenet_logits(state, patches, rectified=rectified)
        odds = logits[:, 1] - logits[:, 0]
        state[f"{last}.weight"] /= odds.std()
        bias = state[f"{last}.bias"] / odds.std()
        state[f"{last}.bias"] = bias - torch.stack([torch.zeros(()), odds.mean() / odds.std()])
    return state


def patches_of(count: int, side_px: int, seed: int = 3) -> Tensor:
    """Return seeded patches with shades and edges, float N x 3 x side x side in 0..255."""
    generator = torch.Generator().manual_seed(seed)
    shades = torch.rand((count, 3, side_px // 8, side_px // 8), generator=generator)
    # Each in colours of its own, so that networks tell them apart.
    coarse = 255 * (shades * torch.rand((count, 3, 1, 1), generator=generator))
    return functional.interpolate(coarse, (side_px, side_px), mode="bilinear").round()


def normalised(patches: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return patches in 0..255 as a network reads them."""
    return (patches / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def _norm(state: Mapping[str, Tensor], name: str, image: Tensor) -> Tensor:
    return functional.batch_norm(
        image,
        state[f"{name}.running_mean"],
        state[f"{name}.running_var"],
        state[f"{name}.weight"],
        state[f"{name}.bias"],
    )


def resnet_logits(state: Mapping[str, Tensor], patches: Tensor, groups: int = 1) -> Tensor:
    """Return logits, N x classes, of a ResNet under torchvision's names, whose blocks are read off them."""

    def convolved(name: str, image: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        of = groups if weight.shape[2] == 3 else 1
        return functional.conv2d(image, weight, stride=stride, padding=weight.shape[2] // 2, groups=of)

    image = functional.relu(_norm(state, "bn1", convolved("conv1", patches, 2)))
    image = functional.max_pool2d(image, 3, 2, 1)
    for stage in range(1, 5):
        for block in range(sum(f"layer{stage}.{k}.conv1.weight" in state for k in range(64))):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            shortcut = image
            if f"{name}.downsample.0.weight" in state:
                shortcut = _norm(state, f"{name}.downsample.1", convolved(f"{name}.downsample.0", image, stride))
            wide = f"{name}.conv3.weight" in state
            # Of a bottleneck the second convolution has the stride.
            image = functional.relu(
                _norm(state, f"{name}.bn1", convolved(f"{name}.conv1", image, 1 if wide else stride))
            )
            image = _norm(state, f"{name}.bn2", convolved(f"{name}.conv2", image, stride if wide else 1))
            if wide:
                image = _norm(state, f"{name}.bn3", convolved(f"{name}.conv3", functional.relu(image)))
            image = functional.relu(image + shortcut)
    return functional.linear(image.mean(dim=(2, 3)), state["fc.weight"], state["fc.bias"])


def densenet_logits(state: Mapping[str, Tensor], patches: Tensor, *, rectified: bool) -> Tensor:
    """Return logits, N x classes, of a DenseNet under torchvision's names."""

    def convolved(name: str, image: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"features.{name}.weight"]
        return functional.conv2d(image, weight, stride=stride, padding=weight.shape[2] // 2)

    def rectify(name: str, image: Tensor) -> Tensor:
        return functional.relu(_norm(state, f"features.{name}", image))

    image = functional.max_pool2d(rectify("norm0", convolved("conv0", patches, 2)), 3, 2, 1)
    for block in range(1, 5):
        layer = 1
        while f"features.denseblock{block}.denselayer{layer}.conv1.weight" in state:
            name = f"denseblock{block}.denselayer{layer}"
            inner = convolved(f"{name}.conv1", rectify(f"{name}.norm1", image))
            image = torch.cat([image, convolved(f"{name}.conv2", rectify(f"{name}.norm2", inner))], dim=1)
            layer += 1
        if block < 4:
            name = f"transition{block}"
            image = functional.avg_pool2d(convolved(f"{name}.conv", rectify(f"{name}.norm", image)), 2)
    image = _norm(state, "features.norm5", image)
    image = functional.relu(image) if rectified else image
    return functional.linear(image.mean(dim=(2, 3)), state["classifier.weight"], state["classifier.bias"])


def tiatoolbox_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under TIAToolbox's names, of torchvision's."""
    renamed = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        if first in ("fc", "classifier"):
            renamed[f"classifier.{rest}"] = tensor
        else:
            renamed[f"feat_extract.{rest if first == 'features' else f'{NUMBERS[first]}.{rest}'}"] = tensor
    return renamed
