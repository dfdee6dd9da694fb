"""Toy passes that read what other passes wrote: the averaged map, and the refined one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from toy_pass import TOY, ToyPass, ToySettings

from napari_metastasis.scanning import MapKind
from napari_metastasis.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainSettings(ToySettings):
    SWITCH: ClassVar[str] = "again"
    again: bool = setting(False, "Average every averaged answer with its neighbours.")


class AgainPass(ToyPass):
    writes = MapKind(name="again", title="Averaged twice", stem="again")
    reads = "averaged"


class SmoothedPass(ToyPass):
    writes = MapKind(name="smoothed", title="Smoothed refined probability", stem="smoothed")
    reads = "refined"


AGAIN = replace(
    TOY, name="again", noun="reaverager", writes="again", settings=AgainSettings, scan_pass="toy_chain:AgainPass"
)
SMOOTHED = replace(AGAIN, name="smoothed", writes="smoothed", scan_pass="toy_chain:SmoothedPass")
