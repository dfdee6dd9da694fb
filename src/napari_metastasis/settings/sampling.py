"""Which slides a model is trained on, and which of their patches."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.settings._core import SettingsGroup, setting

__all__ = ["CohortSettings", "SamplingSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortSettings(SettingsGroup):
    """How a cohort is read."""

    validation_share: float = setting(
        0.15,
        "Share of the training slides, patients kept together, that is held back for validation where the cohort marks "
        "none.",
        minimum=0.0,
        maximum=0.9,
    )
    split_seed: int = setting(
        2016,
        "Seed of that draw, which is not the training's own: runs with other seeds are measured on the same slides.",
        minimum=0,
        maximum=2**31 - 1,
    )
    cohort_mpp: float = setting(
        0.0,
        "Pixel size of level 0 of slides whose line in the cohort file names none; 0 takes what each slide states.",
        unit="µm/px",
        minimum=0.0,
        maximum=100.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings(SettingsGroup):
    """Which patches are taken from slides: class first, then slide, then location (Zheng et al. 2022, 4.1)."""

    tumour_share: float = setting(
        0.5, "Share of patches that are tumour, whatever their share of the tissue.", minimum=0.01, maximum=0.99
    )
    label_share: float = setting(
        1 / 3,
        "Side of the central square whose tumour makes a patch tumour, as a share of the patch's side: 32 of 96 px, as "
        "in PatchCamelyon.",
        minimum=0.01,
        maximum=1.0,
    )
    normal_margin_um: float = setting(
        16.0,
        "Least distance from that square to tumour in normal patches: outlines drawn by hand are off by a cell or two.",
        unit="µm",
        minimum=0.0,
        maximum=1000.0,
    )
    patches_per_epoch: int = setting(
        20_000,
        "Patches of an epoch, after which the model is measured and stored; slides hold more than any run sees.",
        minimum=2,
        maximum=100_000_000,
    )
    validation_patches: int = setting(
        4096,
        "Patches of the validation slides, half of them tumour, that every epoch is measured on; always the same ones.",
        minimum=2,
        maximum=10_000_000,
    )
    tumour_value: int = setting(
        0,
        "Value of tumour in masks of small numbers; 0 detects it: 2, or 1 where no mask has a 2. Grey masks are tumour "
        "from 128 on.",
        minimum=0,
        maximum=255,
    )
    open_slides: int = setting(
        128, "Slides that each reading process keeps open; bounds its memory and open files.", minimum=1, maximum=4096
    )
