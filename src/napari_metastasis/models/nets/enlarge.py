"""Bilinear enlargement by four thirds, as a layer without padding.

ImageNet's filters know nuclei larger than they lie in a patch of PatchCamelyon. Three pixels become four by fixed
weights, the same for every three, so that the layer is a convolution and commutes with a scan's windows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["FROM_PX", "TO_PX", "Enlarge", "enlarged_cover"]

#: So many pixels become so many.
FROM_PX, TO_PX = 3, 4
#: Pixels that four enlarged ones lie between.
_KERNEL_PX = 4
#: Place of the first enlarged pixel, in pixels: of those there are to choose from, the one by which a patch in the
#: middle of the network's window lies under its cells as it lay in training.
_FIRST_PX = 0.375


class Enlarge(nn.Module):
    """Enlarge images, and leave out the pixels at their edges that lie between no two.

    Where the image begins at a pixel that leaves a remainder of 1 by three, they are some of those of
    ``torch.nn.functional.interpolate`` with half-pixel centres (:func:`enlarged_cover`), from its third on.

    Parameters
    ----------
    channels
        Of images; each is enlarged by itself.
    """

    weight: Tensor

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels
        # Where the four lie in the pixels that they lie between.
        places = torch.arange(TO_PX, dtype=torch.float64) * FROM_PX / TO_PX + _FIRST_PX
        taps = (1 - (places[:, None] - torch.arange(_KERNEL_PX)).abs()).clamp_min(0)
        kernel = torch.einsum("ay,bx->abyx", taps, taps).reshape(TO_PX**2, 1, _KERNEL_PX, _KERNEL_PX)
        # Not stored with a model's weights: they are no choice.
        self.register_buffer("weight", kernel.repeat(channels, 1, 1, 1).float(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return N x C x h x w of N x C x H x W, where h is 4 · ⌊(H - 1) / 3⌋."""
        weight = self.weight.to(image.dtype)
        phases = nn.functional.conv2d(image, weight, stride=FROM_PX, groups=self.channels)
        return nn.functional.pixel_shuffle(phases, TO_PX)


def enlarged_cover(image: Tensor) -> Tensor:
    """Return images enlarged to four thirds of their side, N x 3 x 4/3 H x 4/3 W; the outermost pixels are repeated."""
    return nn.functional.interpolate(image, scale_factor=TO_PX / FROM_PX, mode="bilinear", align_corners=False)
