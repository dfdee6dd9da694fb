"""Many slides, one after the other: what hard negatives are mined from, and what a model is measured on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import CohortError, MetastasisError, ScanCancelledError, StorageError
from napari_metastasis.models import Model, Refiner
from napari_metastasis.scanning import choose_engine, never
from napari_metastasis.settings import NOT_REFINED, DetectionSettings, RefineSettings, ScanSettings, TissueSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.scan.results import ScanResult
from napari_metastasis.workflows.scan.scan_slide import scan_slide

__all__ = ["PARTS_OF_A_SLIDE", "FailedSlide", "ProgressBar", "ScannedSlide", "cohort_output", "in_parts", "scan_cohort"]

#: Progress over a cohort counts in these: how many pixels a slide holds is known only once its tissue was found.
PARTS_OF_A_SLIDE = 1000

#: Shows how far a step is: a title in, a function of (done, total) out, in parts of slides.
ProgressBar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True, slots=True)
class ScannedSlide:
    """A slide of a cohort, and what was found on it."""

    slide: CohortSlide
    result: ScanResult


@dataclass(frozen=True, slots=True)
class FailedSlide:
    """A slide that could not be scanned, and why, in one line."""

    slide: CohortSlide
    reason: str


def cohort_output(folder: Path, slide: CohortSlide) -> Path:
    """Return where the results of one slide lie in the result folder of a cohort."""
    return folder / f"{slide.name}.metastasis"


def in_parts(progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Return what tells a bar that counts parts of slides of whole ones."""
    return lambda done, total: progress(done * PARTS_OF_A_SLIDE, total * PARTS_OF_A_SLIDE)


def scan_cohort(
    slides: Sequence[CohortSlide],
    model: Model,
    *,
    scan: ScanSettings,
    tissue: TissueSettings,
    detection: DetectionSettings,
    refiner: Refiner | None = None,
    refine: RefineSettings = NOT_REFINED,
    output: Path,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = never,
) -> Generator[ScannedSlide | FailedSlide]:
    """Scan slides and yield each as it is done, so that no more than one heatmap is held at a time.

    A slide that was scanned before with the same settings is not scanned again; one that was begun goes on. One that
    cannot be scanned is yielded with its reason, and harms no other.

    Parameters
    ----------
    slides, model, scan, tissue, detection, refiner, refine
        What to scan, and how; see :func:`~napari_metastasis.workflows.scan.scan_slide`.
    output
        Folder that each slide gets its result folder in.
    progress
        Called with (done, total) in parts of slides, :data:`PARTS_OF_A_SLIDE` each.
    should_stop
        Asked several times a second.

    Raises
    ------
    CohortError
        If two slides share a name, and so would share their results.
    ScanCancelledError
        If ``should_stop`` said so; what was answered until then is stored.
    StorageError
        If the disk refuses: that is no slide's own fault.
    """
    twice = [name for name, count in Counter(slide.name for slide in slides).items() if count > 1]
    if twice:
        raise CohortError(f"expected slides of different names, got {twice[0]} twice; rename one of them")
    keeps = refiner if refine.encodes else None
    chosen = choose_engine(model, scan, refiner=keeps, should_stop=should_stop)
    try:
        for number, slide in enumerate(slides):

            def report(done: int, total: int, before: int = number) -> None:
                if progress is not None:
                    part = PARTS_OF_A_SLIDE if total == 0 else PARTS_OF_A_SLIDE * done // total
                    progress(before * PARTS_OF_A_SLIDE + part, len(slides) * PARTS_OF_A_SLIDE)

            try:
                with open_slide(slide.path, slide.mpp) as opened:
                    result = scan_slide(
                        opened,
                        model,
                        scan=scan,
                        tissue=tissue,
                        detection=detection,
                        refiner=refiner,
                        refine=refine,
                        output=cohort_output(output, slide),
                        chosen=chosen,
                        progress=report,
                        should_stop=should_stop,
                    )
            except (ScanCancelledError, StorageError):
                raise
            except (MetastasisError, OSError) as error:
                yield FailedSlide(slide, str(error))
                continue
            if should_stop() and not result.finished:
                raise ScanCancelledError(
                    f"expected to scan {len(slides)} slides, but was stopped in {slide.name}; "
                    "the same command goes on from there"
                )
            yield ScannedSlide(slide, result)
            # Its heatmap is not held while the next slide is scanned.
            del result
    finally:
        chosen.engine.close()
