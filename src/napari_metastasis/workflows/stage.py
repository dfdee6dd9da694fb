"""Stages patients: from tables of nodes and slides, from result folders, from CAMELYON17's table."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_metastasis.cohorts.stages import node_of, stages_of_rows
from napari_metastasis.errors import StagingError, StorageError, brief
from napari_metastasis.lesions import VERDICTS, PatientStage, SlideVerdict, Verdict, stage_patient
from napari_metastasis.plain_csv import CsvRow, read_csv
from napari_metastasis.storage import text_of_cell
from napari_metastasis.workflows.report import find_results, read_result

__all__ = ["StagedPatients", "result_verdict", "stage_patients"]

_NEEDED = ("patient", "node")
_COLUMNS = (*_NEEDED, "slide", "verdict", "result")
#: CAMELYON17's patients have so many nodes, from 0 on.
_CAMELYON17_NODES = 5
_CAMELYON17_PATIENT = re.compile(r"patient_\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A slide, and whose it is."""

    patient: str
    node: str
    verdict: SlideVerdict


@dataclass(frozen=True, slots=True)
class StagedPatients:
    """The stages of patients.

    Attributes
    ----------
    patients
        In the order in which they are named first.
    notes
        What has to be known of them, a line each.
    """

    patients: tuple[PatientStage, ...]
    notes: tuple[str, ...]

    @property
    def open(self) -> tuple[PatientStage, ...]:
        """Return the patients whose stage cannot be told."""
        return tuple(one for one in self.patients if one.stage is None)


def stage_patients(paths: Sequence[Path]) -> StagedPatients:
    """Return the stages of the patients that tables and result folders speak of.

    Parameters
    ----------
    paths
        Each a CSV file of ``patient,node,slide,verdict`` or ``…,result``, CAMELYON17's table of ``patient,stage``, a
        result folder of a slide called ``PATIENT_node_N``, or a folder with such result folders. Of several slides of a
        node, the worst counts.

    Raises
    ------
    StagingError
        If a table is not understood, a slide is listed twice, or nobody says whose it is.
    """
    listed: dict[tuple[str, str, str], _Listed] = {}
    stated: dict[str, str] = {}
    for path in paths:
        for one in _from_table(path, stated) if _is_table(path) else _from_results(path):
            key = (one.patient, one.node, one.verdict.slide)
            if key in listed:
                raise StagingError(
                    f"expected each slide once, got {one.verdict.slide} of {one.patient}, node {one.node}, twice, the "
                    f"second time in {path}; remove one, or name the slides apart"
                )
            listed[key] = one
    if not listed:
        raise StagingError(
            f"expected slides of patients in {', '.join(map(str, paths))}, got none; give the verdict on each node"
        )
    nodes: dict[str, dict[str, list[SlideVerdict]]] = {}
    for one in listed.values():
        nodes.setdefault(one.patient, {}).setdefault(one.node, []).append(one.verdict)
    patients = tuple(stage_patient(patient, slides) for patient, slides in nodes.items())
    notes = [note for one in patients for note in (*one.notes, *_doubts(one, stated.get(one.patient)))]
    notes += [
        f"{name}: stated as {stage}, without a slide; not staged" for name, stage in stated.items() if name not in nodes
    ]
    return StagedPatients(patients, tuple(notes))


def _doubts(patient: PatientStage, stated: str | None) -> Iterator[str]:
    """Yield what a table of CAMELYON17's says of a patient that its slides do not."""
    if stated is None:
        return
    if patient.stage is not None and patient.stage != stated:
        yield f"{patient.patient}: stated as {stated}, {patient.stage} by its slides"
    missing = [str(node) for node in range(_CAMELYON17_NODES) if str(node) not in {one.node for one in patient.nodes}]
    if missing and _CAMELYON17_PATIENT.fullmatch(patient.patient):
        yield f"{patient.patient}: no slide of node {', '.join(missing)}, and CAMELYON17's patients have five"


