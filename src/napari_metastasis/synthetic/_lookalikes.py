"""Cells that are taken for mitoses and are none, as amounts of dye around their middle.

They are smooth: a shrunken nucleus, or balls or a crescent of one, in a small pink cell, or a dark spindle.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_metastasis.synthetic._cell_figures import (
    CELL_UM,
    EDGE_UM,
    CellFigure,
    Sheet,
    cell_around,
    drawn_blur,
    drawn_kind,
)
from napari_metastasis.synthetic._noise import Floats, smoothstep

__all__ = ["LOOKALIKES", "draw_lookalike"]


def _pyknotic(sheet: Sheet) -> tuple[Floats, Floats]:
    rng = sheet.rng
    long = rng.uniform(1.6, 3.3)
    inside = sheet.rounded(0, 0, long, long * rng.uniform(0.65, 1.0), 0.05)
    body = smoothstep(inside, -2 * EDGE_UM, 2 * EDGE_UM)
    rim = long + rng.uniform(1.0, 3.0)
    u, v = rng.normal(0, 0.6, 2).tolist()
    return body, sheet.rounded(u, v, rim, rim * rng.uniform(0.7, 1.0), 0.08)


def _balls(sheet: Sheet) -> tuple[Floats, Floats]:
    rng, body = sheet.rng, np.zeros(sheet.u.shape, np.float32)
    for _ in range(int(rng.integers(2, 7))):
        radius, (u, v) = rng.uniform(0.5, 1.7), rng.normal(0, 1.7, 2)
        inside = sheet.rounded(u, v, radius, radius * rng.uniform(0.85, 1.0), 0.03)
        body = np.maximum(body, smoothstep(inside, -2 * EDGE_UM, 2 * EDGE_UM) * rng.uniform(0.75, 1.0))
    rim = rng.uniform(4.0, 6.0)
    return body, sheet.rounded(0, 0, rim, rim * rng.uniform(0.75, 1.0), 0.06)


def _crescent(sheet: Sheet) -> tuple[Floats, Floats]:
    rng = sheet.rng
    radius = rng.uniform(2.4, 3.6)
    outer = sheet.rounded(0, 0, radius, radius * rng.uniform(0.85, 1.0), 0.03)
    inner = sheet.rounded(rng.uniform(0.3, 0.5) * radius, 0, 0.85 * radius, 0.8 * radius, 0.03)
    body = smoothstep(outer, -0.25, 0.25) * smoothstep(inner, 0.3, -0.3)
    body = np.maximum(body, 0.25 * smoothstep(outer, -0.25, 0.25))
    return body.astype(np.float32), sheet.rounded(0, 0, radius + 1.8, radius + 1.4, 0.06)


def _spindle(sheet: Sheet) -> tuple[Floats, Floats]:
    rng = sheet.rng
    long = rng.uniform(3.5, 7.5)
    bent = np.float32(rng.normal(0, 0.025))
    sheet.v = sheet.v - bent * sheet.u**2
    inside = sheet.rounded(0, 0, long, rng.uniform(1.2, 3.0), 0.08)
    soft = rng.uniform(0.25, 0.7)
    body = smoothstep(inside, -soft, soft) * (0.85 + 0.1 * sheet.noise(0.7)).clip(0.4, 1.1)
    # It lies in the fibres, as they are.
    return body.astype(np.float32), np.full(inside.shape, -99, np.float32)


#: How their chromatin lies, how often, and how dark it is at least and at most.
LOOKALIKES: dict[str, tuple[float, Callable[[Sheet], tuple[Floats, Floats]], tuple[float, float]]] = {
    "pyknotic": (0.35, _pyknotic, (0.9, 1.35)),
    "balls": (0.2, _balls, (0.9, 1.35)),
    "crescent": (0.1, _crescent, (0.8, 1.3)),
    "spindle": (0.35, _spindle, (0.6, 1.0)),
}


def draw_lookalike(rng: np.random.Generator, mpp: float, kind: str = "") -> CellFigure:
    """Return a dying or squeezed cell, of a kind of :data:`LOOKALIKES` or of any: smooth, very dark, and no mitosis.

    Parameters
    ----------
    rng
        Source of all of it.
    mpp
        µm per pixel.
    kind
        Name; empty draws one.
    """
    _, draw, dark = LOOKALIKES[kind or drawn_kind(rng, LOOKALIKES)]
    sheet = Sheet(rng, mpp, CELL_UM)
    body, inside = draw(sheet)
    chromatin = (rng.uniform(*dark) * body).astype(np.float32)
    cell, halo = cell_around(sheet, inside, halo=0.6)
    if not cell.any():
        halo = np.zeros_like(halo)
    return CellFigure(chromatin, cell, halo, rng.uniform(0.7, 1.2), rng.uniform(1.2, 2.1), drawn_blur(rng))
