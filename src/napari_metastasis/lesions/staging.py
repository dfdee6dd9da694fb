"""From lesions to slides, from slides to lymph nodes, from nodes to a patient's pN stage (AJCC, as CAMELYON17 has it).

What was not looked at may hold anything. A slide that is missing, or was scanned in part, leaves its node open unless a
macro-metastasis was found there, and a patient is staged only where the open nodes cannot change the stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from napari_metastasis.errors import StagingError
from napari_metastasis.lesions.size_classes import SIZE_CLASSES, SizeClass

__all__ = [
    "MOST_NODES",
    "STAGES",
    "VERDICTS",
    "NodeFinding",
    "PatientStage",
    "SlideVerdict",
    "Stage",
    "Verdict",
    "slide_verdict",
    "stage_of",
    "stage_patient",
]

Verdict = Literal["negative", "itc", "micro", "macro"]
Stage = Literal["pN0", "pN0(i+)", "pN1mi", "pN1", "pN2"]

#: From the best to the worst.
VERDICTS: tuple[Verdict, ...] = ("negative", *SIZE_CLASSES)
STAGES: tuple[Stage, ...] = ("pN0", "pN0(i+)", "pN1mi", "pN1", "pN2")
#: Nodes with metastasis up to which a patient with a macro-metastasis is pN1, and up to which pN2. CAMELYON17's rule
#: says nothing of more; AJCC's pN3 also asks for where the nodes lie, which no slide tells.
_PN1_NODES, MOST_NODES = 3, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideVerdict:
    """What is known of a slide.

    Attributes
    ----------
    slide
        Its name.
    verdict
        The worst that was found on it; ``None`` where nothing is known of it.
    whole
        Whether all of its tissue was looked at.
    why
        What is lacking, in a few words; empty where it is whole.
    review
        What people changed of what a model found, in a few words; empty where they did not.
    """

    slide: str
    verdict: Verdict | None
    whole: bool = True
    why: str = ""
    review: str = ""

    @property
    def settled(self) -> bool:
        """Return whether nothing that was not looked at can change the verdict."""
        return self.verdict is not None and (self.whole or self.verdict == VERDICTS[-1])

    @property
    def short(self) -> str:
        """Return the verdict in tables: "micro", or what it is at least: "at least micro", "negative so far"."""
        return _said(self.verdict, settled=self.settled)

    @property
    def label(self) -> str:
        """Return the same in a pathologist's words: "At least micro-metastasis"."""
        names: dict[Verdict, str] = {key: style.label.lower() for key, style in SIZE_CLASSES.items()}
        said = _said(self.verdict, settled=self.settled, names=names)
        return said[:1].upper() + said[1:]

    @property
    def text(self) -> str:
        """Return the verdict for a person, with what is lacking: "negative so far (36 % of the tissue scanned)".

        What people changed is told, too: "micro (1 rejected, not counted)".
        """
        told = "; ".join(filter(None, (self.why, self.review)))
        return f"{self.short} ({told})" if told else self.short

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; ``settled`` is false where the verdict is what it is at least."""
        return {
            "slide": self.slide,
            "verdict": self.verdict,
            "settled": self.settled,
            "whole": self.whole,
            "why": self.why,
            "review": self.review,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFinding:
    """What is known of a lymph node: the worst of its slides.

    Attributes
    ----------
    node
        Its name.
    slides
        Its slides, at least one.
    """

    node: str
    slides: tuple[SlideVerdict, ...]

    @property
    def verdict(self) -> Verdict | None:
        """Return the worst that was found in it; ``None`` where nothing is known of any slide."""
        known = [VERDICTS.index(slide.verdict) for slide in self.slides if slide.verdict is not None]
        return VERDICTS[max(known)] if known else None

    @property
    def settled(self) -> bool:
        """Return whether nothing that was not looked at can change the verdict."""
        return self.verdict == VERDICTS[-1] or all(slide.settled for slide in self.slides)

    @property
    def text(self) -> str:
        """Return the verdict for a person: "at least micro" where a slide is open."""
        return _said(self.verdict, settled=self.settled)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientStage:
    """The stage of a patient, as far as the slides tell it.

    Attributes
    ----------
    patient
        The patient's name.
    nodes
        The lymph nodes, in the order given.
    at_least, at_most
        The stage if what was not looked at holds nothing, and if it holds macro-metastases; ``None`` where more nodes
        have metastases than the rule speaks of.
    """

    patient: str
    nodes: tuple[NodeFinding, ...]
    at_least: Stage | None
    at_most: Stage | None

    @property
    def stage(self) -> Stage | None:
        """Return the stage; ``None`` where it cannot be told."""
        return self.at_least if self.at_least == self.at_most else None

    @property
    def text(self) -> str:
        """Return the stage for a person."""
        if self.at_least is None:
            return f"beyond {STAGES[-1]}"
        if all(node.verdict is None for node in self.nodes):
            return "not known"
        return self.at_least if self.stage is not None else f"at least {self.at_least}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what has to be known of the stage, a line each: what is open, and what the rule does not say."""
        lines = [
            f"{self.patient}: node {node.node}, slide {slide.slide}: {slide.text}"
            for node in self.nodes
            for slide in node.slides
            if not slide.whole or slide.verdict is None or slide.review
        ]
        if self.at_least is None:
            count = _metastatic([node.verdict or "negative" for node in self.nodes])
            lines.append(f"{self.patient}: {_too_many(count)}")
        elif self.stage is None:
            most = f"may be {self.at_most}" if self.at_most else f"may be beyond {STAGES[-1]}"
            lines.append(f"{self.patient}: {self.text}, {most}; scan what is open to know")
        return tuple(lines)


