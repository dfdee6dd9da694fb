"""Networks that return the features of every patch beside its tumour probability.

Features are averaged over the dense cells of each native cell. The mean of their patches' centres is the centre of the
native cell's own patch, so that features lie exactly on the heatmap frame of dense coefficient 1, at any coefficient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_metastasis.errors import ModelError
from napari_metastasis.models.dense import DenseNetwork
from napari_metastasis.models.patchwise import PatchwiseNetwork, ProgramNetwork
from napari_metastasis.models.segmenter import SegmentingNetwork

__all__ = ["Encoder", "ScanningNetwork", "feature_layer", "log_odds_of"]


def log_odds_of(classifier: tuple[Tensor, Tensor], tumour_class: int) -> tuple[Tensor, Tensor]:
    """Return the linear function from features to log-odds of tumour, weight (features) and bias, of two classes."""
    weight, bias = classifier
    normal_class = 1 - tumour_class
    return weight[tumour_class] - weight[normal_class], bias[tumour_class] - bias[normal_class]


def feature_layer(classifier: tuple[Tensor, Tensor], tumour_class: int, projection: nn.Linear | None) -> nn.Conv2d:
    """Return the 1x1 convolution from a network's features to what a refiner reads.

    Parameters
    ----------
    classifier
        The linear layer from features to logits: weight, 2 x features, and bias.
    tumour_class
        The logit of tumour.
    projection
        From features to fewer of them; ``None`` keeps them all.

    Returns
    -------
    Conv2d
        Its first channel is the network's own log-odds of tumour, the others are the features.

    Raises
    ------
    ModelError
        If the network has more than two classes: its log-odds are no linear function.
    """
    weight, bias = (part.detach().float() for part in classifier)
    if len(weight) != 2:
        raise ModelError(
            f"expected an encoder of two classes, got {len(weight)}; choose one that distinguishes tumour from all else"
        )
    channels = weight.shape[1]
    rows = torch.eye(channels) if projection is None else projection.weight.detach()
    shifts = torch.zeros(channels) if projection is None else projection.bias.detach()
    layer = nn.Conv2d(channels, 1 + len(rows), 1)
    odds, shift = log_odds_of((weight, bias), tumour_class)
    layer.weight = nn.Parameter(torch.cat([odds[None], rows])[:, :, None, None])
    layer.bias = nn.Parameter(torch.cat([shift[None], shifts]))
    return layer.requires_grad_(requires_grad=False)


#: Networks that answer for every patch of an image of any size, with probabilities, and can give features.
PlainNetwork = DenseNetwork | PatchwiseNetwork


class Encoder(nn.Module):
    """A scanning network that returns features beside its probabilities.

    Parameters
    ----------
    network
        Answers for every ``stride / dense_coefficient`` pixels.
    layer
        From :func:`feature_layer`.
    dense_coefficient
        Dense cells along a side of a native cell.
    """

    def __init__(self, network: PlainNetwork, layer: nn.Conv2d, dense_coefficient: int) -> None:
        super().__init__()
        self.network = network
        self.layer = layer
        self.dense_coefficient = dense_coefficient

    def features(self, hidden: Tensor) -> Tensor:
        """Return what a refiner reads, N x F x h/α x w/α, of the network's features, N x C x h x w."""
        pooled: Tensor = self.layer(nn.functional.avg_pool2d(hidden, self.dense_coefficient))
        return pooled

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities, N x h x w, and features, N x F x h/α x w/α, of raw images, N x 3 x H x W in 0..255."""
        hidden = self.network.encode(image)
        probability = self.network.classify(hidden).float().softmax(dim=1)[:, self.network.tumour_class]
        return probability, self.features(hidden)


#: Networks that an engine runs, from raw pixels to probabilities; an encoder returns features too.
ScanningNetwork = PlainNetwork | ProgramNetwork | Encoder | SegmentingNetwork
