"""A scan as one value, and the events of its run: what commands, the window, cohorts and clusters share.

Light: nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from napari_metastasis.geometry import Point, Region
from napari_metastasis.settings import DEFAULT_MODEL, DetectionSettings, PassSettings, ScanSettings, TissueSettings
from napari_metastasis.slide_address import SlidePath

if TYPE_CHECKING:
    from napari_metastasis.annotations import Annotation
    from napari_metastasis.scanning import AnsweredMap, SlidePart
    from napari_metastasis.slides import Slide, TissueMask
    from napari_metastasis.workflows.engine_cache import EngineCache

__all__ = ["AtHand", "PassRequest", "ScanJob", "ScanStarted", "Stage"]

_Settings = TypeVar("_Settings", bound=PassSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRequest:
    """Whether and how a pass is made after the scan.

    Attributes
    ----------
    task
        Its task.
    settings
        Its options, which say whether it is wanted.
    model
        Name or path of its model; empty for the one that goes with the detector.
    """

    task: str
    settings: PassSettings
    model: str = ""

    @property
    def concerns_scan(self) -> bool:
        """Return whether the scan makes the pass, or keeps what it would read."""
        return self.settings.wanted or self.settings.keeps_features


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanJob:
    """Everything about one scan. Frozen and picklable.

    Attributes
    ----------
    slide
        The file, the folder with the DICOM files of one, or its address.
    mpp
        µm per level-0 pixel; ``None`` takes what the slide states.
    swap_red_blue
        Whether the file holds red and blue in each other's place.
    model
        Name or path of the detector, or of a model that reads a detector's features and stands for both.
    passes
        The passes that may follow the scan, in order; none by default.
    detects
        Whether the detector answers; without, only the passes are made that read pixels, or what earlier scans left.
    region
        Level-0 pixels; ``None`` for the whole slide. Around it as much is scanned as passes read there.
    outlines
        Areas in the region, only inside which mitoses are looked for; none for all of it.
    focus
        Level-0 location to begin at; ``None`` for the middle.
    scan, tissue, detection
        How the slide is scanned, how tissue is told from glass, and how lesions are read off the maps.
    output
        Result folder; ``None`` for the one beside the slide. Where that holds a heatmap of other settings, the results
        go to a folder inside.
    csv_header
        Whether ``detections.csv`` begins with the names of its columns, which CAMELYON16's own scripts do not expect.
    part
        The part of the slide that is scanned, for another scan to take; ``None`` for the slide.
    """

    slide: SlidePath
    mpp: float | None = None
    swap_red_blue: bool = False
    model: str = DEFAULT_MODEL
    passes: tuple[PassRequest, ...] = ()
    detects: bool = True
    region: Region | None = None
    outlines: tuple[Annotation, ...] = ()
    focus: Point | None = None
    scan: ScanSettings = field(default_factory=ScanSettings)
    tissue: TissueSettings = field(default_factory=TissueSettings)
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    output: Path | None = None
    csv_header: bool = False
    part: SlidePart | None = None

    @property
    def wanted_passes(self) -> tuple[PassRequest, ...]:
        """Return the passes that are made, in their order."""
        return tuple(one for one in self.passes if one.settings.wanted)

    def settings_of(self, kind: type[_Settings]) -> _Settings | None:
        """Return the options of a kind of pass that is made; ``None`` where none is."""
        return next((one.settings for one in self.wanted_passes if isinstance(one.settings, kind)), None)

    @property
    def reads_lesions(self) -> bool:
        """Return whether lesions are read anew from what it writes: not where it only looks for mitoses."""
        return self.detects or any(one.settings.SHARE for one in self.wanted_passes)

    @property
    def needed_tasks(self) -> tuple[str, ...]:
        """Return the tasks whose models the scan needs."""
        return tuple(one.task for one in self.passes if one.concerns_scan)

    @property
    def named_models(self) -> dict[str, str]:
        """Return the names of models that were given, by task."""
        return {one.task: one.model for one in self.passes if one.model}

    def inside(self, outlines: Iterable[Annotation]) -> ScanJob:
        """Return the same scan of the rectangle around areas; mitoses are looked for in these alone."""
        import shapely

        areas = tuple(outlines)
        left, top, right, bottom = shapely.total_bounds([one.outline_px for one in areas]).tolist()
        x, y = math.floor(left), math.floor(top)
        return replace(self, region=Region(x, y, math.ceil(right) - x, math.ceil(bottom) - y), outlines=areas)

    def on(self, slide: SlidePath, *, mpp: float | None, swap_red_blue: bool, output: Path) -> ScanJob:
        """Return the same scan of another slide."""
        asked = replace(self, region=None, outlines=(), focus=None)
        return replace(asked, slide=slide, mpp=mpp, swap_red_blue=swap_red_blue, output=output)


@dataclass(frozen=True, slots=True, kw_only=True)
class AtHand:
    """What a scan finds ready. It stays open when the scan ends.

    Attributes
    ----------
    slide
        The open slide of the job.
    engines
        Models and engines of earlier scans.
    tissue
        The slide's tissue, found or being found with the settings of the job.
    """

    slide: Slide | None = None
    engines: EngineCache | None = None
    tissue: Future[TissueMask | None] | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """What the scan does now, in one short line."""

    text: str


@dataclass(frozen=True, slots=True)
class ScanStarted:
    """A scan is about to run.

    Attributes
    ----------
    maps
        Every map that lesions may be read from as earlier scans left it: the scan's own first.
    mitoses
        The map of mitoses; ``None`` where they are not looked for.
    mitosis_threshold
        Probability from which its peaks will count.
    mitosis_model
        Name of the model that answers in it; empty where there is none.
    folder
        The result folder.
    model_name
        Of the detector.
    engine
        What runs the network, for a person.
    tissue
        Where the slide holds tissue.
    model_px
        Model pixels to be answered.
    threshold
        Probability from which cells will count as tumour.
    own_thresholds
        The same of single maps, by their names, where it depends on which one lesions are read from.
    told
        What a person has to know of the results, a line each.
    """

    maps: tuple[AnsweredMap, ...]
    mitoses: AnsweredMap | None
    mitosis_threshold: float
    mitosis_model: str
    folder: Path
    model_name: str
    engine: str
    tissue: TissueMask
    model_px: int
    threshold: float
    own_thresholds: Mapping[str, float]
    told: tuple[str, ...]
