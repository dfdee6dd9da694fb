"""CAMELYON17's table of stages: ``patient_004.zip,pN1`` for patients, ``patient_004_node_2.tif,itc`` for slides."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_metastasis.errors import StagingError, brief
from napari_metastasis.lesions import STAGES, VERDICTS, PatientStage, Stage, Verdict
from napari_metastasis.plain_csv import CsvRow, read_csv
from napari_metastasis.storage import atomic_text, plain_cell, text_of_cell

__all__ = ["HEADER", "StageTable", "node_of", "read_stages", "stages_of_rows", "write_stages"]

#: First line of the challenge's tables; theirs may lack it.
HEADER = ("patient", "stage")
_SUFFIX = re.compile(r"\.(zip|tiff?|svs|ndpi|mrxs|scn|vms|vmu|bif|svslide|dcm)$", re.IGNORECASE)
_SLIDE = re.compile(r"(.+)_node_([^_]+)$", re.IGNORECASE)
_STAGES = {stage.casefold(): stage for stage in STAGES}
_VERDICTS = {verdict: verdict for verdict in VERDICTS}


@dataclass(frozen=True, slots=True)
class StageTable:
    """What a table says of patients and slides, in its order.

    Attributes
    ----------
    patients
        The stage of each patient that has a line, by name.
    slides
        The verdict on each slide, by name.
    """

    patients: Mapping[str, Stage]
    slides: Mapping[str, Verdict]


def node_of(slide: str) -> tuple[str, str] | None:
    """Return the patient and the node that a slide's name states: ``patient_004_node_2``; ``None`` if it does not."""
    match = _SLIDE.fullmatch(slide)
    return None if match is None else (match[1], match[2])


def read_stages(path: str | os.PathLike[str]) -> StageTable:
    """Read a table of stages, of a challenge's truth or of a submission.

    Raises
    ------
    StagingError
        If it cannot be read, or a line is not understood, or stands there twice.
    """
    try:
        rows = read_csv(path)
    except OSError as error:
        raise StagingError(f"expected a table of stages, got {path} ({error.strerror}); check the path") from error
    except ValueError as error:
        raise StagingError(f"expected a table of stages in {path}, got {error}; correct it") from error
    return stages_of_rows(rows, path)


def stages_of_rows(rows: Iterable[CsvRow], path: str | os.PathLike[str]) -> StageTable:
    """Return what the rows of a table of stages say; see :func:`read_stages`."""
    patients: dict[str, Stage] = {}
    slides: dict[str, Verdict] = {}
    for number, row in enumerate(rows):
        cells = [cell.strip() for cell in row.cells]
        if number == 0 and tuple(cell.casefold() for cell in cells[:2]) == HEADER:
            continue
        if len(cells) < 2 or any(cells[2:]):
            raise StagingError(
                f"expected a patient or a slide, a comma, and its stage in line {row.line} of {path}, got "
                f"{brief(','.join(cells))}; correct the line, or let 'stage --output' make such a table of "
                "patient,node,verdict"
            )
        name, said = _SUFFIX.sub("", text_of_cell(cells[0])), cells[1].casefold()
        if name in patients or name in slides:
            raise _refused(path, row, "each patient and slide once", f"{name} a second time")
        if said in _STAGES:
            patients[name] = _STAGES[said]
        elif said in _VERDICTS:
            slides[name] = said
        else:
            raise _refused(path, row, f"one of {', '.join((*STAGES, *VERDICTS))}", cells[1])
    if not patients and not slides:
        raise StagingError(
            f"expected lines such as patient_004.zip,pN1 or patient_004_node_2.tif,itc in {path}, got none; choose a "
            "table of stages"
        )
    return StageTable(patients, slides)


def _refused(path: str | os.PathLike[str], row: CsvRow, expected: str, got: str) -> StagingError:
    return StagingError(f"expected {expected} in line {row.line} of {path}, got {brief(got)}; correct the line")


def write_stages(path: str | os.PathLike[str], patients: Iterable[PatientStage]) -> None:
    """Write the stages of patients as CAMELYON17 takes them: each patient, then the verdict on each of its nodes.

    A node that is open, without a say in the stage, has no line.

    Parameters
    ----------
    path
        File to write; an existing one is replaced.
    patients
        Each with a stage.

    Raises
    ------
    StagingError
        If one of them has none.
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    rows: list[tuple[str, str]] = []
    for one in patients:
        if one.stage is None:
            raise StagingError(
                f"expected patients whose stage is known for {Path(path).name}, got {one.patient} ({one.text}); "
                "leave it out"
            )
        rows.append((f"{one.patient}.zip", one.stage))
        rows += [
            (f"{one.patient}_node_{node.node}.tif", node.verdict)
            for node in one.nodes
            if node.settled and node.verdict is not None
        ]
    with atomic_text(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEADER)
        table.writerows((plain_cell(name), said) for name, said in rows)
