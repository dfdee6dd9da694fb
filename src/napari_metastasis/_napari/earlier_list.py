"""What a list says of the earlier results of a slide: when, how much, and wherein each differs from the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari_metastasis.tasks import pass_tasks

if TYPE_CHECKING:
    from napari_metastasis.workflows.scan import EarlierScan

__all__ = ["earlier_hint", "earlier_texts"]

#: What findings of a pass are, by its task.
_PASSES = {"refine": "fewer false alarms", "segment": "exact outlines"}
#: Characters of a hash that are shown.
_HASH = 6


def _weights(scan: EarlierScan) -> str:
    return f"weights {str(scan.identity.get('weights_sha256', ''))[:_HASH]}"


def _passes(scan: EarlierScan) -> str:
    tasks = {task.writes: task for task in pass_tasks()}
    parts = []
    for name, share in scan.shown.shares.items():
        task = tasks.get(name)
        said = name if task is None else _PASSES.get(task.name, name)
        if share == 1:
            parts.append(said)
        elif task is not None and task.settings is not None and task.settings.stands_alone():
            parts.append(f"{said} switched off")
        else:
            parts.append(f"{said} by {share:.0%}".replace("%", " %"))
    return ", ".join(parts)


def _detail(scan: EarlierScan) -> str:
    return f"an answer every {scan.cell_um:.3g}\N{NO-BREAK SPACE}µm"


def _accuracy(scan: EarlierScan) -> str:
    views = scan.identity.get("augment_views")
    return "fast" if views == 1 else f"thorough ({views} views)"


def _stain(scan: EarlierScan) -> str:
    read_as = scan.identity.get("input")
    if isinstance(read_as, list) and "normalised" in read_as:
        return "in the dyes of a reference"
    return "stain as dense as in training" if "stain" in scan.identity else "stain as it is"


def _precision(scan: EarlierScan) -> str:
    return str(scan.identity.get("precision"))


def _threshold(scan: EarlierScan) -> str:
    return f"from probability {scan.shown.threshold:.2f}"


#: What results may differ in, the first that a person looks for first.
_FACTS: tuple[Callable[[EarlierScan], str], ...] = (
    lambda scan: scan.model_name,
    _weights,
    _passes,
    _detail,
    _accuracy,
    _stain,
    _precision,
    _threshold,
)


def earlier_texts(scans: Sequence[EarlierScan]) -> tuple[str, ...]:
    """Return what a list says of each result: "28 Nov 14:03, 36 % of the tissue", and wherein it differs.

    Parameters
    ----------
    scans
        All that are listed.
    """
    said = [[fact(scan) for fact in _FACTS] for scan in scans]
    same = [len({facts[at] for facts in said}) <= 1 for at in range(len(_FACTS))]
    texts = []
    for scan, facts in zip(scans, said, strict=True):
        own = [fact for fact, is_same in zip(facts, same, strict=True) if not is_same]
        texts.append(", ".join(filter(None, (scan.when_text, scan.coverage_text, *own))))
    return tuple(texts)


def earlier_hint(scan: EarlierScan) -> str:
    """Return all that is known of a result, a line each."""
    facts = (fact(scan) for fact in _FACTS)
    return "\n".join(filter(None, (scan.when_text, scan.coverage_text, *facts, str(scan.folder))))