def _said(verdict: Verdict | None, *, settled: bool, names: Mapping[Verdict, str] | None = None) -> str:
    """Return a verdict in words; one that what was not looked at may change as a lower bound."""
    if verdict is None:
        return "not known"
    name = (names or {}).get(verdict, verdict)
    if settled:
        return name
    return f"{name} so far" if verdict == VERDICTS[0] else f"at least {name}"


def slide_verdict(slide: str, found: Iterable[SizeClass], *, whole: bool, why: str = "") -> SlideVerdict:
    """Return the verdict on a slide by the classes of its lesions.

    Parameters
    ----------
    slide
        Its name.
    found
        The class of each lesion.
    whole
        Whether all of its tissue was looked at.
    why
        What is lacking, where it was not: "36 % of the tissue scanned". It may begin with a capital.
    """
    worst = max((VERDICTS.index(one) for one in found), default=0)
    # For the middle of a sentence.
    lacking = why[:1].lower() + why[1:]
    return SlideVerdict(slide=slide, verdict=VERDICTS[worst], whole=whole, why="" if whole else lacking)


def _metastatic(nodes: Sequence[Verdict]) -> int:
    """Return how many nodes have a metastasis: isolated tumour cells are none."""
    return sum(node in ("micro", "macro") for node in nodes)


def _too_many(count: int) -> str:
    return (
        f"expected up to {MOST_NODES} nodes with metastasis beside a macro-metastasis, got {count}, of which "
        "CAMELYON17's rule says nothing; stage this patient by hand (AJCC: pN3)"
    )


def stage_of(nodes: Sequence[Verdict]) -> Stage:
    """Return the stage of a patient by the verdict on each lymph node.

    pN0 without tumour; pN0(i+) with isolated tumour cells alone; pN1mi with micro-metastases but no macro-metastasis;
    with a macro-metastasis pN1 for one to three nodes with metastasis, pN2 for four to nine.

    Parameters
    ----------
    nodes
        At least one.

    Raises
    ------
    StagingError
        If there is no node, or the rule says nothing of so many.
    """
    if not nodes:
        raise StagingError("expected a verdict on at least one lymph node, got none; add the patient's nodes")
    metastatic = _metastatic(nodes)
    if "macro" in nodes:
        if metastatic > MOST_NODES:
            raise StagingError(_too_many(metastatic))
        return "pN1" if metastatic <= _PN1_NODES else "pN2"
    if metastatic:
        return "pN1mi"
    return "pN0(i+)" if "itc" in nodes else "pN0"


def stage_patient(patient: str, slides: Mapping[str, Sequence[SlideVerdict]]) -> PatientStage:
    """Return the stage of a patient.

    Parameters
    ----------
    patient
        The patient's name.
    slides
        By the name of the lymph node, what is known of each of its slides: the worst one counts.

    Raises
    ------
    StagingError
        If there is no node, or one without a slide.
    """
    if not slides or not all(slides.values()):
        raise StagingError(
            f"expected lymph nodes with at least one slide each of {patient}, got {len(slides)} nodes, "
            f"{sum(not each for each in slides.values())} of them without; add the patient's slides"
        )
    nodes = tuple(NodeFinding(node=node, slides=tuple(each)) for node, each in slides.items())
    least: list[Verdict] = [node.verdict or "negative" for node in nodes]
    most: list[Verdict] = [known if node.settled else "macro" for node, known in zip(nodes, least, strict=True)]
    return PatientStage(patient=patient, nodes=nodes, at_least=_told(least), at_most=_told(most))


def _told(nodes: Sequence[Verdict]) -> Stage | None:
    """Return the stage, or ``None`` where the rule says nothing of so many nodes."""
    return None if "macro" in nodes and _metastatic(nodes) > MOST_NODES else stage_of(nodes)
