"""A summary over many slides: ``summary.csv``, and ``index.html`` with a link to each slide's report."""

from __future__ import annotations

import csv
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

from napari_metastasis import __version__
from napari_metastasis.errors import StorageError
from napari_metastasis.lesions import SIZE_CLASSES, MitosisCount, SizeClass, SlideVerdict
from napari_metastasis.pages import page
from napari_metastasis.slide_address import SlidePath
from napari_metastasis.storage import atomic_text, plain_cell, storage_errors
from napari_metastasis.workflows.dates import moment_text
from napari_metastasis.workflows.report.drawing import without_footer
from napari_metastasis.workflows.report.page import picture_data
from napari_metastasis.workflows.report.result import ReportedCoverage, ReportedResult
from napari_metastasis.workflows.report.write import WrittenReport

__all__ = ["SlideSummary", "SummaryFiles", "SummedResult"]

_COLUMNS = (
    "slide", "state", "coverage", "verdict", *SIZE_CLASSES, "largest_mm", "largest_cut_by_edge", "slide_score",
    "seconds", "model", "result", "error", "review", "mitoses", "mitoses_per_mm2", "mitoses_in_hot_spot",
    "mitoses_searched_mm2",
)  # fmt: skip
#: Small, since an index may hold a thousand.
_THUMBNAIL_PX, _THUMBNAIL_BYTES = 160, 12_000
#: What every index begins with; nothing else of this name is written over.
_OURS = b'<meta name="generator" content="napari-metastasis">'
_HEAD_BYTES = 1 << 10
_FAILED, _WAITING = "failed", "not scanned yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class SummedResult:
    """What a summary says of a result: no lesions, of which a thousand slides have millions.

    Attributes
    ----------
    folder, slide_name, coverage, verdict, counts, slide_score, score_text, largest_text, is_cut, seconds, review_text
        As :class:`~.result.ReportedResult` has them.
    largest_mm
        Length of the longest lesion; ``None`` where there is none.
    models
        Names of the models that have a share in it.
    mitoses
        How many there are; ``None`` where nobody looked for them.
    """

    folder: Path
    slide_name: str
    coverage: ReportedCoverage
    verdict: SlideVerdict
    counts: Mapping[SizeClass, int]
    largest_mm: float | None
    largest_text: str
    is_cut: bool
    slide_score: float | None
    score_text: str
    seconds: float
    review_text: str
    models: tuple[str, ...]
    mitoses: MitosisCount | None

    @classmethod
    def of(cls, result: ReportedResult) -> SummedResult:
        """Return what is kept of a result."""
        return cls(
            folder=result.folder,
            slide_name=result.slide_name,
            coverage=result.coverage,
            verdict=result.verdict,
            counts=result.counts,
            largest_mm=result.largest_mm,
            largest_text=result.largest_text,
            is_cut=result.is_cut,
            slide_score=result.slide_score,
            score_text=result.score_text,
            seconds=result.seconds,
            review_text=result.review_text,
            models=tuple(one.name for one in result.models if one.share != 0),
            mitoses=result.mitoses,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSummary:
    """One slide of many.

    Attributes
    ----------
    slide
        Its path.
    result
        What was found; ``None`` where nothing was yet, or the slide failed.
    report
        Its report; ``None`` where there is none.
    thumbnail
        A small picture, as an address that holds it; empty where there is none.
    error
        Why it failed, in one line; empty where it did not.
    """

    slide: SlidePath
    result: SummedResult | None = None
    report: Path | None = None
    thumbnail: str = ""
    error: str = ""

    @classmethod
    def of(cls, slide: SlidePath, written: WrittenReport) -> SlideSummary:
        """Return the summary of a slide whose report was written."""
        # Too small for scale bar and legend.
        thumbnail = "" if written.overview is None else _thumbnail(without_footer(written.overview))
        return cls(slide=slide, result=SummedResult.of(written.result), report=written.path, thumbnail=thumbnail)

    @property
    def state(self) -> str:
        """Return what became of it, in a few words: how much of its tissue was scanned."""
        if self.error:
            return _FAILED
        return _WAITING if self.result is None else self.result.coverage.state

    @property
    def kind(self) -> str:
        """Return what became of it, in one word: "failed", "waiting", "whole", "empty" (no tissue) or "partial"."""
        if self.error:
            return "failed"
        if self.result is None:
            return "waiting"
        coverage = self.result.coverage
        return "whole" if coverage.whole else "empty" if coverage.without_tissue else "partial"

    @property
    def counts(self) -> Mapping[SizeClass, int] | None:
        """Return the number of its lesions of each class; ``None`` where it was not scanned."""
        return None if self.result is None else self.result.counts

    def cells(self) -> tuple[object, ...]:
        """Return its row of the table."""
        found, counts = self.result, self.counts or {}
        share = None if found is None else found.coverage.share
        score = None if found is None else found.slide_score
        largest = None if found is None else found.largest_mm
        return (
            plain_cell(str(self.slide)),
            self.state,
            "" if share is None else f"{share:.6f}",
            "" if found is None else found.verdict.short,
            *(counts.get(key, "") for key in SIZE_CLASSES),
            "" if largest is None else f"{largest:.4f}",
            "" if largest is None or found is None else int(found.is_cut),
            "" if score is None else f"{score:.6f}",
            "" if found is None else f"{found.seconds:.1f}",
            "" if found is None else plain_cell(", ".join(found.models)),
            "" if found is None else plain_cell(str(found.folder)),
            plain_cell(self.error),
            "" if found is None else found.review_text,
            *_mitosis_cells(None if found is None else found.mitoses),
        )


def _mitosis_cells(found: MitosisCount | None) -> tuple[object, ...]:
    """Return how many mitoses there are, for each mm², where they are densest, and in how much tissue."""
    if found is None or found.per_mm2 is None:
        return ("",) * 4
    return (
        found.count,
        f"{found.per_mm2:.4f}",
        0 if found.spot is None else found.spot.count,
        f"{found.searched_mm2:.4f}",
    )


@dataclass(frozen=True, slots=True)
class SummaryFiles:
    """Where the summary of many slides is written.

    Attributes
    ----------
    folder
        The folder.
    """

    folder: Path

    @property
    def table(self) -> Path:
        """Return where the table lies."""
        return self.folder / "summary.csv"

    @property
    def index(self) -> Path:
        """Return where the index over the reports lies."""
        return self.folder / "index.html"

    def check(self) -> None:
        """See, before anything is scanned, that the summary can be written, and over no file of somebody else's.

        Raises
        ------
        StorageError
            If a file of one of these names is there that this program did not write, or the disk takes none.
        """
        with storage_errors(self.table):
            there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
            # Tried out: rights say nothing of read-only disks.
            with tempfile.TemporaryFile(dir=there):
                pass
        head = ",".join(_COLUMNS[:3]).encode()
        for path, begins in ((self.table, head), (self.index, _OURS)):
            with storage_errors(path):
                if not path.exists():
                    continue
                with path.open("rb") as file:
                    start = file.read(_HEAD_BYTES)
            if begins not in start:
                raise StorageError(
                    f"expected no {path.name} or one of an earlier scan of many slides in {self.folder}, got another; "
                    "move it away, or choose another folder with --output"
                )

    def write(self, rows: Sequence[SlideSummary], *, now: datetime | None = None) -> None:
        """Write both files, each whole or not at all.

        Parameters
        ----------
        rows
            Every slide, also those that are not scanned yet.
        now
            The date on the index; today's by default.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_text(self.table) as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(_COLUMNS)
            table.writerows(row.cells() for row in rows)
        html = self._html(rows, now or datetime.now().astimezone())
        with atomic_text(self.index) as file:
            file.write(html)

    def _html(self, rows: Sequence[SlideSummary], now: datetime) -> str:
        # Each slide counts once: one whose report failed was scanned, and is looked after first all the same.
        kinds = Counter(row.kind for row in rows)
        whole, partly, empty, failed = (kinds[kind] for kind in ("whole", "partial", "empty", "failed"))
        told = [f"{whole} of {len(rows)} slides wholly scanned"]
        told += [f"{partly} in part, or not known how far"] if partly else []
        told += [f"{empty} without tissue"] if empty else []
        told += [f"{failed} failed"] if failed else []
        return page(
            "napari_metastasis.workflows.report",
            "slides.html.j2",
            title=f"{len(rows)} slides",
            told=f"{', '.join(told)}.",
            written=moment_text(now),
            version=__version__,
            classes=[style.short for style in SIZE_CLASSES.values()],
            rows=[self._row(row) for row in rows],
        )

    def _row(self, row: SlideSummary) -> dict[str, object]:
        found, counts = row.result, row.counts
        return {
            "thumbnail": row.thumbnail,
            "name": row.slide.name if found is None else found.slide_name,
            "path": str(row.slide),
            "link": "" if row.report is None else self._link(row.report),
            "state": row.state[:1].upper() + row.state[1:],
            "kind": row.kind,
            "verdict": "" if found is None else found.verdict.label,
            "review": "" if found is None else found.verdict.review,
            "error": row.error,
            "counts": ["" if counts is None else counts[key] for key in SIZE_CLASSES],
            "largest": "" if found is None else found.largest_text,
            "score": "" if found is None else found.score_text,
        }

    def _link(self, report: Path) -> str:
        """Return the address of a report, relative to the index where they share a disk: both may be moved."""
        report = report.resolve()
        try:
            return quote(Path(os.path.relpath(report, self.folder.resolve())).as_posix(), errors="surrogateescape")
        except ValueError:
            return report.as_uri()


def _thumbnail(picture: npt.NDArray[np.uint8]) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    return picture_data(np.asarray(image), most_bytes=_THUMBNAIL_BYTES)
