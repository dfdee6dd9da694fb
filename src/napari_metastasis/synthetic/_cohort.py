"""Seeded cohorts of synthetic slides in CAMELYON16's layout, to train and measure on."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_metastasis.annotations import write_asap_xml
from napari_metastasis.errors import StorageError
from napari_metastasis.lesions import SizeClass
from napari_metastasis.settings import CohortSampleSettings, SyntheticSettings
from napari_metastasis.slides import write_pyramid
from napari_metastasis.stopping import held_back, let_through, stop_signals
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.synthetic._layout import plan_layout
from napari_metastasis.synthetic._slide import CHUNK_PX, DRAWING, SyntheticSlide

__all__ = ["CohortPlan", "PlannedSlide", "make_cohort", "plan_cohort"]

Split = Literal["train", "validation", "test"]
Kind = SizeClass | Literal["normal"]

#: Above every number of CAMELYON16's own slides, some of which are known to be flawed and treated so by their names.
_FIRST_NUMBER = 1001
#: File that states what was drawn; a folder with another one is left alone.
_RECORD = "synthetic-cohort.json"
_COLUMNS = ("slide", "annotation", "split", "patient", "node")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSlide:
    """One slide of a cohort: what it shows, and where its files lie.

    Attributes
    ----------
    name
        As CAMELYON16 names slides, with numbers that it does not have.
    kind
        Its largest metastasis, or ``normal``.
    split
        What it is for.
    patient
        Its patient, for the tables.
    slide, annotation
        Paths relative to the cohort's folder, with forward slashes; a normal slide has no annotation.
    settings
        What is drawn.
    """

    name: str
    kind: Kind
    split: Split
    patient: str
    slide: str
    annotation: str | None
    settings: SyntheticSettings


@dataclass(frozen=True, slots=True)
class CohortPlan:
    """All slides of a cohort, and the settings that they follow from."""

    settings: CohortSampleSettings
    slides: tuple[PlannedSlide, ...]

    @property
    def record(self) -> dict[str, Any]:
        """Return what decides every pixel of the cohort."""
        settings = self.settings.told()
        # How many are drawn at once decides none of them.
        del settings["processes"]
        return {"drawing": DRAWING, "settings": settings}


def plan_cohort(settings: CohortSampleSettings) -> CohortPlan:
    """Return which slides a cohort has, without drawing any.

    In every split normal slides and the kinds of metastases have their shares, as nearly as whole slides allow.
    """
    tests = round(settings.slides * settings.test_share)
    validations = round(settings.slides * settings.validation_share)
    sizes: tuple[tuple[Split, int], ...] = (
        ("train", settings.slides - tests - validations),
        ("validation", validations),
        ("test", tests),
    )
    slides: list[PlannedSlide] = []
    numbers = {"normal": _FIRST_NUMBER, "tumor": _FIRST_NUMBER, "test": _FIRST_NUMBER}
    for split, count in sizes:
        for kind in _kinds(settings, count):
            group = "test" if split == "test" else "normal" if kind == "normal" else "tumor"
            name = f"{group}_{numbers[group]}"
            numbers[group] += 1
            part = "testing" if split == "test" else "training"
            slides.append(
                PlannedSlide(
                    name=name,
                    kind=kind,
                    split=split,
                    patient=f"patient_{len(slides) + 1:04d}",
                    slide=f"{part}/{'images' if split == 'test' else group}/{name}.tif",
                    annotation=None if kind == "normal" else f"{part}/lesion_annotations/{name}.xml",
                    settings=_slide_settings(settings, len(slides), kind),
                )
            )
    return CohortPlan(settings, tuple(slides))


def _kinds(settings: CohortSampleSettings, count: int) -> list[Kind]:
    """Return the kinds of ``count`` slides of one split, both classes among them if there are two."""
    normal = round(count * settings.normal_share)
    if count >= 2:
        normal = min(max(normal, 1), count - 1)
    parts: dict[Kind, int] = {"micro": settings.micro, "macro": settings.macro, "itc": settings.itc}
    kinds: list[Kind] = ["normal"] * normal
    given = dict.fromkeys(parts, 0)
    # Each slide goes to the kind that lags most behind its share.
    for number in range(1, count - normal + 1):
        behind = {kind: number * parts[kind] / sum(parts.values()) - given[kind] for kind in parts}
        kind = max((kind for kind in parts if parts[kind]), key=lambda kind: behind[kind])
        given[kind] += 1
        kinds.append(kind)
    return kinds


def _slide_settings(settings: CohortSampleSettings, number: int, kind: Kind) -> SyntheticSettings:
    """Return what slide ``number`` shows: a patient, a laboratory and a preparation of its own."""
    rng = np.random.default_rng((settings.seed, number, 51))
    seed = int(rng.integers(2**31))
    room_mm = min(settings.width_px, settings.height_px) * settings.mpp / 1000
    # A macro-metastasis needs a node of 3 mm or so.
    node_mm = max(0.2, room_mm * (0.95 if kind == "macro" else rng.uniform(0.6, 0.9)))
    micro = {"macro": int(rng.integers(2)), "micro": int(rng.integers(1, 4))}.get(kind, 0)
    itc = {"normal": 0, "itc": int(rng.integers(1, 4))}.get(kind, int(rng.integers(3)))
    # What a small node has room for.
    micro, itc = min(micro, max(1, int(node_mm**2 / 1.8))), min(itc, max(1, int(node_mm**2)))
    return SyntheticSettings(
        seed=seed,
        width_px=settings.width_px,
        height_px=settings.height_px,
        mpp=settings.mpp,
        node_mm=min(node_mm, 20.0),
        macro=int(kind == "macro"),
        micro=micro,
        itc=itc,
        stain="auto",
        stain_variation=settings.stain_variation,
        grade=float(rng.uniform(0.05, 0.95)),
        mimics=settings.mimics * float(rng.uniform(0.3, 1.0)),
        # Of other generators: what the others draw stays.
        subtlety=settings.subtlety * float(np.random.default_rng((settings.seed, number, 52)).uniform(0.5, 1.0)),
        variety=settings.variety * float(np.random.default_rng((settings.seed, number, 53)).uniform(0.3, 1.0)),
        fat_mm=float(rng.uniform(0.05, 0.45)),
        blurred_areas=int(rng.integers(2)),
        pen_marks=int(rng.uniform() < 0.25),
        folds=int(rng.integers(2)),
        tears=int(rng.integers(2)),
        dust=int(rng.integers(20)),
        jpeg_quality=settings.jpeg_quality,
    )


def make_cohort(
    folder: str | os.PathLike[str],
    settings: CohortSampleSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> CohortPlan:
    """Draw a cohort into a folder, or what is missing of it.

    Slides and outlines lie as CAMELYON16's do; ``cohort.csv`` names them all with their splits, and is written last.
    A slide appears whole or not at all, so that an interrupted call is continued by repeating it.

    Parameters
    ----------
    folder
        Made where it does not exist.
    settings
        Of the cohort.
    progress
        Called with (slides there, slides in all).

    Returns
    -------
    plan
        What was drawn.

    Raises
    ------
    SettingsError
        If a slide has no room for what it should show.
    StorageError
        If the folder holds another cohort, or cannot be written.
    """
    root, plan = Path(folder), plan_cohort(settings)
    _claim(root, plan)
    missing = [slide for slide in plan.slides if not (root / slide.slide).is_file()]
    done = len(plan.slides) - len(missing)
    for slide in missing:
        # Fails now, not after an hour of drawing.
        plan_layout(slide.settings)
    if progress is not None:
        progress(done, len(plan.slides))
    for _ in _drawn(root, missing, settings.processes):
        done += 1
        if progress is not None:
            progress(done, len(plan.slides))
    _write_tables(root, plan)
    return plan


def _claim(root: Path, plan: CohortPlan) -> None:
    """Make the folders, and record what is drawn there.

    Raises
    ------
    StorageError
        If they hold, or may hold, something else.
    """
    record = root / _RECORD
    with storage_errors(record):
        known = record.read_text(encoding="utf-8") if record.is_file() else None
    if known is None:
        # The tables of real cohorts have the same names.
        ours = ["cohort.csv", *sorted({Path(slide.slide).parts[0] for slide in plan.slides})]
        there = next((root / name for name in ours if (root / name).exists()), None)
        if there is not None:
            raise StorageError(f"expected no cohort of others in {root}, got {there}; choose another folder")
    elif known != _text(plan):
        raise StorageError(
            f"expected the cohort in {root} to be of these settings, got another one ({record}); "
            "choose another folder, or the settings that it was drawn with"
        )
    for path in {Path(slide.slide).parent for slide in plan.slides} | {
        Path(slide.annotation).parent for slide in plan.slides if slide.annotation
    }:
        with storage_errors(root / path):
            (root / path).mkdir(parents=True, exist_ok=True)
    if known is None:
        with atomic_text(record) as file:
            file.write(_text(plan))


def _text(plan: CohortPlan) -> str:
    return json.dumps(plan.record, indent=2) + "\n"


def _drawn(root: Path, slides: list[PlannedSlide], processes: int) -> Iterator[None]:
    """Draw slides, and yield after each."""
    if processes == 1 or len(slides) < 2:
        for slide in slides:
            _draw(root, slide)
            yield
        return
    # Forked processes would inherit locks of threads that they do not have.
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    with ProcessPoolExecutor(min(processes, len(slides)), mp_context=context, initializer=_obey) as pool:
        # Ctrl-C reaches all processes of a terminal, also those that do not know yet what to do about it.
        with held_back():
            jobs = [pool.submit(_draw_in_process, root, slide) for slide in slides]
        try:
            for job in as_completed(jobs):
                job.result()
                yield
        except BaseException:
            # Or the slides that were begun would be drawn to their end, for minutes.
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _obey() -> None:
    """Let the process that began this one decide when it ends."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    let_through()


