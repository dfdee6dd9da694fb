"""Every default of the program, with its unit and its reason: the one home of defaults.

Each group is a frozen dataclass whose fields carry :class:`Setting` metadata. Command-line options and napari forms are
built from that metadata, so that a default, its range and its explanation are written once.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from napari_metastasis.errors import SettingsError

__all__ = [
    "DEFAULT_MODEL",
    "DetectionSettings",
    "PyramidSettings",
    "ScanSettings",
    "Setting",
    "SlideSettings",
    "SyntheticSettings",
    "TissueSettings",
    "TrainSettings",
    "check",
    "setting_of",
]

#: The model that ships, and that every command takes unless told otherwise.
DEFAULT_MODEL = "scannet-pcam"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a form or the command line has to know of one field.

    Attributes
    ----------
    help
        One sentence for a person: what it does, and why one would change it.
    unit
        Unit of the number, empty where it has none.
    minimum, maximum
        Inclusive range; ``None`` where it is open.
    choices
        The values allowed; empty where any in the range is.
    """

    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()


def _setting(default: Any, help: str, **extra: Any) -> Any:
    return field(default=default, metadata={"setting": Setting(help, **extra)})


def setting_of(group: type, name: str) -> tuple[Any, Setting]:
    """Return the default and the metadata of field ``name`` of a settings group.

    Raises
    ------
    SettingsError
        If the group has no such setting.
    """
    for candidate in fields(group):
        if candidate.name == name and candidate.default is not MISSING:
            return candidate.default, candidate.metadata["setting"]
    raise SettingsError(f"expected a setting of {group.__name__}, got {name!r}; see its fields")


