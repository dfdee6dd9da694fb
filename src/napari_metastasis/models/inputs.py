"""What a network reads of a slide: its colours, those of a reference in their place, its dyes, or colours and dyes.

Haematoxylin and eosin are one channel each: how much of the dye a pixel holds (Macenko et al. 2009). Pearce (2017, 3.3
and 5.1) speaks of "H&E layers" and of six layers with red, green and blue: HistomicsTK, which he used, returns a third
one, of what neither dye explains. It follows from the other five, so that both are five channels here.

Training and scans call the same function, on single slides' pixels and on varied patches, and get whole grey levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_metastasis.errors import ModelError, brief
from napari_metastasis.settings import INPUTS, PUBLISHED_STAINS, StainSettings

__all__ = ["NetworkInput", "check_input", "input_of", "said_of", "usual_normalisation", "without_usual_input"]

UInt8Array = npt.NDArray[np.uint8]

#: Of each input: red, green and blue, or a dye.
_CHANNELS = dict(zip(INPUTS, (3, 3, 2, 5), strict=True))
#: Version of what is made of pixels: to be raised when a change moves a value by more than a grey level.
_VERSION = 1
#: Grey level of a concentration that one pixel in a hundred exceeds: half as much again has a level of its own.
_MAXIMUM = 170.0
#: Numbers of a stain matrix: red, green and blue of haematoxylin and of eosin, and the maximum of each.
_NUMBERS = 8
#: Largest maximum of a concentration: more stains no tissue.
_MOST_AMOUNT = 1e3
#: Mean and deviation of red, green and blue, and of a dye, in 0 to 1.
_OF_COLOUR, _OF_DYE = (0.5, 0.25), (0.25, 0.25)
#: How a list of models says what is read.
_SAID = dict(zip(INPUTS, ("pixels", "normalised pixels", "dyes in pixels", "pixels and their dyes"), strict=True))
#: Rows of a slide's pixels that are changed together.
_ROWS = 256


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """What a network reads of red, green and blue.

    Attributes
    ----------
    kind
        One of :data:`~napari_metastasis.settings.INPUTS`: ``rgb`` as they are; ``normalised`` with the dyes of
        ``target`` in place of the slide's; ``stains`` how much haematoxylin and eosin there is; ``both`` the colours as
        they are, then these.
    target
        Eight numbers, as those of a slide; of ``normalised`` alone.
    """

    kind: str = "rgb"
    target: tuple[float, ...] = ()

    @property
    def channels(self) -> int:
        """Return how many it makes of three."""
        return _CHANNELS[self.kind]

    @property
    def needs_stains(self) -> bool:
        """Return whether the dyes of a slide have to be known."""
        return self.kind != "rgb"

    @property
    def identity(self) -> list[Any]:
        """Return what answers depend on besides the slide, whose dyes follow from it; nothing of ``rgb``."""
        return [_VERSION, self.kind, *self.target] if self.needs_stains else []

    @torch.no_grad()
    def of_images(self, images: Tensor, stains: Tensor) -> Tensor:
        """Return what a network reads, N x channels x H x W in 0..255.

        Parameters
        ----------
        images
            N x 3 x H x W in 0..255, of any kind of float.
        stains
            N x 8: the dyes of each image's slide, optical densities of red, green and blue (natural logarithm) in a
            unit of haematoxylin, those of eosin, and the concentration of each that one pixel in a hundred exceeds.
        """
        if self.kind == "rgb":
            return images
        # No matrix products: those of mixed precision would round to three digits.
        light = StainSettings().light
        densities = [-((images[:, k].float() + 1) / light).log() for k in range(3)]
        amounts = []
        for unmixing in _unmixing(stains.to(images.device).float()):
            red, green, blue = (density * unmixing[:, k, None, None] for k, density in enumerate(densities))
            amounts.append(red + green + blue)
        if self.kind == "normalised":
            return self._in_colours_of_target(amounts, light)
        dyes = [(amount * _MAXIMUM).round().clamp(0, 255) for amount in amounts]
        colours = [images[:, k].float() for k in range(3)] if self.kind == "both" else []
        return torch.stack([*colours, *dyes], dim=1)

    def _in_colours_of_target(self, amounts: Sequence[Tensor], light: float) -> Tensor:
        *dyes, first, second = self.target
        haematoxylin, eosin = ([value * most for value in dye] for dye, most in ((dyes[:3], first), (dyes[3:], second)))
        densities = [amounts[0] * haematoxylin[k] + amounts[1] * eosin[k] for k in range(3)]
        # As the published code rounds.
        return torch.stack([(light * torch.exp(-density)).clamp(0, 255).floor() for density in densities], dim=1)

    def of_pixels(self, pixels: UInt8Array, stains: Sequence[float]) -> UInt8Array:
        """Return what a network reads of a slide's pixels, uint8 (rows, columns, channels).

        Parameters
        ----------
        pixels
            uint8, (rows, columns, 3).
        stains
            The slide's eight numbers.
        """
        if self.kind == "rgb":
            return pixels
        found = np.empty((*pixels.shape[:2], self.channels), np.uint8)
        numbers = torch.tensor(stains)[None]
        for top in range(0, len(pixels), _ROWS):
            part = torch.from_numpy(np.ascontiguousarray(pixels[top : top + _ROWS])).permute(2, 0, 1)[None]
            seen = self.of_images(part.float(), numbers)[0].permute(1, 2, 0)
            found[top : top + _ROWS] = seen.to(torch.uint8).numpy()
        return found


def _unmixing(stains: Tensor) -> tuple[Tensor, Tensor]:
    """Return what multiplies densities to concentrations of each dye, as multiples of its maximum: two of N x 3.

    The least-squares solution of two unknowns, (MᵀM)⁻¹Mᵀ.
    """
    haematoxylin, eosin, most = stains[:, :3], stains[:, 3:6], stains[:, 6:].clamp_min(1e-6)
    of_both, of_first, of_second = (
        (one * other).sum(dim=1, keepdim=True)
        for one, other in ((haematoxylin, eosin), (haematoxylin, haematoxylin), (eosin, eosin))
    )
    scale = of_first * of_second - of_both**2
    return (
        (of_second * haematoxylin - of_both * eosin) / (scale * most[:, :1]),
        (of_first * eosin - of_both * haematoxylin) / (scale * most[:, 1:]),
    )


def input_of(spec: Any, stain: str = "auto") -> NetworkInput:
    """Return what a model's network reads of a slide.

    Parameters
    ----------
    spec
        The contract of a model that looks at pixels.
    stain
        As scans take it: ``macenko`` gives a model that reads colours as they are those of what it was trained on, as
        far as its card says, or else the published reference's.

    Raises
    ------
    ModelError
        If the stain is to be brought to something, and the model does not read colours as they are.
    """
    if spec.input == "rgb":
        target = spec.stain_matrix or PUBLISHED_STAINS
        return NetworkInput("normalised", target) if stain == "macenko" else NetworkInput()
    if stain not in ("auto", "as-is"):
        raise ModelError(
            f"expected a model that reads colours as they are where stain is changed, got {spec.name}, whose input is "
            f"{spec.input}; scan with --stain auto"
        )
    return NetworkInput(spec.input, spec.stain_matrix if spec.input == "normalised" else ())


def said_of(spec: Any) -> str:
    """Return what a model reads, in a few words: "pixels of 0.972 µm"."""
    return f"{_SAID[spec.input]} of {spec.mpp:g} µm"


def usual_normalisation(
    kind: str, of_colours: tuple[Sequence[float], Sequence[float]] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return means and deviations of an input's channels in 0 to 1, for a model that begins.

    Parameters
    ----------
    kind
        The input.
    of_colours
        Of red, green and blue, where initial weights say so.
    """
    colours = 0 if kind == "stains" else 3
    dyes = _CHANNELS[kind] - colours
    given = [[value] * 3 for value in _OF_COLOUR] if of_colours is None else [list(values) for values in of_colours]
    mean, std = ((*values[:colours], *[of_dye] * dyes) for values, of_dye in zip(given, _OF_DYE, strict=True))
    return mean, std


