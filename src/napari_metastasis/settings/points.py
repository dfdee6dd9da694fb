"""What points are made into, how they are scored, and where most of them lie together."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.settings._core import SettingsGroup, setting

__all__ = ["HotSpotSettings", "PointMapSettings", "PointScoringSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointMapSettings(SettingsGroup):
    """How a point becomes probabilities around it: π = exp(-a·d), d the distance to the nearest point."""

    decay_per_um: float = setting(
        0.2,
        "How fast the probability falls, a: to 0.37 at 5 µm, the radius of a middling mitotic figure.",
        unit="1/µm",
        minimum=0.001,
        maximum=100.0,
    )
    floor: float = setting(
        0.02,
        "What is less probable is 0, so that a map is empty where no point is near; the least shown in the paper is "
        "0.03.",
        minimum=0.0001,
        maximum=0.5,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PointScoringSettings(SettingsGroup):
    """How points that were found are scored against those that a person set."""

    radius_um: float = setting(
        7.5,
        "Largest distance between a point that was found and the one that it finds: MIDOG's.",
        unit="µm",
        minimum=0.1,
        maximum=1000.0,
    )
    order: str = setting(
        "named",
        "What the two columns of a CSV without a first line are: TUPAC16's are yx; named takes only files that name "
        "their columns.",
        choices=("named", "xy", "yx"),
    )
    thresholds: tuple[float, ...] = setting(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        "Probabilities from which points count as found in the table beside the model's own threshold.",
        minimum=0.001,
        maximum=1.0,
    )
    resamples: int = setting(
        2000, "Bootstrap resamples of an interval; more only steady its third digit.", minimum=100, maximum=1_000_000
    )
    seed: int = setting(2016, "Seed of the resamples.", minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class HotSpotSettings(SettingsGroup):
    """The area in which the most points are counted."""

    area_mm2: float = setting(
        2.0,
        "Area that mitoses are counted in: ten fields at 40x of an eyepiece of 22 mm are 2.4, and 2 is usual.",
        unit="mm²",
        minimum=0.01,
        maximum=100.0,
    )
    shape: str = setting("circle", "Shape of the area.", choices=("circle", "rectangle"))
    aspect: float = setting(
        4 / 3, "Width of the rectangle over its height: that of MIDOG's regions.", minimum=0.1, maximum=10.0
    )
