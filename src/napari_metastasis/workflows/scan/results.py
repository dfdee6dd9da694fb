"""The result folder: detections, lesions and the record of how they were found."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.errors import StorageError, StorageWarning
from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, repeat_blocks
from napari_metastasis.lesions import (
    SIZE_CLASSES,
    Detections,
    Lesion,
    LesionIndex,
    Mitoses,
    SlideVerdict,
    listed,
    review_counts,
    review_text,
)
from napari_metastasis.scanning import (
    AnsweredMap,
    BoolArray,
    Coverage,
    FloatArray,
    MapKind,
    MapStore,
    answerable_cells,
    unanswered_cells,
)
from napari_metastasis.slide_address import SlidePath
from napari_metastasis.slides.naming import slide_name
from napari_metastasis.storage import READ_ONLY, with_option
from napari_metastasis.workflows.scan.listed_findings import list_findings
from napari_metastasis.workflows.scan.mitoses import FoundMitoses, mitoses_of
from napari_metastasis.workflows.scan.mitosis_results import write_mitoses
from napari_metastasis.workflows.scan.prepared import PreparedScan
from napari_metastasis.workflows.scan.record import (
    coverage_json,
    has_mitoses,
    other_mitoses,
    record_of_mitoses,
    record_of_scan,
)
from napari_metastasis.workflows.scan.result_files import one_writer, write_findings, write_record
from napari_metastasis.workflows.scan.result_folder import journals_of, record_of
from napari_metastasis.workflows.scan.shown import Shown

__all__ = ["ScanResult", "write_results"]


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scan found.

    Attributes
    ----------
    slide
        The slide that was scanned.
    output
        The result folder.
    slide_score
        Highest probability that detections are read from; ``None`` where nothing was scanned.
    coverage
        How much of the tissue it answers for: everything that the heatmap holds, also from earlier scans.
    threshold
        Probability from which cells count as tumour.
    lesions, detections
        At the threshold, on everything that the heatmap holds. Lesions say what people made of them, and outlines of
        people stand behind; detections are the model's.
    told
        What has to be said of these besides, a line each.
    tissue_fraction
        Share of the slide that is tissue.
    seconds
        Time spent scanning, without preparing and writing results.
    mpx_per_s
        Model pixels answered per second, in millions; 0 where nothing was left to scan.
    work_px
        Work that was left when it began: model pixels to scan, and a share of them for each later pass; 0 where
        earlier scans had done everything.
    finished
        Whether every cell that was asked for is answered, by every pass.
    partly
        What later passes left out of the tissue that the scan answered, a line each.
    found_mitoses
        At their own threshold, on everything that their map holds; ``None`` where they were not looked for.
    read
        The kind of map that they are read from.
    answered
        Its values, of which only chunks with answers are held.
    frame
        Where its cells lie.
    """

    slide: SlidePath
    output: Path
    slide_score: float | None
    coverage: Coverage
    threshold: float
    lesions: tuple[Lesion, ...]
    told: tuple[str, ...]
    detections: Detections
    tissue_fraction: float
    seconds: float
    mpx_per_s: float
    work_px: int
    finished: bool
    partly: tuple[str, ...]
    found_mitoses: FoundMitoses | None
    read: MapKind
    answered: ChunkedCells = field(repr=False, compare=False)
    frame: HeatmapFrame = field(repr=False)

    @property
    def mitoses(self) -> Mitoses | None:
        """Return the mitoses with what people said of them; ``None`` where they were not looked for."""
        return None if self.found_mitoses is None else self.found_mitoses.mitoses

    @property
    def counts(self) -> dict[str, int]:
        """Return how many lesions that count there are of each size class, the smallest first."""
        return {name: sum(one.size_class == name and one.counts for one in self.lesions) for name in SIZE_CLASSES}

    @property
    def verdict(self) -> SlideVerdict:
        """Return the verdict on the slide by its lesions: what it is at least, where it was not scanned in full."""
        return listed.verdict(slide_name(self.slide), self.lesions, whole=self.coverage.whole, why=self.coverage.state)

    @property
    def probabilities(self) -> FloatArray:
        """Return what detections are read from, of every cell of the slide.

        float32, (rows, columns), NaN where nothing was scanned; made anew at each call.
        """
        return self.answered.whole()

    def summary(self) -> dict[str, Any]:
        """Return what ``scan --json`` prints: plain values."""
        return {
            "slide": str(self.slide),
            "output": str(self.output),
            "verdict": self.verdict.to_json(),
            "slide_score": None if self.slide_score is None else round(self.slide_score, 6),
            "threshold": self.threshold,
            "coverage": coverage_json(self),
            "counts": self.counts,
            "lesions": [_lesion_json(lesion) for lesion in self.lesions],
            "review": {
                "text": review_text(self.lesions),
                "counts": review_counts(self.lesions),
                "notes": list(self.told),
            },
            "mitoses": None if self.mitoses is None else _mitoses_json(self.mitoses),
            "tissue_fraction": round(self.tissue_fraction, 6),
            "seconds": round(self.seconds, 3),
            "mpx_per_s": round(self.mpx_per_s, 3),
            "finished": self.finished,
            "notes": list(self.partly),
        }