def check_input(kind: str, stain_matrix: tuple[float, ...]) -> None:
    """Refuse an input that no network reads, and dyes that nothing is stained with.

    Raises
    ------
    ModelError
        Naming what is wrong.
    """
    if kind not in INPUTS:
        raise ModelError(f"expected an input among {', '.join(INPUTS)}, got {brief(kind)}; correct its card")
    dyes, most = stain_matrix[:6], stain_matrix[6:]
    told = len(stain_matrix) == _NUMBERS and all(abs(value) <= 1 for value in dyes)
    if stain_matrix and not (told and all(0 < value <= _MOST_AMOUNT for value in most) and _differ(dyes)):
        raise ModelError(
            f"expected eight numbers of two dyes, got {brief(stain_matrix)} for its stain_matrix; correct its card"
        )
    if kind == "normalised" and not stain_matrix:
        raise ModelError("expected a stain_matrix that slides are brought to, got none; correct its card")


def _differ(dyes: tuple[float, ...]) -> bool:
    """Return whether two dyes are told apart by their colours: by a degree."""
    one, another = np.array(dyes[:3]), np.array(dyes[3:])
    return bool(np.linalg.norm(np.cross(one, another)) > 0.017 * np.linalg.norm(one) * np.linalg.norm(another) > 0)


def without_usual_input(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a contract's values for its card: as earlier versions wrote them where colours are read as they are."""
    usual = {"input": "rgb", "stain_matrix": ()}
    return {name: value for name, value in values.items() if name not in usual or usual[name] != value}
