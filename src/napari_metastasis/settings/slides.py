"""How slides are opened and written, and how tissue is found."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.settings._core import SettingsGroup, setting

__all__ = [
    "INPUTS",
    "INPUT_HELP",
    "MOST_READING_THREADS",
    "PUBLISHED_STAINS",
    "PyramidSettings",
    "SlideSettings",
    "StainSettings",
    "TissueSettings",
]

#: Most threads that read for a GPU: from about eight on, they wait for the disk and for each other.
MOST_READING_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSettings(SettingsGroup):
    """How slides are opened."""

    thumbnail_px: int = setting(
        1024,
        "Longest side of the coarsest level; napari reads that level whole and keeps it.",
        unit="px",
        minimum=64,
        maximum=4096,
    )
    chunk_px: int = setting(
        512,
        "Side of a dask chunk: the tile size of most scanners; smaller chunks make a large slide slow to open.",
        unit="px",
        minimum=128,
        maximum=4096,
    )
    cache_mib: int = setting(
        96,
        "Decoded tiles kept for neighbouring reads: enough for overlapping pieces of a scan, without filling memory.",
        unit="MiB",
        minimum=0,
        maximum=65536,
    )
    threads: int = setting(
        2,
        "Threads that decode unless a scan says otherwise: enough to keep a network on the processor busy.",
        minimum=1,
        maximum=64,
    )
    network_timeout_s: float = setting(
        30.0,
        "How long a server may say nothing of a slide at an address; a proxy that wakes it up needs some seconds.",
        unit="s",
        minimum=0.1,
        maximum=600.0,
    )
    network_tries: int = setting(
        5, "How often a request is made that a server is too busy for, or that breaks off.", minimum=1, maximum=20
    )
    network_wait_s: float = setting(
        0.25,
        "Pause before the second try, doubled before each further one: 4 s in all, in which a server restarts.",
        unit="s",
        minimum=0.0,
        maximum=60.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PyramidSettings(SettingsGroup):
    """How slides are written."""

    tile_px: int = setting(
        512, "Side of a tile; a multiple of 16, as TIFF wants it.", unit="px", minimum=16, maximum=4096
    )
    compression: str = setting(
        "jpeg", "How tiles are stored; all but jpeg keep every pixel.", choices=("jpeg", "lzw", "deflate", "none")
    )
    quality: int = setting(
        85,
        "JPEG quality; scanners use 70 to 90, and below that blocks begin to look like texture.",
        minimum=1,
        maximum=100,
    )
    threads: int = setting(
        2, "Threads that encode tiles while the next are being drawn or read.", minimum=1, maximum=64
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TissueSettings(SettingsGroup):
    """How tissue is found (Otsu 1979, as Lin et al. 2019, II-C, use it)."""

    mpp: float = setting(
        16.0,
        "Resolution of the low-power image that Otsu's threshold is taken on.",
        unit="µm/px",
        minimum=1.0,
        maximum=64.0,
    )
    margin_um: float = setting(
        64.0,
        "Tissue is grown by this much, so that a metastasis at its very edge is scanned.",
        unit="µm",
        minimum=0.0,
        maximum=1000.0,
    )
    min_object_um: float = setting(
        120.0,
        "Specks of a smaller diameter are dust, not tissue.",
        unit="µm",
        minimum=0.0,
        maximum=2000.0,
    )


#: What a network may read of a slide: colours, those of a reference, how much there is of each dye, colours and dyes.
INPUTS = ("rgb", "normalised", "stains", "both")
INPUT_HELP = (
    "What the network reads: rgb, colours as they are; normalised, with a published reference's dyes in place of the "
    "slide's own (Macenko et al. 2009); stains, how much haematoxylin and eosin there is; both, colours and both dyes. "
    "Dyes are told of a whole slide, or of a set of patches."
)
#: The dyes of the slide that the published code of Macenko et al. takes as its reference: optical density of red, green
#: and blue in a unit of haematoxylin and of eosin, and the concentration of each that one pixel in a hundred exceeds.
PUBLISHED_STAINS = (0.5626, 0.7201, 0.4062, 0.2159, 0.8012, 0.5581, 1.9705, 1.0308)


@dataclass(frozen=True, slots=True, kw_only=True)
class StainSettings(SettingsGroup):
    """How haematoxylin is told from eosin (Macenko et al. 2009); light, tail and density are the published code's."""

    light: float = setting(
        240.0, "Grey level of light that went through nothing but glass.", minimum=1.0, maximum=255.0
    )
    tail_percent: float = setting(
        1.0,
        "Pixels beyond each dye's own colour: the extreme ones are noise.",
        unit="%",
        minimum=0.0,
        maximum=25.0,
    )
    min_density: float = setting(
        0.15,
        "Optical density (natural logarithm) of red, green and blue from which a pixel's colour tells its dyes.",
        minimum=0.01,
        maximum=2.0,
    )
    maximum_percent: float = setting(
        99.0,
        "Percentile of the concentrations that is taken for their maximum: the very densest pixels are dirt and folds.",
        unit="%",
        minimum=50.0,
        maximum=100.0,
    )
    min_angle_deg: float = setting(
        10.0,
        "Colours of two dyes lie further apart: those of one do by noise alone, up to 9° after JPEG, while the palest "
        "patches of H&E reach 11°.",
        unit="°",
        minimum=0.0,
        maximum=90.0,
    )
    mpp: float = setting(
        1.0,
        "Resolution that a slide's stains are told at: nuclei are some pixels wide; in coarser ones they mix with what "
        "lies around them.",
        unit="µm/px",
        minimum=0.1,
        maximum=16.0,
    )
    most_px: int = setting(
        200_000,
        "Stained pixels that are drawn of a slide's tissue; more change no angle by a tenth of a degree.",
        minimum=1000,
        maximum=10_000_000,
    )
    seed: int = setting(2009, "Seed of the draw.", minimum=0, maximum=2**31 - 1)
