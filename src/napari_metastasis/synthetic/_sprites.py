"""Nuclei drawn once, a few hundred of every type, to be stamped many times."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from napari_metastasis.synthetic._noise import Floats, smoothstep

__all__ = ["BANKS", "NucleusStyle", "Sprite", "make_bank", "make_spindles"]

#: Orientations that elongated nuclei are kept in.
ORIENTATIONS = 36


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """One nucleus: hematoxylin becomes ``hematoxylin * keep + add``, eosin ``eosin * fade + pink``.

    All four are (2 · half + 1)² float32.
    """

    keep: Floats
    add: Floats
    fade: Floats
    pink: Floats

    @property
    def half(self) -> int:
        """Return the pixels on either side of the middle one."""
        return len(self.keep) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NucleusStyle:
    """How nuclei of one type look; lengths in µm, amounts in units of stain.

    Attributes
    ----------
    radius, radius_spread
        Mean, and relative standard deviation.
    aspect
        Short over long axis, from and to.
    bumps
        Irregularity of the outline.
    body, rim
        Hematoxylin within, and at the membrane.
    chromatin, grain
        Relative depth of the chromatin's pattern, and its size.
    nucleoli
        Mean number.
    nucleolus
        Radius of one.
    halo
        Width of the pale ring around it: cytoplasm that shrank.
    tone
        Relative standard deviation of the amount of hematoxylin from nucleus to nucleus.
    """

    radius: float
    radius_spread: float
    aspect: tuple[float, float]
    bumps: float
    body: float
    rim: float
    chromatin: float
    grain: float
    nucleoli: float = 0.0
    nucleolus: float = 0.6
    halo: float = 0.0
    tone: float = 0.14
    count: int = 192


#: Lymphocytes are small, round and dark, with clumped chromatin; the cells of germinal centres are larger and paler;
#: histiocytes are bean-shaped and pale; tumour cells are large and vesicular, with a rim and nucleoli.
BANKS: dict[str, NucleusStyle] = {
    "lymphocyte": NucleusStyle(
        radius=3.1, radius_spread=0.1, aspect=(0.76, 1.0), bumps=0.06, body=1.95, rim=2.3, chromatin=0.32, grain=0.75,
        halo=0.5, tone=0.2, count=256,
    ),
    "centroblast": NucleusStyle(
        radius=4.2, radius_spread=0.16, aspect=(0.6, 1.0), bumps=0.1, body=0.95, rim=1.45, chromatin=0.36, grain=0.7,
        nucleoli=1.2, nucleolus=0.5, halo=0.5, tone=0.2,
    ),
    "histiocyte": NucleusStyle(
        radius=3.6, radius_spread=0.16, aspect=(0.45, 0.8), bumps=0.12, body=0.75, rim=1.1, chromatin=0.3, grain=0.6,
        nucleoli=0.4, nucleolus=0.4, tone=0.2,
    ),
    "tumour": NucleusStyle(
        radius=5.6, radius_spread=0.2, aspect=(0.56, 0.98), bumps=0.085, body=0.78, rim=1.25, chromatin=0.36,
        grain=0.85, nucleoli=1.2, nucleolus=0.95, tone=0.24, count=400,
    ),
    "erythrocyte": NucleusStyle(
        radius=3.1, radius_spread=0.06, aspect=(0.75, 1.0), bumps=0.03, body=0.0, rim=0.0, chromatin=0.0, grain=1.0,
        count=48,
    ),
}  # fmt: skip


def make_bank(
    name: str, seed: int, mpp: float, *, larger: float = 1.0, nucleoli: float = 1.0, darker: float = 1.0
) -> tuple[Sprite, ...]:
    """Return the nuclei of one type, the smallest first; their size, nucleoli and darkness are multiplied as told."""
    style = BANKS[name]
    style = replace(
        style,
        radius=style.radius * larger,
        nucleoli=style.nucleoli * nucleoli,
        body=style.body * darker,
        rim=style.rim * darker,
    )
    rng = np.random.default_rng((seed, 21, len(name), ord(name[0])))
    size = np.sort(style.radius * np.exp(style.radius_spread * rng.standard_normal(style.count)))
    return tuple(_nucleus(rng, style, radius, rng.uniform(0, np.pi), mpp, name) for radius in size.tolist())


def make_spindles(seed: int, mpp: float, *, dark: float, length: float, variants: int = 6) -> tuple[Sprite, ...]:
    """Return fibroblast-like nuclei, ``variants`` for each of the orientations from 0 to π."""
    rng = np.random.default_rng((seed, 22, round(length * 10)))
    style = NucleusStyle(
        radius=length,
        radius_spread=0,
        aspect=(0.2, 0.34),
        bumps=0.05,
        body=dark,
        rim=dark * 1.15,
        chromatin=0.3,
        grain=0.7,
    )
    return tuple(
        _nucleus(rng, style, length * rng.uniform(0.75, 1.25), np.pi * k / ORIENTATIONS, mpp, "spindle")
        for k in range(ORIENTATIONS)
        for _ in range(variants)
    )


def _nucleus(
    rng: np.random.Generator, style: NucleusStyle, radius: float, turn: float, mpp: float, name: str
) -> Sprite:
    """Draw one nucleus, its long axis at ``turn``, with its middle anywhere within the middle pixel."""
    aspect = rng.uniform(*style.aspect)
    # Equal area for every aspect, so that the radius means the size.
    long, short = radius / np.sqrt(aspect), radius * np.sqrt(aspect)
    if name == "spindle":
        long, short = radius, radius * aspect
    half = int(np.ceil((long * 1.25 + style.halo + 1.0) / mpp)) + 1
    y, x = (np.mgrid[-half : half + 1, -half : half + 1] + rng.uniform(-0.5, 0.5, (2, 1, 1))) * mpp
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    angle = np.arctan2(v, u)
    edge = long * short / np.hypot(short * np.cos(angle), long * np.sin(angle))
    for order in range(2, 6):
        edge *= 1 + style.bumps * rng.normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi)) / np.sqrt(order)
    # Distance from the outline: along the ray, shortened where the ray meets the outline at a flat angle.
    inside = ((edge - np.hypot(u, v)) * np.clip(edge / long, 0.3, 1)).astype(np.float32)
    cover = smoothstep(inside, -0.35, 0.45)
    grain = ndimage.gaussian_filter(rng.standard_normal(x.shape), style.grain / mpp)
    grain /= max(float(grain.std()), 1e-6)
    tone = np.exp(style.tone * rng.normal())
    rim = np.exp(-((inside / np.float32(0.75)) ** 2))
    amount = tone * (style.body * (1 + style.chromatin * grain) + (style.rim - style.body) * rim)
    pink = np.zeros_like(cover)
    if style.nucleoli:
        spots = _nucleoli(rng, style, u, v, long, short)
        amount = amount + 1.5 * spots
        pink = (0.5 * spots).astype(np.float32)
    if name == "erythrocyte":
        pale = 1 - 0.3 * np.exp(-((np.hypot(u, v) / (0.45 * radius)) ** 2))
        return Sprite(
            1 - 0.9 * cover, 0 * cover, 1 - cover, (cover * pale * rng.uniform(0.85, 1.25)).astype(np.float32)
        )
    amount = np.maximum(amount, 0.15).astype(np.float32)
    ring = smoothstep(inside, -0.35 - style.halo, -0.1) if style.halo else cover
    keep = 1 - np.maximum(cover, 0.75 * ring)
    return Sprite(keep, cover * amount, 1 - np.maximum(0.35 * cover, 0.4 * (ring - cover)), cover * pink)


def _nucleoli(rng: np.random.Generator, style: NucleusStyle, u: Floats, v: Floats, long: float, short: float) -> Floats:
    """Return soft spots within the inner half of a nucleus."""
    spots = np.zeros_like(u)
    for _ in range(int(rng.poisson(style.nucleoli))):
        away, at = 0.5 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        distance = np.hypot(u - away * long * np.cos(at), v - away * short * np.sin(at))
        radius = style.nucleolus * rng.uniform(0.6, 1.15)
        spots = np.maximum(spots, smoothstep(distance, radius + 0.3, radius - 0.35))
    return spots
