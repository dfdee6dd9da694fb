"""What synthetic slides and patches show."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.errors import SettingsError
from napari_metastasis.settings._core import SettingsGroup, check, setting

__all__ = ["CohortSampleSettings", "PatchSampleSettings", "SyntheticSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSettings(SettingsGroup):
    """What a synthetic lymph-node slide shows; the defaults are the sample slide's."""

    seed: int = setting(
        2016, "Seed of the whole slide; another seed gives another patient.", minimum=0, maximum=2**31 - 1
    )
    width_px: int = setting(14336, "Width of level 0.", unit="px", minimum=512, maximum=400_000)
    height_px: int = setting(10752, "Height of level 0.", unit="px", minimum=512, maximum=400_000)
    mpp: float = setting(
        0.486, "Resolution of level 0: level 1 of CAMELYON16's slides.", unit="µm/px", minimum=0.2, maximum=1.0
    )
    nodes: int = setting(1, "Lymph nodes on the slide.", minimum=1, maximum=40)
    node_mm: float = setting(
        4.1,
        "Length of a node; a node is made smaller where the slide has no room for it.",
        unit="mm",
        minimum=0.2,
        maximum=20.0,
    )
    macro: int = setting(1, "Macro-metastases: over 2 mm.", minimum=0, maximum=20)
    micro: int = setting(3, "Micro-metastases: over 0.2 mm and up to 2 mm.", minimum=0, maximum=200)
    itc: int = setting(4, "Clusters of isolated tumour cells: up to 0.2 mm.", minimum=0, maximum=500)
    stain: str = setting(
        "rose",
        "Colours: rose or violet, after CAMELYON16's two hospitals; auto lets the seed choose.",
        choices=("auto", "rose", "violet"),
    )
    stain_variation: float = setting(
        1.0,
        "How far the slide's stain and light may differ from its hospital's mean; 0 not at all.",
        minimum=0,
        maximum=3,
    )
    grade: float = setting(
        0.5,
        "How unlike normal cells tumour cells are: 0 small and even, 1 large, pleomorphic, with prominent nucleoli.",
        minimum=0.0,
        maximum=1.0,
    )
    mimics: float = setting(
        0.0,
        "How tumour-like normal cells are: sinuses fuller of larger histiocytes, larger blasts, plumper endothelium; "
        "0 hardly, 1 enough for a network trained without them to call them tumour.",
        minimum=0.0,
        maximum=1.0,
    )
    subtlety: float = setting(
        0.0,
        "How much smaller and paler than usual tumour cells are, with fewer nucleoli: 0 not at all, 1 as small as "
        "cells of germinal centres, and paler.",
        minimum=0.0,
        maximum=1.0,
        added=True,
    )
    variety: float = setting(
        0.0,
        "How far benign tissue varies within a node: capsule and trabeculae broad, fibrous and full of cells, scars, "
        "open sinuses beside crowded ones, lopsided germinal centres; 0 thin and even, 1 as in real nodes.",
        minimum=0.0,
        maximum=1.0,
        added=True,
    )
    fat_mm: float = setting(0.5, "Width of the fat around a node.", unit="mm", minimum=0.0, maximum=5.0)
    blurred_areas: int = setting(2, "Areas out of focus.", minimum=0, maximum=100)
    pen_marks: int = setting(2, "Strokes of a pen, beside tissue and over it.", minimum=0, maximum=50)
    folds: int = setting(1, "Folds of the section, which look twice as dark.", minimum=0, maximum=50)
    tears: int = setting(1, "Tears of the section.", minimum=0, maximum=50)
    dust: int = setting(40, "Specks of dust on the cover slip.", minimum=0, maximum=10_000)
    jpeg_quality: int = setting(
        70, "Quality of the stored tiles; 70 keeps the sample under 20 MB.", minimum=30, maximum=100
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSampleSettings(SettingsGroup):
    """How many labelled patches are cropped, and from which synthetic slides."""

    slides: int = setting(6, "Synthetic slides to crop patches from, each another patient.", minimum=1, maximum=10_000)
    per_slide: int = setting(600, "Patches from each slide.", minimum=2, maximum=50_000)
    seed: int = setting(1, "Seed of the first slide; the others follow.", minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortSampleSettings(SettingsGroup):
    """What a synthetic cohort is made of."""

    slides: int = setting(40, "Slides, each another patient.", minimum=6, maximum=2000)
    seed: int = setting(1, "Seed of the cohort; another seed gives other patients.", minimum=0, maximum=2**31 - 1)
    width_px: int = setting(
        5120, "Width of level 0; 5 mm by default, room for a macro-metastasis.", unit="px", minimum=512, maximum=400_000
    )
    height_px: int = setting(4096, "Height of level 0.", unit="px", minimum=512, maximum=400_000)
    mpp: float = setting(
        0.972,
        "Resolution of level 0: what the models read; drawing twice as fine takes four times as long.",
        unit="µm/px",
        minimum=0.2,
        maximum=1.0,
    )
    normal_share: float = setting(
        0.5, "Share of slides without tumour, in every split; CAMELYON16 has 0.6.", minimum=0.1, maximum=0.9
    )
    test_share: float = setting(0.3, "Share of slides in the test split.", minimum=0.0, maximum=0.8)
    validation_share: float = setting(0.2, "Share of slides in the validation split.", minimum=0.0, maximum=0.8)
    macro: int = setting(
        2, "Slides with a macro-metastasis, in parts of the slides with tumour.", minimum=0, maximum=100
    )
    micro: int = setting(3, "The same for micro-metastases without a macro-metastasis.", minimum=0, maximum=100)
    itc: int = setting(1, "The same for isolated tumour cells alone.", minimum=0, maximum=100)
    mimics: float = setting(
        0.9,
        "How tumour-like the most deceptive slide's normal cells are; every other slide has a share of it.",
        minimum=0.0,
        maximum=1.0,
    )
    subtlety: float = setting(
        0.0,
        "How much smaller and paler than usual the subtlest slide's tumour cells are; every other slide has half of it "
        "or more.",
        minimum=0.0,
        maximum=1.0,
        added=True,
    )
    variety: float = setting(
        1.0,
        "How far benign tissue varies on the most varied slide: broad, fibrous capsules and trabeculae, scars, open "
        "sinuses, lopsided germinal centres; every other slide has a share of it.",
        minimum=0.0,
        maximum=1.0,
        added=True,
    )
    stain_variation: float = setting(
        1.5, "How far stains may differ from their hospital's mean; 0 not at all.", minimum=0.0, maximum=3.0
    )
    jpeg_quality: int = setting(80, "Quality of the stored tiles.", minimum=30, maximum=100)
    processes: int = setting(
        1, "Slides drawn at the same time, each in a process of about 400 MB; changes no pixel.", minimum=1, maximum=256
    )

    def __post_init__(self) -> None:
        """Refuse values out of range, and shares that leave nothing to train on."""
        check(self)
        if self.test_share + self.validation_share > 0.9:
            raise SettingsError(
                "expected test-share and validation-share of at most 0.9 together, got "
                f"{self.test_share + self.validation_share:g}; leave slides to train on"
            )
        if not self.macro + self.micro + self.itc:
            raise SettingsError("expected macro, micro or itc above 0, got none; ask for some kind of metastasis")
