"""``stage``: the pN stage of patients, from verdicts on their slides or from results of scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_metastasis.cli.console import note, say, say_json, say_table
from napari_metastasis.storage import check_new

if TYPE_CHECKING:
    from napari_metastasis.lesions import NodeFinding, PatientStage

__all__ = ["stage"]

_INPUTS = typer.Argument(
    help="CSV files of patient,node,slide and verdict (negative, itc, micro, macro) or result (a result folder); "
    "CAMELYON17's patient,stage; result folders of slides called PATIENT_node_N, or folders that hold such."
)
_OUTPUT = typer.Option(
    help="CSV file to write as CAMELYON17 takes it: patient_004.zip,pN1 and patient_004_node_2.tif,itc."
)


def stage(
    inputs: Annotated[list[Path], _INPUTS],
    output: Annotated[Path | None, _OUTPUT] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Stage patients by their lymph nodes: pN0, pN0(i+), pN1mi, pN1 or pN2.

    Of several slides of a node, the worst counts. A patient is staged only where slides that are missing, or were
    scanned in part, cannot change the stage.
    """
    from napari_metastasis.cohorts.stages import write_stages
    from napari_metastasis.workflows.stage import stage_patients

    if output is not None:
        check_new(output, overwrite=overwrite)
    staged = stage_patients(inputs)
    if output is not None:
        write_stages(output, [one for one in staged.patients if one.stage is not None])
    if as_json:
        say_json({"patients": [_patient_json(one) for one in staged.patients], "notes": list(staged.notes)})
    else:
        say_table(("patient", "stage", "nodes"), [(one.patient, one.text, _nodes(one)) for one in staged.patients])
        if output is not None:
            say(f"Stages: {output}")
    for line in staged.notes:
        note(line)
    if staged.open:
        left_out = "" if output is None else f", and left out of {output}"
        note(
            f"expected every patient to be staged, got {len(staged.open)} of {len(staged.patients)} that cannot be"
            f"{left_out}; see above"
        )
        raise typer.Exit(1)


def _nodes(patient: PatientStage) -> str:
    return ", ".join(f"{node.node} {node.text}" for node in patient.nodes)


def _patient_json(patient: PatientStage) -> dict[str, Any]:
    return {
        "patient": patient.patient,
        "stage": patient.stage,
        "at_least": patient.at_least,
        "at_most": patient.at_most,
        "nodes": [_node_json(node) for node in patient.nodes],
    }


def _node_json(node: NodeFinding) -> dict[str, Any]:
    return {
        "node": node.node,
        "verdict": node.verdict,
        "settled": node.settled,
        "slides": [one.to_json() for one in node.slides],
    }
