"""Slides that failed in a run: a journal that all its processes write, so that each slide is named once at the end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from napari_metastasis.plain_json import parse_json
from napari_metastasis.storage import storage_errors

__all__ = ["JOURNAL", "SlideFailure", "add_failure", "read_failures"]

#: File of a run folder that failures are added to.
JOURNAL = "failures.jsonl"


@dataclass(frozen=True, slots=True)
class SlideFailure:
    """A slide that patches could not be taken from, and why.

    Attributes
    ----------
    slide
        Its name.
    reason
        One line: what was expected, what came, what to do.
    """

    slide: str
    reason: str


def add_failure(journal: Path, failure: SlideFailure) -> None:
    """Add a failure to a journal, as a line of JSON.

    Raises
    ------
    StorageError
        If the journal cannot be written.
    """
    line = json.dumps({"slide": failure.slide, "reason": failure.reason}) + "\n"
    with storage_errors(journal), journal.open("ab", buffering=0) as file:
        # One write at the end of the file: lines of several processes do not mix.
        file.write(line.encode())


def read_failures(journal: Path) -> tuple[SlideFailure, ...]:
    """Return every failure in a journal, once for each slide; a line that a power cut tore is passed over.

    Raises
    ------
    StorageError
        If the journal cannot be read.
    """
    if not journal.exists():
        return ()
    with storage_errors(journal):
        lines = journal.read_bytes().splitlines()
    found: dict[str, SlideFailure] = {}
    for line in lines:
        try:
            values = parse_json(line)
            slide, reason = values["slide"], values["reason"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(slide, str) and isinstance(reason, str):
            found.setdefault(slide, SlideFailure(slide, reason))
    return tuple(found.values())
