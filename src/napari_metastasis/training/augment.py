"""Exhaustive sample augmentation, on the device and reproducible step by step.

Lin et al. (2019, II-A) shift, rotate, flip, scale and jitter the colours of every sample. A shift is left out here: the
label of a PatchCamelyon patch speaks of its central 32 px alone.
"""

from __future__ import annotations

import math

import kornia.augmentation as kornia_augmentation
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_metastasis.sampling.crops import UNKNOWN
from napari_metastasis.settings import AugmentSettings
from napari_metastasis.training.equivariance import ORIENTATIONS, turn_each

__all__ = ["Augmenter", "absent_strips", "jitter_stains", "mixed_up", "turn_alike", "vary_more"]

#: Orientation for each number that may be drawn: runs of earlier versions mirrored patches after they turned them.
_DRAWN = (0, 1, 2, 3, 4, 7, 6, 5)

#: Share of patches whose channels are changed apart.
_GAINED_SHARE = 0.5
#: Share of batches that are blended, where any are.
_MIXED_SHARE = 0.5

#: Boosted augmentation (Khalil et al. 2022, 3.2.3): steps of rotation, and largest changes of contrast, saturation and
#: brightness.
_STEP_DEGREES, _CONTRAST, _SATURATION, _BRIGHTNESS = 5, 0.2, 0.2, 0.125

# Optical densities of haematoxylin, eosin and the residual (Ruifrok & Johnston 2001), one stain a row, unit length.
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))


def jitter_stains(image: Tensor, *, mixing: Tensor, background: Tensor) -> Tensor:
    """Return images whose optical densities are mixed anew (Beer-Lambert).

    Parameters
    ----------
    image
        N x 3 x H x W in 0..1.
    mixing
        N x 3 x 3, from old to new optical density of red, green and blue.
    background
        N x 3, added to the optical density.
    """
    density = -torch.log(image.clamp_min(1 / 255))
    count, _, height, width = density.shape
    mixed = torch.baddbmm(background[:, :, None], mixing, density.reshape(count, 3, height * width))
    return torch.exp(-mixed).clamp_max(1).reshape(count, 3, height, width)


class Augmenter(nn.Module):
    """Vary a batch of patches; the same seed and step give the same result.

    Parameters
    ----------
    settings
        How strongly.
    seed
        Reaches every random call, together with the step.
    turn
        Turn every patch by one of the symmetries of the square; of no use to a network that knows them.
    """

    stains: Tensor
    unmix: Tensor

    def __init__(self, settings: AugmentSettings, seed: int, *, turn: bool = True) -> None:
        super().__init__()
        self.settings = settings
        self.seed = seed
        self.turn = turn
        stains = torch.nn.functional.normalize(torch.tensor(_STAINS), dim=1)
        self.register_buffer("stains", stains, persistent=False)
        self.register_buffer("unmix", torch.linalg.inv(stains), persistent=False)
        self.affine = kornia_augmentation.RandomAffine(
            degrees=180.0,
            scale=(settings.magnification_min, settings.magnification_max),
            padding_mode="reflection",
            p=settings.affine_share,
        )
        side = 2 * math.ceil(3 * settings.blur_sigma_px) + 1
        self.blur = kornia_augmentation.RandomGaussianBlur(
            (side, side), (0.3, settings.blur_sigma_px), p=settings.blur_share
        )

        jitter = (settings.jitter_brightness, settings.jitter_contrast, settings.jitter_saturation, settings.jitter_hue)
        # Without any, not even asked: it would draw random numbers, and earlier runs would no longer be repeated.
        self.jitter = kornia_augmentation.ColorJiggle(*jitter) if any(jitter) else None

    @torch.no_grad()
    def forward(self, image: Tensor, step: int) -> Tensor:
        """Return the varied batch.

        Parameters
        ----------
        image
            N x 3 x H x W in 0..1.
        step
            Number of the optimiser step: it seeds the batch, so that resumed training sees what it would have seen.
        """
        devices = [image.device] if image.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed * 1_000_003 + step)
            if self.turn:
                image = self._turn(image)
            image = self.affine(image)
            image = self.blur(self._colour(image))
            image = image if self.jitter is None else self.jitter(image)
            return self._noise(image)

    @staticmethod
    def _turn(image: Tensor) -> Tensor:
        """Turn every patch by one of the eight symmetries of the square."""
        return turn_each(image, torch.tensor(_DRAWN)[torch.randint(0, ORIENTATIONS, (len(image),))])

    def _colour(self, image: Tensor) -> Tensor:
        settings, count = self.settings, len(image)

        def uniform(*shape: int) -> Tensor:
            return (torch.rand(count, *shape) * 2 - 1).to(image.device)

        amounts = torch.exp(uniform(3) * settings.stain)
        # Columns are channels: od' = (Sᵀ diag(a) S⁻ᵀ + ε) od, with one stain a row of S.
        mixing = self.stains.T @ (amounts[:, :, None] * self.unmix.T) + uniform(3, 3) * settings.hue
        gray = (torch.rand(count, 1, 1) < settings.gray_share).to(image.device) * torch.rand(count, 1, 1).to(
            image.device
        )
        mixing = mixing * (1 - gray) + gray * mixing.mean(dim=1, keepdim=True)
        background = uniform(3) * settings.background + uniform(1) * settings.exposure
        if settings.density_share or settings.channel_gain:
            # Not even drawn where nobody asks: earlier runs are repeated as they were.
            mixing = mixing * self._gains(count).to(image.device)[:, :, None]
        return jitter_stains(image, mixing=mixing, background=background)

    def _gains(self, count: int) -> Tensor:
        """Return factors of the optical densities of red, green and blue, N x 3."""
        settings = self.settings
        low, high = math.log(settings.density_min), math.log(settings.density_max)
        density = (torch.rand(count, 1) < settings.density_share) * (low + torch.rand(count, 1) * (high - low))
        channels = (torch.rand(count, 1) < _GAINED_SHARE) * (torch.rand(count, 3) * 2 - 1) * settings.channel_gain
        return torch.exp(density + channels)

    def _noise(self, image: Tensor) -> Tensor:
        settings, count = self.settings, len(image)
        strength = (torch.rand(count, 1, 1, 1) < settings.noise_share) * torch.rand(count, 1, 1, 1) * settings.noise
        noise = torch.randn(image.shape) * strength
        return (image + noise.to(image.device)).clamp(0, 1)


