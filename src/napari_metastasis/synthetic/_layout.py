"""What lies where on a synthetic slide: decided once from the seed, in µm, before any pixel is drawn."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.errors import SettingsError
from napari_metastasis.settings import SyntheticSettings
from napari_metastasis.synthetic._parts import Follicle, Layout, Metastasis, Node, Pattern, Stroke, Vessel
from napari_metastasis.synthetic._shapes import Blob

__all__ = ["plan_layout"]

_PATTERNS: tuple[Pattern, ...] = ("solid", "nests", "cords", "glands")

#: AJCC size classes, as the longest diameter in µm. The margins keep a class beyond doubt after rounding.
_SIZES = {"macro": (2150.0, 2800.0), "micro": (300.0, 1300.0), "itc": (75.0, 185.0)}
#: Nothing of a metastasis lies nearer to the surface: the capsule stays whole.
_CAPSULE_UM = 75.0
#: Between two metastases, so that the challenge's merging distance of 75 µm never joins them.
_APART_UM = 180.0
_TRIES = 6000
#: Pen marks lie beside metastases: the gap between them, and how many marks are tried to find one that does.
_BESIDE_UM = 40.0
_PEN_TRIES = 60
#: Rounds of placing all metastases, each round smaller ones.
_ATTEMPTS = 3


def plan_layout(settings: SyntheticSettings) -> Layout:
    """Return what lies where on the slide of ``settings``.

    Raises
    ------
    SettingsError
        If the slide has no room for what was asked.
    """
    rng = np.random.default_rng((settings.seed, 1))
    width, height = settings.width_px * settings.mpp, settings.height_px * settings.mpp
    nodes = _nodes(rng, settings, width, height)
    metastases = _metastases(rng, settings, nodes)
    follicles = _follicles(rng, nodes, metastases)
    vessels = _vessels(rng, nodes, metastases)
    edge = _Edge(rng, nodes, width, height)
    return Layout(
        nodes=nodes,
        follicles=follicles,
        vessels=vessels,
        metastases=metastases,
        pens=tuple(edge.pen(k, metastases) for k in range(settings.pen_marks)),
        folds=tuple(edge.crossing(rng.uniform(8, 16)) for _ in range(settings.folds)),
        tears=tuple(edge.crossing(rng.uniform(4, 14)) for _ in range(settings.tears)),
        blurs=tuple(edge.blur() for _ in range(settings.blurred_areas)),
        dust=np.c_[rng.uniform((0, 0), (width, height), (settings.dust, 2)), rng.gamma(3, 2.2, settings.dust)],
    )


def _nodes(rng: np.random.Generator, settings: SyntheticSettings, width: float, height: float) -> tuple[Node, ...]:
    """Return nodes that lie on the slide, apart from one another."""
    # A lone node takes what room there is; several share the slide's area.
    room = min(0.86 * max(width, height), 1.15 * min(width, height)) / np.sqrt(settings.nodes)
    nodes: list[Node] = []
    for _ in range(_TRIES):
        if len(nodes) == settings.nodes:
            return tuple(nodes)
        length = min(settings.node_mm * 1000 * rng.uniform(0.92, 1.0), room) * (0.97 ** (len(nodes) > 0))
        shape = Blob.random(rng, diameter=length, aspect=rng.uniform(0.66, 0.8), rough=0.09, lobes=6)
        corners = shape.polygon(64)
        free = np.array([width, height]) - np.ptp(corners, axis=0)
        # With its fat, where there is room.
        margin = np.maximum(0.03 * max(width, height), np.minimum(settings.fat_mm * 1200, 0.4 * free))
        low, high = margin - corners.min(axis=0), np.array([width, height]) - corners.max(axis=0) - margin
        if (low > high).any():
            room *= 0.97
            continue
        x, y = rng.uniform(low, high)
        if all(np.hypot(x - n.outline.x, y - n.outline.y) > shape.reach + n.outline.reach + 150 for n in nodes):
            nodes.append(_node(rng, shape.moved(x, y), settings.variety, (settings.seed, 2, len(nodes))))
        else:
            room *= 0.998
    raise SettingsError(
        f"expected room for {settings.nodes} nodes on {width / 1000:.1f} x {height / 1000:.1f} mm, "
        f"got room for {len(nodes)}; ask for fewer or shorter nodes, or a larger slide"
    )


def _node(rng: np.random.Generator, outline: Blob, variety: float, seed: tuple[int, ...]) -> Node:
    """Return a node with a notch at its hilum; its broad trabeculae are drawn from ``seed``, apart from all else."""
    angle = -np.pi + np.arange(len(outline.radius)) * (2 * np.pi / len(outline.radius))
    # The hilum lies on a long side, where the outline is nearest to the middle.
    at = angle[int(np.argmin(outline.radius))] + rng.uniform(-0.2, 0.2)
    away = np.angle(np.exp(1j * (angle - at)))
    radius = outline.radius * (1 - 0.2 * np.exp(-((away / 0.3) ** 2)))
    outline = Blob.from_radius(outline.x, outline.y, radius.astype(np.float64))
    inside = 0.86 * float(outline.radius.min())
    count = max(2, round(outline.reach / 300))
    angles = np.sort(rng.uniform(-np.pi, np.pi, count))
    trabeculae = np.c_[
        angles,
        outline.reach * rng.uniform(0.12, 0.4, count),
        rng.uniform(8, 24, count),
        rng.uniform(0.01, 0.05, count),
    ]
    trabeculae = np.r_[trabeculae, _broad_trabeculae(np.random.default_rng(seed), outline, variety)]
    hilum = (outline.x + inside * np.cos(at), outline.y + inside * np.sin(at))
    return Node(outline, hilum, 0.62 * float(np.median(outline.radius)), trabeculae)


def _broad_trabeculae(rng: np.random.Generator, outline: Blob, variety: float) -> NDArray[np.float64]:
    """Return trabeculae as wide as those of fibrous nodes, the more of them and the wider the more variety."""
    count = round(variety * outline.reach / 450)
    return np.c_[
        rng.uniform(-np.pi, np.pi, count),
        outline.reach * rng.uniform(0.25, 0.6, count),
        24 + 46 * variety * rng.uniform(0, 1, count),
        rng.uniform(0.02, 0.08, count),
    ]


def _depth_in(node: Node, points: NDArray[np.float64]) -> NDArray[np.float32]:
    return node.outline.depth(points[:, 0].astype(np.float32), points[:, 1].astype(np.float32))


def _metastases(
    rng: np.random.Generator, settings: SyntheticSettings, nodes: tuple[Node, ...]
) -> tuple[Metastasis, ...]:
    """Return the metastases of every size class; where the large ones leave the others no room, smaller ones."""
    for attempt in range(_ATTEMPTS):
        with suppress(SettingsError):
            return _placed_metastases(rng, settings, nodes, shrink=0.6**attempt)
    return _placed_metastases(rng, settings, nodes, shrink=0)


def _placed_metastases(
    rng: np.random.Generator, settings: SyntheticSettings, nodes: tuple[Node, ...], *, shrink: float
) -> tuple[Metastasis, ...]:
    """Return the metastases, the largest first, apart from one another; ``shrink`` below 1 for smaller ones."""
    found: list[Metastasis] = []
    for kind, count in (("macro", settings.macro), ("micro", settings.micro), ("itc", settings.itc)):
        low, high = _SIZES[kind]
        # The largest first: the small ones find room between them.
        for number in reversed(range(count)):
            # Evenly spread over the class on a logarithmic scale, so that a few show its whole range.
            share = shrink * (number + rng.uniform(0.2, 0.8)) / count
            outline = _placed(
                rng, nodes, found, low=low, diameter=low * (high / low) ** share, anywhere=kind == "macro"
            )
            if outline is None:
                raise SettingsError(
                    f"expected room for {count} metastases of class {kind} in {len(nodes)} nodes, "
                    f"got room for {count - 1 - number}; ask for fewer of them, longer nodes or a larger slide"
                )
            pattern = _PATTERNS[int(rng.integers(len(_PATTERNS)))] if kind != "itc" else "solid"
            grade = float(np.clip(settings.grade + 0.12 * rng.normal(), 0, 1))
            found.append(Metastasis(f"{kind} {count - number}", outline, pattern, grade, rng.uniform(0, np.pi)))
    return tuple(found)


def _placed(
    rng: np.random.Generator,
    nodes: tuple[Node, ...],
    found: list[Metastasis],
    *,
    low: float,
    diameter: float,
    anywhere: bool,
) -> Blob | None:
    """Return the outline of one more metastasis, smaller and deeper where there is no room else; or None."""
    weight = np.array([node.outline.reach**2 for node in nodes])
    for step in range(_TRIES):
        if step % 50 == 0:
            ease = step / _TRIES
            size = diameter * (low / diameter) ** ease
            shape = Blob.random(rng, diameter=size, aspect=rng.uniform(0.5, 0.85), rough=0.15, lobes=16, fall=0.85)
            # Small ones come in by the subcapsular sinus and lie near it.
            deepest = np.inf if anywhere else 500 + size + 3000 * ease
        node = nodes[int(rng.choice(len(nodes), p=weight / weight.sum()))]
        x, y = (rng.uniform(-1, 1, 2) * node.outline.reach).tolist()
        moved = shape.moved(node.outline.x + x, node.outline.y + y)
        depth = _depth_in(node, moved.polygon(64))
        if depth.min() >= _CAPSULE_UM and depth.max() <= deepest and all(_apart(moved, m.outline) for m in found):
            return moved
    return None


def _apart(blob: Blob, other: Blob) -> bool:
    if np.hypot(blob.x - other.x, blob.y - other.y) > blob.reach + other.reach + _APART_UM:
        return True
    points = blob.polygon(128)
    return bool(other.depth(points[:, 0].astype(np.float32), points[:, 1].astype(np.float32)).max() < -_APART_UM)


def _follicles(
    rng: np.random.Generator, nodes: tuple[Node, ...], metastases: tuple[Metastasis, ...]
) -> tuple[Follicle, ...]:
    """Return follicles along the cortex, outside the metastases and away from the hilum."""
    found: list[Follicle] = []
    for node in nodes:
        target = int(2 * np.pi * node.outline.reach / 520)
        for _ in range(40 * target):
            if len(found) >= target:
                break
            size = rng.uniform(110, 280)
            angle = rng.uniform(-np.pi, np.pi)
            edge = float(np.interp(angle, np.linspace(-np.pi, np.pi, 1025)[:-1], node.outline.radius))
            inner = edge - size - rng.uniform(70, 420)
            if inner < 0.25 * edge:
                continue
            x, y = node.outline.x + inner * np.cos(angle), node.outline.y + inner * np.sin(angle)
            shape = Blob.random(rng, diameter=2 * size, aspect=rng.uniform(0.7, 0.95), rough=0.1, lobes=5).moved(x, y)
            far = np.hypot(x - node.hilum[0], y - node.hilum[1]) > node.hilum_um + 0.6 * size
            free = all(np.hypot(x - f.outline.x, y - f.outline.y) > size + f.outline.reach + 25 for f in found)
            if far and free and all(_clear(shape, m.outline) for m in metastases):
                # The light zone faces the capsule.
                found.append(Follicle(shape, rng.uniform(0.55, 0.75) if rng.uniform() < 0.8 else 0.0, angle))
    return tuple(found)


def _clear(blob: Blob, other: Blob) -> bool:
    points = np.r_[blob.polygon(64), [[blob.x, blob.y]]]
    return bool(other.depth(points[:, 0].astype(np.float32), points[:, 1].astype(np.float32)).max() < -10)


def _vessels(
    rng: np.random.Generator, nodes: tuple[Node, ...], metastases: tuple[Metastasis, ...]
) -> tuple[Vessel, ...]:
    """Return vessels in the nodes and in the fat around them."""
    found: list[Vessel] = []
    for node in nodes:
        reach = node.outline.reach
        for _ in range(int(26 * (reach / 2000) ** 2) + 3):
            size = float(np.exp(rng.normal(3.3, 0.45)))
            shape = Blob.random(rng, diameter=2 * size, aspect=rng.uniform(0.4, 0.95), rough=0.15, lobes=5)
            x, y = (rng.uniform(-1.15, 1.15, 2) * reach).tolist()
            lumen = shape.moved(node.outline.x + x, node.outline.y + y)
            wall = rng.uniform(4, 10) if rng.uniform() < 0.6 else rng.uniform(12, 28)
            depth = _depth_in(node, lumen.polygon(32))
            # Not across the capsule, where a vessel cut across would be odd.
            if (depth.min() > 150 or depth.max() < -60) and all(_clear(lumen, m.outline) for m in metastases):
                found.append(Vessel(lumen, float(wall), bool(rng.uniform() < 0.6)))
    return tuple(found)


def _gap(points: NDArray[np.float64], blob: Blob) -> float:
    """Return how far the nearest of ``points`` lies outside ``blob``, in µm; negative for one inside."""
    return -float(blob.depth(points[:, 0].astype(np.float32), points[:, 1].astype(np.float32)).max())


class _Edge:
    """Places the artefacts of a preparation: pen marks, folds, tears, areas out of focus."""

    def __init__(self, rng: np.random.Generator, nodes: tuple[Node, ...], width: float, height: float) -> None:
        self._rng, self._nodes, self._extent = rng, nodes, np.array([width, height])

    def _line(self, start: NDArray[np.float64], heading: float, length: float, bend: float) -> NDArray[np.float64]:
        steps = np.linspace(0, 1, 24)
        headings = heading + bend * steps + 0.08 * np.cumsum(self._rng.normal(size=24)) * bend
        moves = np.c_[np.cos(headings), np.sin(headings)] * (length / 24)
        return start + np.cumsum(moves, axis=0)

    def _node(self) -> Blob:
        return self._nodes[int(self._rng.integers(len(self._nodes)))].outline

    def pen(self, number: int, metastases: tuple[Metastasis, ...]) -> Stroke:
        """Return a curved mark beside the metastases; every second one runs over the edge of a node."""
        for _ in range(_PEN_TRIES):
            stroke = self._pen(number)
            room = stroke.half_width_um + _BESIDE_UM
            if all(_gap(stroke.points, metastasis.outline) > room for metastasis in metastases):
                break
        return stroke

    def _pen(self, number: int) -> Stroke:
        rng, node = self._rng, self._node()
        angle = rng.uniform(-np.pi, np.pi)
        distance = node.reach * (rng.uniform(0.8, 0.9) if number % 2 else rng.uniform(1.15, 1.3))
        start = np.array([node.x, node.y]) + distance * np.array([np.cos(angle), np.sin(angle)])
        line = self._line(start, angle + np.pi / 2, node.reach * rng.uniform(0.35, 0.6), rng.uniform(0.3, 1.4))
        return Stroke(line, rng.uniform(0.03, 0.05) * min(4000, node.reach * 2), int(rng.integers(4)))

    def crossing(self, half_width_um: float) -> Stroke:
        """Return a line that enters a node from its edge."""
        rng, node = self._rng, self._node()
        angle = rng.uniform(-np.pi, np.pi)
        start = np.array([node.x, node.y]) + node.reach * 0.9 * np.array([np.cos(angle), np.sin(angle)])
        heading = angle + np.pi + rng.uniform(-0.8, 0.8)
        return Stroke(self._line(start, heading, node.reach * rng.uniform(0.2, 0.4), rng.uniform(-1, 1)), half_width_um)

    def blur(self) -> Blob:
        """Return an area out of focus, somewhere on a node."""
        rng, node = self._rng, self._node()
        shape = Blob.random(rng, diameter=node.reach * rng.uniform(0.25, 0.5), aspect=0.7, rough=0.1, lobes=4)
        x, y = rng.uniform(-0.8, 0.8, 2) * node.reach
        return shape.moved(node.x + x, node.y + y)