def _lesion_json(lesion: Lesion) -> dict[str, Any]:
    return {
        "id": lesion.id if lesion.id >= 0 else lesion.number,
        "x": round(lesion.x, 2),
        "y": round(lesion.y, 2),
        "probability": None if lesion.probability is None else round(lesion.probability, 6),
        "area_mm2": round(lesion.area_mm2, 6),
        "length_mm": round(lesion.length_mm, 4),
        "size_class": lesion.size_class,
        "cut_by_edge": lesion.cut_by_edge,
        "nuclei_estimated": lesion.nuclei,
        "size_class_by": lesion.size_class_by,
        "review": None if lesion.review is None else lesion.review.told,
        "look_again": lesion.review is not None and not lesion.review.is_clear,
        "counted": lesion.counts,
    }


def _mitoses_json(mitoses: Mitoses) -> dict[str, Any]:
    """Return mitoses as ``--json`` prints them: with every point."""
    rows = zip(mitoses.xy.tolist(), mitoses.probability.tolist(), mitoses.reviews, strict=True)
    points = [
        {
            "x": round(x, 2),
            "y": round(y, 2),
            "probability": None if math.isnan(sure) else round(sure, 6),
            "review": review.told,
            "counted": review.counts,
        }
        for (x, y), sure, review in rows
    ]
    return {**mitoses.to_json(), "points": points}


def _tissue_answered(store: MapStore, scanned: ChunkedCells, frame: HeatmapFrame, tissue: BoolArray) -> int:
    """Return in how many cells of the scan that hold tissue both the scan and a later map have an answer."""
    done, block = store.done, frame.block_in(store.frame)
    return sum(
        int(np.count_nonzero(tissue[cells.slices] & ~np.isnan(values) & repeat_blocks(done, block, cells)))
        for cells, values in scanned
    )


def _partly(maps: Mapping[str, int], coverage: Coverage) -> tuple[str, ...]:
    """Return what has to be said of later maps that end before the scan does."""
    return tuple(
        f"{name.capitalize()}: {Coverage(coverage.tissue_cells, cells).percent} of the tissue; elsewhere the scan's "
        "own answers count"
        for name, cells in maps.items()
        if cells < coverage.answered_cells
    )


def _segmented_partly(prepared: PreparedScan, maps: Sequence[AnsweredMap], seen: AnsweredMap) -> tuple[str, ...]:
    """Return what has to be said of maps that lesions would be read from, if these answered for as much as the scan."""
    told = []
    for one in maps:
        if one.kind.stands_alone and prepared.shares[one.kind.name] > 0 and one.kind.name != seen.kind.name:
            covered = Coverage.of(one.cells, answerable_cells(prepared.tissue, one.frame, one.cells))
            if not covered.tissue_cells:
                continue
            told.append(
                f"{one.kind.name.capitalize()}: {covered.percent or '0 %'} of the tissue; findings are read from the "
                f"{seen.kind.name} map until it answers for as much as the scan"
            )
    return tuple(told)


