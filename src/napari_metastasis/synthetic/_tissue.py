"""Which tissue lies where: smooth functions of (x, y) in µm, positive inside, for pixels and cells alike."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.synthetic._noise import Floats, Noise, upsampled
from napari_metastasis.synthetic._parts import Follicle, Layout, Metastasis, Node
from napari_metastasis.synthetic._window import Box

__all__ = ["Kind", "Tissue", "TissueMap"]

_FAR: Final = np.float32(-1e4)


class Kind:
    """The tissues that differ in their cells."""

    GLASS, FAT, FIBRE, SINUS, LYMPHOID, MANTLE, CENTER, NEST, STROMA, WALL, LUMEN, CLEFT = range(12)


@dataclass(slots=True)
class TissueMap:
    """The tissue at many locations: float32 fields of one shape, in µm and positive inside unless noted.

    Attributes
    ----------
    depth
        Below a node's surface.
    fat
        Within the fat around a node.
    fibre
        Within capsule, trabecula or septum.
    sinus
        Within a sinus.
    mantle, center
        Within a follicle, and within its germinal centre.
    tumour
        Within a metastasis.
    nest, lumen
        Within its nests of cells, and within their glands' lumina.
    wall, blood
        Within a vessel's wall, and within its lumen.
    across, along
        Coordinates of the fibres: constant along them, and growing along them.
    medulla
        0 in the cortex, 1 at the hilum.
    grade, owner
        Of the metastasis: its cells' pleomorphism, and its number; -1 outside.
    filled
        1 where a vessel's lumen holds blood.
    """

    depth: Floats
    fat: Floats
    fibre: Floats
    sinus: Floats
    mantle: Floats
    center: Floats
    tumour: Floats
    nest: Floats
    lumen: Floats
    wall: Floats
    blood: Floats
    across: Floats
    along: Floats
    medulla: Floats
    grade: Floats
    owner: Floats
    filled: Floats

    def kinds(self) -> NDArray[np.int8]:
        """Return the :class:`Kind` at every location."""
        inside = self.depth > 0
        order = (
            (self.blood > 0, Kind.LUMEN),
            (self.wall > 0, Kind.WALL),
            ((self.tumour > 0) & (self.lumen > 0), Kind.CLEFT),
            ((self.tumour > 0) & (self.nest > 0), Kind.NEST),
            (self.tumour > 0, Kind.STROMA),
            (self.center > 0, Kind.CENTER),
            (self.mantle > 0, Kind.MANTLE),
            (self.fibre > 0, Kind.FIBRE),
            (inside & (self.sinus > 0), Kind.SINUS),
            (inside, Kind.LYMPHOID),
            (self.fat > 0, Kind.FAT),
        )
        return np.select([where for where, _ in order], [kind for _, kind in order], Kind.GLASS).astype(np.int8)

    def upsampled(self, step: int) -> TissueMap:
        """Return the map, whose locations are ``step`` pixels apart, at every pixel."""
        return TissueMap(**{f.name: upsampled(getattr(self, f.name), step) for f in fields(self)})


@dataclass(frozen=True, slots=True)
class Tissue:
    """The tissue of one slide.

    Attributes
    ----------
    layout
        What lies where; :meth:`near` leaves out what does not reach a window.
    noise
        The slide's randomness.
    fat_um
        Width of the fat around a node.
    mimics
        How full and wide sinuses are, 0 to 1.
    variety
        How broad and fibrous capsule and trabeculae are, and how lopsided germinal centres, 0 to 1.
    """

    layout: Layout
    noise: Noise
    fat_um: float
    mimics: float
    variety: float = 0.0

    def near(self, box: Box) -> Tissue:
        """Return the tissue less all that cannot reach a box."""

        def reaches(x: float, y: float, reach: float) -> bool:
            return box.x - reach < x < box.x + box.width + reach and box.y - reach < y < box.y + box.height + reach

        whole = self.layout
        layout = replace(
            whole,
            nodes=tuple(
                n for n in whole.nodes if reaches(n.outline.x, n.outline.y, n.outline.reach + 2 * self.fat_um + 300)
            ),
            follicles=tuple(f for f in whole.follicles if reaches(f.outline.x, f.outline.y, f.outline.reach + 60)),
            vessels=tuple(v for v in whole.vessels if reaches(v.lumen.x, v.lumen.y, v.lumen.reach + v.wall_um + 10)),
            metastases=tuple(m for m in whole.metastases if reaches(m.outline.x, m.outline.y, m.outline.reach + 40)),
        )
        return replace(self, layout=layout)

    def at(self, x: Floats, y: Floats) -> TissueMap:
        """Return the tissue at (x, y) in µm."""
        noise = self.noise
        far, zero = np.full(x.shape, _FAR, np.float32), np.zeros(x.shape, np.float32)
        out = TissueMap(**{f.name: zero for f in fields(TissueMap)})
        out.depth, out.fibre, out.sinus, out.across, out.along = far, far, far, x, y
        wobble = 14 * noise.at(x, y, 420, 1) + 4 * noise.at(x, y, 90, 2)
        for node in self.layout.nodes:
            self._add_node(out, node, x, y, wobble)
        # Fat ends in an outline of its own, far from a parallel of the node's.
        out.fat = out.depth + self.fat_um * (1 + 0.55 * noise.at(x, y, 1300, 3) + 0.12 * noise.at(x, y, 260, 4))
        self._add_septa(out, x, y)
        out.mantle, out.center = far, far
        for follicle in self.layout.follicles:
            depth = follicle.outline.depth(x, y) + 5 * noise.at(x, y, 50, 7)
            out.mantle = np.maximum(out.mantle, depth)
            if follicle.center:
                out.center = np.maximum(out.center, self._center(follicle, depth, x, y))
        self._add_tumour(out, x, y)
        self._add_vessels(out, x, y)
        return out

    def _center(self, follicle: Follicle, depth: Floats, x: Floats, y: Floats) -> Floats:
        """Return how far (x, y) lies in a germinal centre, which lies away from the side where the mantle is thick."""
        center: Floats = depth - (1 - follicle.center) * follicle.outline.reach
        if self.variety:
            dx, dy = x - np.float32(follicle.outline.x), y - np.float32(follicle.outline.y)
            towards = dx * np.float32(np.cos(follicle.light)) + dy * np.float32(np.sin(follicle.light))
            center = np.minimum(center - np.float32(0.3 * self.variety) * towards, depth - 10)
        return center

    def _add_node(self, out: TissueMap, node: Node, x: Floats, y: Floats, wobble: Floats) -> None:
        """Add a node's capsule, subcapsular and medullary sinuses, and trabeculae."""
        noise = self.noise
        depth = node.outline.depth(x, y) + wobble
        angle = node.outline.angle(x, y)
        capsule = np.maximum(30 + 13 * noise.at(x, y, 480, 8), 9)
        if self.variety:
            capsule = capsule * (1 + np.float32(1.3 * self.variety) * np.maximum(noise.at(x, y, 1500, 41) + 0.4, 0))
        width = np.maximum((17 + 11 * noise.at(x, y, 340, 9)) * np.float32(0.85 + 0.8 * self.mimics), 3)
        fibre = capsule - np.abs(depth - 0.5 * capsule) - 0.5 * capsule
        sinus = np.minimum(depth - capsule, capsule + width - depth)
        hilum = np.hypot(x - np.float32(node.hilum[0]), y - np.float32(node.hilum[1]))
        medulla = np.clip(1.25 - hilum / np.float32(node.hilum_um) + 0.2 * noise.at(x, y, 420, 10), 0, 1)
        # Medullary sinuses: the valleys of a noise, wider towards the hilum. Where a noise crosses zero, it changes by
        # about 5 / wavelength a µm.
        maze = np.abs(noise.at(x, y, 190, 12) + 0.2 * noise.at(x, y, 70, 13))
        sinus = np.maximum(sinus, ((0.5 + 0.45 * self.mimics) * medulla - 0.05 - maze) * 40)
        distance = np.hypot(x - np.float32(node.outline.x), y - np.float32(node.outline.y))
        across = depth + 5 * noise.at(x, y, 110, 15) + 2 * noise.at(x, y, 38, 16)
        along = angle * distance
        # Sinuses beside trabeculae gape here and there.
        beside: Floats = np.full_like(depth, 16)
        if self.variety:
            beside = 16 + np.float32(14 * self.variety) * np.maximum(noise.at(x, y, 320, 43), 0)
        for turn, length, half_width, wave in node.trabeculae.tolist():
            away = np.angle(np.exp(1j * (angle - turn))).astype(np.float32) + wave * noise.at(x, y, 380, 14)
            beam = half_width * (1 - depth / length) - np.abs(away) * distance
            # Their fibres leave the capsule's and run inwards.
            inwards = (beam > -12) & (depth > capsule)
            across = np.where(inwards, away * distance + 2 * noise.at(x, y, 38, 16), across)
            along = np.where(inwards, depth, along)
            beam = np.where(depth > 0, beam, _FAR)
            fibre = np.maximum(fibre, beam)
            sinus = np.maximum(sinus, np.where(depth < length, np.minimum(beam + beside, 14), _FAR))
        if self.variety:
            scar, ridge = self._scar(depth, x, y)
            fibre = np.maximum(fibre, scar)
            across = np.where((scar > -12) & (depth > capsule), ridge, across)
        closer = depth > out.depth
        inside = closer & (depth > -60 - 120 * self.variety)
        out.across, out.along = np.where(inside, across, out.across), np.where(inside, along, out.along)
        out.depth, out.medulla = np.where(closer, depth, out.depth), np.where(closer, medulla, out.medulla)
        out.fibre, out.sinus = np.maximum(out.fibre, fibre), np.maximum(out.sinus, sinus)

    def _scar(self, depth: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return how far (x, y) lies in a band of scar within the node, and how far across it, in µm."""
        ridge = (self.noise.at(x, y, 1100, 44) + 0.2 * self.noise.at(x, y, 170, 45)) * 220
        half_width = np.float32(45 * self.variety) * np.clip(self.noise.at(x, y, 2200, 46) - 0.4, 0, 1.5)
        return np.where(depth > 0, half_width - 4 - np.abs(ridge), _FAR), ridge

    def _add_septa(self, out: TissueMap, x: Floats, y: Floats) -> None:
        """Add connective tissue to the fat: the capsule's outer sheath, and strands."""
        if self.variety:
            sheath = np.float32(60 * self.variety) * np.maximum(self.noise.at(x, y, 900, 42) + 0.3, 0)
            sheath = np.minimum(np.minimum(out.depth + sheath, 3 - out.depth), out.fat)
            out.fibre = np.maximum(out.fibre, sheath)
        ridge = self.noise.at(x, y, 900, 5) + 0.25 * self.noise.at(x, y, 160, 6)
        strand = (0.07 - np.abs(ridge)) * 150
        # They thin out towards the fat's edge, and join the capsule.
        strand = np.minimum(strand, np.minimum(-8 - out.depth, 0.3 * (out.fat - 20)))
        out.across = np.where(strand > -30, ridge * 150, out.across)
        out.fibre = np.maximum(out.fibre, strand)

    def _add_tumour(self, out: TissueMap, x: Floats, y: Floats) -> None:
        """Add the metastases: nests in a stroma whose fibres run around them."""
        out.tumour, out.nest, out.lumen = np.full((3, *x.shape), _FAR, np.float32)
        out.owner = np.full(x.shape, -1, np.float32)
        for number, metastasis in enumerate(self.layout.metastases):
            depth = metastasis.outline.depth(x, y)
            mine = depth > out.tumour
            nest, lumen = self._growth(metastasis, depth, x, y)
            out.tumour = np.where(mine, depth, out.tumour)
            out.nest, out.lumen = np.where(mine, nest, out.nest), np.where(mine, lumen, out.lumen)
            out.grade = np.where(mine, np.float32(metastasis.grade), out.grade)
            out.owner = np.where(mine & (depth > 0), np.float32(number), out.owner)
            stroma = mine & (depth > -25)
            out.across = np.where(
                stroma, 0.6 * nest + 9 * self.noise.at(x, y, 130, 21) + 2.5 * self.noise.at(x, y, 40, 29), out.across
            )

    def _growth(self, metastasis: Metastasis, depth: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return how far (x, y) lies in a nest, and in a gland's lumen, in µm."""
        noise = self.noise
        cos, sin = np.float32(np.cos(metastasis.angle)), np.float32(np.sin(metastasis.angle))
        u, v = x * cos + y * sin, y * cos - x * sin
        lumen: Floats = np.full(x.shape, _FAR, np.float32)
        if "itc" in metastasis.name:
            nest = depth + 3 * noise.at(x, y, 30, 22)
        elif metastasis.pattern == "cords":
            nest = (0.62 - np.abs(noise.at(u / 2.6, v, 115, 23) + 0.3 * noise.at(x, y, 50, 24))) * 24
        elif metastasis.pattern == "nests":
            nest = (noise.at(x, y, 170, 25) + 0.3 * noise.at(x, y, 60, 24) + 0.75) * 34
        else:
            septa = np.abs(noise.at(u / 1.4, v, 250, 26) + 0.22 * noise.at(x, y, 70, 24))
            nest = (septa - 0.2) * 55
            if metastasis.pattern == "glands":
                lumen = (noise.at(u / 1.3, v, 54, 27) + 0.3 * noise.at(x, y, 600, 30) - 1.3) * 15
                lumen = np.minimum(lumen, nest - 14)
        # Cells stay inside the outline that is annotated.
        return np.minimum(nest, depth - 2 - 5 * np.abs(noise.at(x, y, 34, 28))), np.minimum(lumen, depth - 20)

    def _add_vessels(self, out: TissueMap, x: Floats, y: Floats) -> None:
        out.wall, out.blood = np.full((2, *x.shape), _FAR, np.float32)
        for vessel in self.layout.vessels:
            depth = vessel.lumen.depth(x, y)
            out.blood = np.maximum(out.blood, depth)
            wall = depth + vessel.wall_um
            near = wall > -6
            out.across = np.where(near, depth, out.across)
            out.along = np.where(near, vessel.lumen.angle(x, y) * vessel.lumen.reach, out.along)
            out.filled = np.where(near, np.float32(vessel.blood), out.filled)
            out.wall = np.maximum(out.wall, wall)