def result_verdict(folder: Path, slide: str = "") -> SlideVerdict:
    """Return the verdict on a slide by its result folder; nothing is known of a slide whose result cannot be read.

    A slide of which a part was scanned, or it is not known how much, is not whole.

    Parameters
    ----------
    folder
        That ``scan`` wrote.
    slide
        What the slide is called; by default as the result says.
    """
    try:
        result = read_result(folder)
    except StorageError as error:
        return SlideVerdict(slide=slide or folder.stem, verdict=None, whole=False, why=str(error))
    return replace(result.verdict, slide=slide) if slide else result.verdict


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and not os.path.isdir(path)


def _from_results(path: Path) -> Iterator[_Listed]:
    """Yield the slides whose results lie at a place, by their names."""
    found = find_results(path)
    if not found:
        got = f"{path}, which holds no result" if os.path.isdir(path) else f"{path}, which is none"
        raise StagingError(
            f"expected a table (.csv), a result folder or a folder of such, got {got}; give the folder that 'scan' "
            "wrote"
        )
    for folder in found:
        verdict = result_verdict(folder)
        named = node_of(verdict.slide)
        if named is None:
            raise StagingError(
                f"expected a slide called PATIENT_node_N, got {verdict.slide} in {folder}; list it in a CSV file of "
                "patient,node,slide,result"
            )
        yield _Listed(*named, verdict)


def _from_table(path: Path, stated: dict[str, str]) -> Iterable[_Listed]:
    """Return the slides of a table; stages that it states go into ``stated``."""
    try:
        rows = read_csv(path)
    except OSError as error:
        raise StagingError(f"expected a table of slides, got {path} ({error.strerror}); check the path") from error
    except ValueError as error:
        raise StagingError(f"expected a table of slides in {path}, got {error}; correct it") from error
    names = [cell.strip().casefold() for cell in rows[0].cells] if rows else []
    if set(_NEEDED) <= set(names) and {"verdict", "result"} & set(names):
        return [_row(dict(zip(names, row.cells, strict=False)), row, names, path) for row in rows[1:]]
    if not rows or set(names) & {"node", "verdict", "result", "slide"}:
        got = brief(",".join(names)) if rows else "an empty table"
        raise StagingError(
            f"expected a first line of patient,node and verdict or result (and, if wanted, slide) in {path}, got "
            f"{got}; name the columns"
        )
    table = stages_of_rows(rows, path)
    stated.update(table.patients)
    return list(_of_camelyon17(table.slides, path))


def _of_camelyon17(slides: Mapping[str, Verdict], path: Path) -> Iterator[_Listed]:
    for slide, verdict in slides.items():
        named = node_of(slide)
        if named is None:
            raise StagingError(
                f"expected a slide called PATIENT_node_N, got {brief(slide)} in {path}; list it in a CSV file of "
                "patient,node,slide,verdict"
            )
        yield _Listed(*named, SlideVerdict(slide=slide, verdict=verdict))


def _row(cells: dict[str, str], row: CsvRow, names: list[str], path: Path) -> _Listed:
    """Return what a row of a table says of a slide."""
    where = f"line {row.line} of {path}"
    unknown = [name for name in names if name not in _COLUMNS]
    if unknown or len(row.cells) != len(names):
        raise StagingError(
            f"expected the columns {', '.join(_COLUMNS)} alone, with a cell each, got "
            f"{brief(','.join(unknown or row.cells))} in {where}; correct the table"
        )
    held = {name: text_of_cell(cell.strip()) for name, cell in cells.items()}
    patient, node = held["patient"], held["node"]
    if not patient or not node:
        raise StagingError(f"expected a patient and a node, got {brief(','.join(row.cells))} in {where}; fill them in")
    said, result = held.get("verdict", "").casefold(), held.get("result", "")
    slide = held.get("slide") or (Path(result).stem if result else f"{patient}_node_{node}")
    if said and result:
        raise StagingError(f"expected a verdict or a result, got both in {where}; leave one empty")
    if said and said not in VERDICTS:
        raise StagingError(
            f"expected one of {', '.join(VERDICTS)} as the verdict, got {brief(held['verdict'])} in {where}; "
            "correct it, or leave it empty where it is not known"
        )
    if result:
        folder = path.parent / result
        return _Listed(patient, node, result_verdict(folder, held.get("slide", "")))
    if said:
        return _Listed(patient, node, SlideVerdict(slide=slide, verdict=said))
    return _Listed(patient, node, SlideVerdict(slide=slide, verdict=None, whole=False, why="no verdict"))