def write_results(prepared: PreparedScan, *, seconds: float, model_px: int, work_px: int) -> ScanResult:
    """Finish the maps and write ``detections.csv``, ``lesions.csv``, ``lesions.geojson`` and ``run.json``.

    Parameters
    ----------
    prepared
        The scan, at its end or stopped.
    seconds
        Time spent scanning.
    model_px
        Model pixels answered in that time.
    work_px
        Work that was left when it began; see :class:`ScanResult`.

    Raises
    ------
    StorageError
        If the disk refuses; each file is whole or as it was.

    Warns
    -----
    StorageWarning
        If the disk is read-only, and there was nothing left to scan: what an earlier scan found is returned.
    """
    maps = prepared.maps()
    own, seen = maps[0].cells, prepared.seen(maps)
    probabilities, detection = seen.cells, prepared.detection_of(seen.kind)
    tissue = answerable_cells(prepared.tissue, seen.frame, probabilities)
    index = LesionIndex(
        probabilities,
        seen.frame,
        detection,
        map=seen.kind.name,
        unanswered=unanswered_cells(tissue, probabilities),
    )
    found, slide = index.at(detection.threshold), prepared.slide
    findings = list_findings(
        prepared.folder,
        found.lesions,
        bounds=slide.bounds,
        size=slide.size,
        mpp=slide.mpp,
        nuclei_per_mm2=detection.nuclei_per_mm2,
    )
    kept, coverage = prepared.plan.kept, Coverage.of(probabilities, tissue)
    # Where later maps have no answer, the blend has the scan's.
    of_scan = answerable_cells(prepared.tissue, prepared.frame, own) if seen.kind.stands_alone else tissue
    later = {
        one.store.kind.name: _tissue_answered(one.store, own, prepared.frame, of_scan)
        for one in prepared.passes
        if one.store.kind.is_probability and not one.store.kind.stands_alone
    }
    answered = sum(int(np.count_nonzero(kept[cells.slices] & ~np.isnan(values))) for cells, values in own)
    result = ScanResult(
        slide=prepared.job.slide,
        output=prepared.folder,
        slide_score=float(found.slide_score) if math.isfinite(found.slide_score) else None,
        coverage=coverage,
        threshold=detection.threshold,
        lesions=findings.lesions,
        told=findings.notes,
        detections=found.detections,
        tissue_fraction=prepared.tissue.fraction,
        seconds=seconds,
        mpx_per_s=model_px / 1e6 / seconds if seconds > 0 else 0.0,
        work_px=work_px,
        finished=prepared.passes_finished and answered == int(np.count_nonzero(kept)),
        partly=(
            *_partly(later, Coverage.of(own, of_scan)),
            *_segmented_partly(prepared, maps, seen),
            *other_mitoses(prepared),
        ),
        found_mitoses=mitoses_of(prepared, maps),
        read=seen.kind,
        answered=probabilities,
        frame=seen.frame,
    )
    try:
        shown = Shown(detection.threshold, prepared.shares, seen.kind.name)
        _write_files(prepared, result, shown, later, model_px=model_px)
    except StorageError as error:
        if prepared.model_px or error.errno not in READ_ONLY:
            raise
        told = f"{with_option(error)}; what was found there before is shown, and nothing is written"
        warnings.warn(told, StorageWarning, stacklevel=2)
    return result


def _write_files(
    prepared: PreparedScan, result: ScanResult, shown: Shown, later: Mapping[str, int], *, model_px: int
) -> None:
    """Write everything; ``later`` is from :func:`_tissue_answered`, by the names of maps."""
    prepared.finish()
    folder, csv_header = prepared.folder, prepared.job.csv_header
    with one_writer(folder):
        before, known_as, bounds = record_of(folder), prepared.heatmap.identity["slide"], prepared.slide.bounds
        if result.mitoses is not None and not result.mitoses.searched_mm2 and has_mitoses(before):
            # Stopped before it looked for any: what was found there stays.
            result = replace(result, found_mitoses=None)
        if result.mitoses is not None:
            write_mitoses(folder, result.mitoses, known_as=known_as, bounds=bounds)
        files = {"csv_header": csv_header, "journals": journals_of(folder)}
        if not prepared.job.detects and isinstance(before, dict) and not result.read.stands_alone:
            # No lesion is read anew: what a scan found there stays.
            if result.mitoses is not None:
                write_record(folder, record_of_mitoses(before, prepared, result, files=files, model_px=model_px))
            return
        # Empty tables would say that there is no lesion, where nobody looked for any.
        if prepared.job.detects or result.coverage.answered_cells:
            write_findings(
                folder,
                detections=result.detections,
                lesions=result.lesions,
                csv_header=csv_header,
                known_as=known_as,
                bounds=bounds,
            )
        write_record(folder, record_of_scan(before, prepared, result, shown, later, files=files, model_px=model_px))