def mixed_up(image: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return images, N x 3 x H x W, and targets, N, half of the time blended with those of another order.

    One share for the batch, drawn from Beta(alpha, alpha), of which an image keeps the larger part (Zhang et al. 2018).
    Draws from the global generator.
    """
    keeps = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(image)).to(image.device)
    if torch.rand(()) < _MIXED_SHARE:
        return image, targets
    share = max(keeps, 1 - keeps)
    return share * image + (1 - share) * image[order], share * targets + (1 - share) * targets[order]


def turn_alike(image: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn every crop, and its labels, by one of the eight symmetries of the square."""
    turns = torch.randint(0, ORIENTATIONS, (len(image),), generator=generator)
    return turn_each(image, turns), turn_each(labels, turns)


def absent_strips(labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return which cells are taken away, N x K x K bool: in some crops a strip along one side."""
    count, side, _ = labels.shape
    taken = torch.rand(count, generator=generator) < share
    width = torch.randint(1, side, (count,), generator=generator) if side > 1 else torch.zeros(count)
    turn = torch.randint(0, 4, (count,), generator=generator).tolist()
    absent = torch.zeros(count, side, side, dtype=torch.bool)
    for row in taken.nonzero()[:, 0].tolist():
        strip = torch.zeros(side, side, dtype=torch.bool)
        strip[: int(width[row])] = True
        absent[row] = strip.rot90(turn[row], dims=(0, 1))
    return absent


def vary_more(image: Tensor, labels: Tensor, share: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return tiles and their labels, some of them turned by 5° steps and changed in contrast, saturation, brightness.

    Corners that no turned image reaches show its mirrored edge, and are labelled as not known.

    Parameters
    ----------
    image
        N x 3 x S x S in 0..1.
    labels
        N x T x T, of the middle of the images.
    share
        N: how likely each is to be varied.
    generator
        Of the processor; decides.
    """
    count = len(image)
    chosen = (torch.rand(count, generator=generator) < share.cpu()).nonzero()[:, 0]
    angles = torch.randint(0, 360 // _STEP_DEGREES, (count,), generator=generator) * math.radians(_STEP_DEGREES)
    changes = torch.rand(count, 3, generator=generator) * 2 - 1
    if not len(chosen):
        return image, labels
    angles, changes, chosen = (each.to(image.device) for each in (angles[chosen], changes[chosen], chosen))
    image, labels = image.clone(), labels.clone()
    turned = _rotated(image[chosen], angles, mode="bilinear", padding="reflection")
    contrast, saturation, brightness = (
        1 + largest * changes[:, k, None, None, None] for k, largest in enumerate((_CONTRAST, _SATURATION, _BRIGHTNESS))
    )
    middle = turned.mean(dim=(1, 2, 3), keepdim=True)
    turned = middle + (turned - middle) * contrast
    gray = turned.mean(dim=1, keepdim=True)
    image[chosen] = ((gray + (turned - gray) * saturation) * brightness).clamp(0, 1).to(image.dtype)
    # Zero, past the edges, is not known.
    above = (labels[chosen] - UNKNOWN)[:, None].float()
    labels[chosen] = _rotated(above, angles, mode="nearest", padding="zeros")[:, 0].round().long() + UNKNOWN
    return image, labels


def _rotated(images: Tensor, angles: Tensor, *, mode: str, padding: str) -> Tensor:
    """Return images, N x C x S x S, each turned about its middle by its own angle."""
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    turns = torch.stack([cosine, -sine, zero, sine, cosine, zero], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(turns, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)
