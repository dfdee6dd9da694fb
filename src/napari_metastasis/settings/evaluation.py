"""How detections are scored against the reference."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.settings._core import SettingsGroup, setting

__all__ = ["CalibrationSettings", "EvaluationSettings", "PatchScoringSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings(SettingsGroup):
    """How detections are scored against the reference; the defaults are CAMELYON16's."""

    mpp: float = setting(
        0.243,
        "Pixel size of level 0 at which all slides are scored, except with --cohort, which takes each slide's own; "
        "CAMELYON16's scoring takes 0.243 for both hospitals.",
        unit="µm/px",
        minimum=0.05,
        maximum=10.0,
    )
    truth_from: str = setting(
        "auto",
        "Where lesions come from if a slide has both outlines and a mask; auto takes the mask, as the challenge does.",
        choices=("auto", "masks", "outlines"),
    )
    tumour_value: int = setting(
        0,
        "Value of tumour in masks; 0 detects it: 255, or 2, or 1 where no mask has a 2. Grey masks are tumour from "
        "128 on.",
        minimum=0,
        maximum=255,
    )
    mask_downsample: float = setting(
        32.0,
        "Level-0 pixels along a pixel of a mask of one resolution, such as a PNG; pyramids state their own.",
        minimum=1.0,
        maximum=1024.0,
    )
    downsample: int = setting(
        32, "Level-0 pixels along a pixel of the masks that are scored: level 5.", minimum=1, maximum=1024
    )
    merge_um: float = setting(
        75.0,
        "Tumour closer together than this is one lesion: the extent of five tumour cells.",
        unit="µm",
        minimum=1.0,
        maximum=1000.0,
    )
    itc_um: float = setting(
        275.0,
        "A lesion whose major axis, grown by half the merging distance at both ends, is shorter than this is isolated "
        "tumour cells: missing it costs nothing, and a detection in it is no false positive (200 µm and the growth).",
        unit="µm",
        minimum=0.0,
        maximum=5000.0,
    )
    fp_rates: tuple[float, ...] = setting(
        (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
        "False positives per slide at which sensitivity is averaged.",
        minimum=0.001,
        maximum=1000.0,
    )
    threshold: float = setting(
        0.5,
        "Slide score from which a slide is called tumour, for precision and recall.",
        minimum=0.0,
        maximum=1.0,
    )
    allow_unpaired: bool = setting(
        False,
        "Score although truth without detections lies beside detections without truth, which may be misspelt names: "
        "these slides count as normal.",
    )
    keep_flawed: bool = setting(
        False,
        "Score CAMELYON16's Test_049 (a duplicate), Test_114 (not exhaustively annotated) and Normal_086 (withdrawn) "
        "too, and slides of a cohort whose tumour is not all outlined.",
    )
    resamples: int = setting(
        2000, "Bootstrap resamples of an interval; more only steady its third digit.", minimum=100, maximum=1_000_000
    )
    seed: int = setting(2016, "Seed of the resamples.", minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchScoringSettings(SettingsGroup):
    """How a model is scored on labelled patches."""

    batch_size: int = setting(
        64,
        "Patches that run through the network together; bounds memory and changes no answer.",
        minimum=1,
        maximum=4096,
    )
    threshold: float = setting(
        0.5, "Probability from which a patch is called tumour, for accuracy.", minimum=0.0, maximum=1.0
    )
    resamples: int = setting(
        1000, "Bootstrap resamples of an interval: its third digit no longer moves.", minimum=100, maximum=1_000_000
    )
    seed: int = setting(0, "Seed of the resamples.", minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSettings(SettingsGroup):
    """What a model's answers are made probabilities of, and how much normal tissue its threshold may mark."""

    prior: float = setting(
        0.01,
        "Share of tumour in the tissue of slides, for which answers are probabilities.",
        minimum=0.0001,
        maximum=0.99,
    )
    false_area: float = setting(
        0.01,
        "Largest share of normal tissue that the default threshold may mark: mm² in every mm².",
        minimum=0.00001,
        maximum=0.5,
    )