def _draw_in_process(root: Path, planned: PlannedSlide) -> None:
    """Draw one slide in a process that may be told to end: what is half drawn is cleared away first."""
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _draw(root, planned)
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)


def _draw(root: Path, planned: PlannedSlide) -> None:
    """Draw one slide. Its outlines come first: where the slide is, they are too."""
    slide = SyntheticSlide(planned.settings)
    if planned.annotation:
        write_asap_xml(root / planned.annotation, slide.annotations)
    write_pyramid(
        root / planned.slide,
        slide.read,
        mpp=slide.mpp,
        size=slide.size,
        tile_px=CHUNK_PX,
        quality=planned.settings.jpeg_quality,
    )


def _write_tables(root: Path, plan: CohortPlan) -> None:
    """Write CAMELYON16's table of the test slides, and the cohort file, unless they are there: they may be edited."""
    tests = [slide for slide in plan.slides if slide.split == "test"]
    reference, listed = root / "testing" / "reference.csv", root / "cohort.csv"
    if tests and not reference.exists():
        with atomic_text(reference) as file:
            rows = csv.writer(file, lineterminator="\n")
            for slide in tests:
                # Its columns: name, Normal or Tumor, histological type, size of the metastasis.
                size = {"macro": "Macro", "micro": "Micro", "itc": "ITC"}.get(slide.kind, "None")
                kind = ("Normal", "None") if slide.kind == "normal" else ("Tumor", "IDC")
                rows.writerow((slide.name, *kind, size))
    if listed.exists():
        return
    with atomic_text(listed) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for slide in plan.slides:
            rows.writerow((slide.slide, slide.annotation or "", slide.split, slide.patient, "1"))
