"""Which false positives a model is trained on again."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.settings._core import SettingsGroup, setting

__all__ = ["MiningSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningSettings(SettingsGroup):
    """How hard negatives are mined (Lin et al. 2019, II-C: false positives added back to the training data)."""

    mining_rounds: int = setting(
        1,
        "Times that the training slides are scanned for false positives and training goes on with them; 0 mines none.",
        minimum=0,
        maximum=20,
    )
    mining_epochs: int = setting(
        0, "Epochs of training after each round; 0 takes as many as at first.", minimum=0, maximum=1000
    )
    mining_rate: float = setting(
        0.3,
        "Peak learning rate after a round, as a share of the first stage's; training goes on from a good model.",
        minimum=0.001,
        maximum=10.0,
    )
    mined_share: float = setting(
        0.25,
        "Share of mined patches in a batch. They replace other normal ones, so that tumour keeps its share.",
        minimum=0.01,
        maximum=0.9,
    )
    mining_threshold: float = setting(
        0.5, "Probability from which normal tissue is a false positive.", minimum=0.0, maximum=1.0
    )
    mined_per_slide: int = setting(
        500, "Most locations taken from one slide, the strongest first.", minimum=1, maximum=1_000_000
    )
    mined_apart_um: float = setting(
        48.0,
        "Least distance between two mined locations of a slide: half a patch of 96 px, so that one mimic is not mined "
        "ten times over.",
        unit="µm",
        minimum=0.0,
        maximum=10_000.0,
    )
    mining_jitter_um: float = setting(
        8.0,
        "Largest shift of a mined patch along x and y each time that it is shown; small enough to keep the mimic in "
        "the central square.",
        unit="µm",
        minimum=0.0,
        maximum=1000.0,
    )
    hard_normals: float = setting(
        0.0,
        "How far normal patches weigh by their loss in every batch, labelled ones too: 0 all alike, 1 in proportion to "
        "it, so that training goes on where a false positive is nearest.",
        minimum=0.0,
        maximum=1.0,
        added=True,
    )
    sheet_patches: int = setting(
        300,
        "Mined patches that the contact sheet shows, the strongest first; 0 draws none.",
        minimum=0,
        maximum=100_000,
    )