def check(group: Any) -> None:
    """Check every value of a settings group against its range.

    Raises
    ------
    SettingsError
        Naming the first setting out of range, its range and its value.
    """
    for candidate in fields(group):
        meta: Setting | None = candidate.metadata.get("setting")
        value = getattr(group, candidate.name)
        if meta is None or value is None:
            continue
        name = candidate.name.replace("_", "-")
        if meta.choices and value not in meta.choices:
            choices = ", ".join(map(str, meta.choices))
            raise SettingsError(f"expected {name} to be one of {choices}, got {value!r}; choose one of them")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        low = -math.inf if meta.minimum is None else meta.minimum
        high = math.inf if meta.maximum is None else meta.maximum
        # Written so that NaN, which compares false with everything, is refused as well.
        if not low <= value <= high:
            unit = f" {meta.unit}" if meta.unit else ""
            raise SettingsError(
                f"expected {name} between {low:g} and {high:g}{unit}, got {value:g}; choose a value in that range"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSettings:
    """How slides are opened."""

    thumbnail_px: int = _setting(
        1024,
        "Longest side of the coarsest level; napari reads that level whole and keeps it.",
        unit="px",
        minimum=64,
        maximum=4096,
    )
    chunk_px: int = _setting(
        512,
        "Side of a dask chunk: the tile size of most scanners; smaller chunks make a large slide slow to open.",
        unit="px",
        minimum=128,
        maximum=4096,
    )
    cache_mib: int = _setting(
        96,
        "Decoded tiles kept for neighbouring reads: what overlapping pieces of a scan share, without filling memory.",
        unit="MiB",
        minimum=0,
        maximum=65536,
    )

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PyramidSettings:
    """How slides are written."""

    tile_px: int = _setting(
        512, "Side of a tile; a multiple of 16, as TIFF wants it.", unit="px", minimum=16, maximum=4096
    )
    compression: str = _setting(
        "jpeg", "How tiles are stored; all but jpeg keep every pixel.", choices=("jpeg", "lzw", "deflate", "none")
    )
    quality: int = _setting(
        85, "Of JPEG; scanners use 70 to 90, and below it blocks begin to look like texture.", minimum=1, maximum=100
    )

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TissueSettings:
    """How tissue is told from glass (Otsu 1979, as Lin et al. 2019, II-C, use it)."""

    mpp: float = _setting(
        16.0,
        "Resolution of the low-power image that Otsu's threshold is taken on.",
        unit="µm/px",
        minimum=1.0,
        maximum=64.0,
    )
    margin_um: float = _setting(
        64.0,
        "Tissue is grown by this much, so that a metastasis at its very edge is scanned.",
        unit="µm",
        minimum=0.0,
        maximum=1000.0,
    )
    min_object_um: float = _setting(
        120.0,
        "Specks of a smaller diameter are dust, not tissue.",
        unit="µm",
        minimum=0.0,
        maximum=2000.0,
    )

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """How a slide is scanned."""

    dense_coefficient: int = _setting(
        2,
        "How much denser than the network's own stride the answers lie (α of Lin et al. 2019); 2 costs a tenth more.",
        choices=(1, 2, 4, 8, 16, 32),
    )
    augment_views: int = _setting(
        1,
        "Views averaged for each answer: 8 takes every right-angle rotation and its mirror image, at 8 times the cost.",
        choices=(1, 8),
    )
    tissue_only: bool = _setting(True, "Skip glass; switch off where the tissue mask is wrong.")
    device: str = _setting("auto", "Where the network runs: auto, cpu, cuda, cuda:n or mps.")
    precision: str = _setting(
        "auto",
        "Number format of the network; auto measures once which is fastest and accurate enough on this machine.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    engine: str = _setting(
        "auto",
        "Program that runs the network; auto measures once which is faster on this machine.",
        choices=("auto", "torch", "openvino"),
    )
    roi_px: int = _setting(
        0,
        "Side of one piece of the scan in model pixels, 0 for a measured one; bounds memory and changes no answer.",
        unit="px",
        minimum=0,
        maximum=16384,
    )
    threads: int = _setting(2, "Threads that read and decode ahead of the network.", minimum=1, maximum=64)
    queue_rois: int = _setting(
        4, "Pieces that may wait between reading and the network; bounds memory.", minimum=1, maximum=64
    )

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionSettings:
    """How lesions are read off a heatmap."""

    threshold: float = _setting(
        0.5,
        "Probability from which a cell counts as tumour (Lin et al. 2019, II-C).",
        minimum=0.01,
        maximum=1.0,
    )
    floor: float = _setting(
        0.1,
        "Lowest threshold that the slider reaches; lesions are prepared once down to it.",
        minimum=0.01,
        maximum=0.99,
    )
    nms_radius_um: float = _setting(
        75.0,
        "Detections closer than this to a stronger one are dropped; 75 µm is the challenge's own merging distance.",
        unit="µm",
        minimum=0.0,
        maximum=5000.0,
    )
    opening_um: float = _setting(
        31.0,
        "Side of the square of the morphological opening that removes outlying cells, 0 for none; a single tumour cell "
        "answers over 31 µm, the centre that the labels of the training patches speak of.",
        unit="µm",
        minimum=0.0,
        maximum=1000.0,
    )

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How a patch classifier is trained."""

    epochs: int = _setting(14, "Passes over the training patches.", minimum=1, maximum=1000)
    batch_size: int = _setting(128, "Patches in one optimiser step.", minimum=2, maximum=8192)
    learning_rate: float = _setting(4e-3, "Peak of the one-cycle schedule of AdamW.", minimum=1e-6, maximum=1.0)
    weight_decay: float = _setting(0.05, "AdamW's decoupled weight decay.", minimum=0.0, maximum=1.0)
    label_smoothing: float = _setting(
        0.02, "Share of the label spread over both classes; keeps probabilities honest.", minimum=0.0, maximum=0.5
    )
    ema_decay: float = _setting(
        0.998,
        "Decay per step of the exponential average of the weights, which is what is kept.",
        minimum=0.0,
        maximum=0.99999,
    )
    seed: int = _setting(2016, "Seed of every random choice.", minimum=0, maximum=2**31 - 1)
    device: str = _setting("auto", "Where training runs: auto, cpu, cuda, cuda:n or mps.")
    precision: str = _setting(
        "auto",
        "Number format of training; auto takes bfloat16 where the hardware multiplies it faster.",
        choices=("auto", "float32", "bfloat16"),
    )

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSettings:
    """What a synthetic lymph-node slide shows; the defaults are the sample slide's."""

    seed: int = _setting(
        2016, "Seed of the whole slide; another seed gives another patient.", minimum=0, maximum=2**31 - 1
    )
    width_px: int = _setting(14336, "Width of level 0.", unit="px", minimum=512, maximum=400_000)
    height_px: int = _setting(10752, "Height of level 0.", unit="px", minimum=512, maximum=400_000)
    mpp: float = _setting(
        0.486, "Resolution of level 0: level 1 of CAMELYON16's slides.", unit="µm/px", minimum=0.2, maximum=1.0
    )
    nodes: int = _setting(1, "Lymph nodes on the slide.", minimum=1, maximum=40)
    node_mm: float = _setting(
        4.1,
        "Length of a node; a node that the slide has no room for is made smaller.",
        unit="mm",
        minimum=0.2,
        maximum=20.0,
    )
    macro: int = _setting(1, "Macro-metastases: over 2 mm.", minimum=0, maximum=20)
    micro: int = _setting(3, "Micro-metastases: over 0.2 mm and up to 2 mm.", minimum=0, maximum=200)
    itc: int = _setting(4, "Clusters of isolated tumour cells: up to 0.2 mm.", minimum=0, maximum=500)
    stain: str = _setting(
        "rose",
        "Colours: rose or violet, after CAMELYON16's two hospitals; auto lets the seed choose.",
        choices=("auto", "rose", "violet"),
    )
    stain_variation: float = _setting(
        1.0,
        "How far the slide's stain and light may lie from its hospital's mean; 0 is the mean itself.",
        minimum=0,
        maximum=3,
    )
    grade: float = _setting(
        0.5,
        "How unlike normal cells tumour cells are: 0 small and even, 1 large, pleomorphic, with prominent nucleoli.",
        minimum=0.0,
        maximum=1.0,
    )
    fat_mm: float = _setting(0.5, "Width of the fat around a node.", unit="mm", minimum=0.0, maximum=5.0)
    blurred_areas: int = _setting(2, "Areas out of focus.", minimum=0, maximum=100)
    pen_marks: int = _setting(2, "Strokes of a pen, beside tissue and over it.", minimum=0, maximum=50)
    folds: int = _setting(1, "Folds of the section, which look twice as dark.", minimum=0, maximum=50)
    tears: int = _setting(1, "Tears of the section.", minimum=0, maximum=50)
    dust: int = _setting(40, "Specks of dust on the cover slip.", minimum=0, maximum=10_000)
    jpeg_quality: int = _setting(
        70, "Quality of the stored tiles; 70 keeps the sample under 20 MB.", minimum=30, maximum=100
    )

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check(self)
