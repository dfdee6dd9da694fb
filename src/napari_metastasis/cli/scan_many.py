"""``scan`` of many slides: one progress for all, what became of each, and those that failed."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_metastasis.cli.cluster import opened_cluster
from napari_metastasis.cli.console import note, say, say_json, say_table, show_slides, stop_on_interrupt
from napari_metastasis.errors import ScanCancelledError
from napari_metastasis.settings import ClusterSettings
from napari_metastasis.slide_address import SlidePath
from napari_metastasis.workflows.scan_job import ScanJob

if TYPE_CHECKING:
    from napari_metastasis.workflows.engine_cache import EngineCache
    from napari_metastasis.workflows.report import SlideSummary

__all__ = ["scan_many"]


def scan_many(
    paths: list[SlidePath],
    job: ScanJob,
    engines: EngineCache,
    *,
    cluster: ClusterSettings,
    picture: bool,
    as_json: bool,
) -> None:
    """Scan all slides that paths stand for, and print a table of them, or one JSON object.

    Parameters
    ----------
    paths
        Slides, folders of slides, and lists of slides.
    job
        How they are scanned. Its output is the folder of their results; without one, results lie beside the slides.
    engines
        Of the command; closed when everything is said.
    cluster
        Who scans, where that is not this process.
    picture
        Whether to draw each slide.
    as_json
        Whether to print ``slides`` and ``failed`` as JSON, and nothing else.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C stopped it; what was answered until then is stored.
    typer.Exit
        With status 1, if a slide failed.
    """
    from napari_metastasis.workflows.report import SummaryFiles, find_slides, scan_slides

    slides = find_slides(paths, mpp=job.mpp, swap_red_blue=job.swap_red_blue)
    summary = SummaryFiles(Path.cwd() if job.output is None else job.output)
    done: dict[SlidePath, SlideSummary] = {}
    found: dict[SlidePath, dict[str, Any]] = {}
    count = f"{len(slides)} {'slide' if len(slides) == 1 else 'slides'}"
    try:
        with ExitStack() as opened:
            should_stop = opened.enter_context(stop_on_interrupt())
            scanner = opened.enter_context(opened_cluster(cluster, job.scan, should_stop))
            progress = opened.enter_context(show_slides(f"Scanning {count}"))
            scans = scan_slides(
                slides, job, output=job.output, summary=summary, picture=picture,
                engines=engines, scanner=scanner, progress=progress, should_stop=should_stop,
            )  # fmt: skip
            for row, values in opened.enter_context(closing(scans)):
                done[row.slide] = row
                # Lesions of a thousand slides are millions.
                if as_json and not row.error:
                    found[row.slide] = values
    except ScanCancelledError:
        raise KeyboardInterrupt from None
    # Several workers do not keep the order.
    rows = [done[slide.path] for slide in slides]
    failed = [row for row in rows if row.error]
    if as_json:
        in_order = [found[row.slide] for row in rows if not row.error]
        say_json({"slides": in_order, "failed": [{"slide": str(row.slide), "error": row.error} for row in failed]})
    else:
        _say_slides(rows)
        say(f"Results: {'beside each slide' if job.output is None else job.output}")
        say(f"Summary: {summary.table}")
        say(f"Index: {summary.index}")
    for row in failed:
        note(f"{row.slide} failed: {row.error}")
    if failed:
        raise typer.Exit(1)


def _say_slides(rows: list[SlideSummary]) -> None:
    from napari_metastasis.lesions import SIZE_CLASSES

    say_table(
        ("slide", "scanned", "verdict", *SIZE_CLASSES, "largest mm", "score"),
        [
            (
                row.slide.name,
                row.state if row.error or row.result is None else row.result.coverage.short,
                "" if row.result is None else row.result.verdict.short,
                *("" if row.counts is None else str(row.counts[key]) for key in SIZE_CLASSES),
                "" if row.result is None else row.result.largest_text,
                "" if row.result is None else row.result.score_text,
            )
            for row in rows
        ],
    )
