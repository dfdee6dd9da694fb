"""From lesions to slides, nodes and the patient's stage: every line of the rule, and what was not looked at."""

from __future__ import annotations

import itertools

import pytest

from napari_metastasis.errors import StagingError
from napari_metastasis.lesions import (
    STAGES,
    VERDICTS,
    NodeFinding,
    SlideVerdict,
    slide_verdict,
    stage_of,
    stage_patient,
)


@pytest.mark.parametrize(
    ("nodes", "stage"),
    [
        (["negative"], "pN0"),
        (["negative"] * 10, "pN0"),
        (["itc"], "pN0(i+)"),
        (["itc"] * 10, "pN0(i+)"),
        (["negative", "itc"], "pN0(i+)"),
        (["micro"], "pN1mi"),
        (["itc", "micro", "negative"], "pN1mi"),
        (["micro"] * 4, "pN1mi"),
        (["micro"] * 10, "pN1mi"),
        (["macro"], "pN1"),
        (["macro", "micro", "micro"], "pN1"),
        (["macro"] * 3, "pN1"),
        (["macro", "itc", "itc", "itc", "itc"], "pN1"),
        (["macro", "micro", "micro", "micro"], "pN2"),
        (["macro"] * 4, "pN2"),
        (["macro"] * 5, "pN2"),
        (["macro"] * 9, "pN2"),
        (["macro"] * 9 + ["itc"], "pN2"),
    ],
)
def test_every_line_of_the_rule(nodes, stage):
    assert stage_of(nodes) == stage


@pytest.mark.parametrize("count", range(1, 11))
def test_any_number_of_nodes_with_metastasis_is_staged_as_the_rule_counts_them(count):
    # Whatever lies among them, in whatever order.
    for macros in range(count + 1):
        nodes = ["macro"] * macros + ["micro"] * (count - macros) + ["itc", "negative"]
        expected = "pN1mi" if not macros else "pN1" if count <= 3 else "pN2" if count <= 9 else None
        for order in (nodes, nodes[::-1]):
            if expected is None:
                with pytest.raises(StagingError, match=r"expected up to 9 nodes .*, got 10, .*by hand"):
                    stage_of(order)
            else:
                assert stage_of(order) == expected


def test_no_node_is_no_stage():
    with pytest.raises(StagingError, match=r"at least one lymph node, got none; add"):
        stage_of([])
    with pytest.raises(StagingError, match="got 0 nodes"):
        stage_patient("p", {})
    with pytest.raises(StagingError, match="got 1 nodes, 1 of them without"):
        stage_patient("p", {"1": []})


def test_a_worse_node_never_betters_the_stage():
    for nodes in itertools.product(VERDICTS, repeat=4):
        for place, verdict in enumerate(nodes):
            for worse in VERDICTS[VERDICTS.index(verdict) :]:
                changed = [*nodes[:place], worse, *nodes[place + 1 :]]
                assert STAGES.index(stage_of(changed)) >= STAGES.index(stage_of(nodes))


@pytest.mark.parametrize(
    ("found", "verdict"),
    [([], "negative"), (["itc", "itc"], "itc"), (["itc", "micro", "itc"], "micro"), (["macro", "micro"], "macro")],
)
def test_the_worst_lesion_is_the_slide_s_verdict(found, verdict):
    slide = slide_verdict("s", found, whole=True)
    assert (slide.verdict, slide.settled, slide.text) == (verdict, True, verdict)


def test_a_slide_scanned_in_part_is_never_negative_without_saying_so():
    part = slide_verdict("s", [], whole=False, why="36 % of the tissue scanned")
    assert not part.settled
    assert part.text == "negative so far (36 % of the tissue scanned)"
    # What a macro-metastasis was found on cannot become worse.
    worst = slide_verdict("s", ["macro"], whole=False, why="36 % of the tissue scanned")
    assert worst.settled
    assert worst.text == "macro (36 % of the tissue scanned)"
    assert SlideVerdict(slide="s", verdict=None, whole=False, why="no verdict").text == "not known (no verdict)"


@pytest.mark.parametrize(
    ("found", "whole", "short", "label"),
    [
        ([], True, "negative", "Negative"),
        ([], False, "negative so far", "Negative so far"),
        (["itc"], False, "at least itc", "At least isolated tumour cells"),
        (["itc", "micro"], True, "micro", "Micro-metastasis"),
        (["micro"], False, "at least micro", "At least micro-metastasis"),
        (["macro"], False, "macro", "Macro-metastasis"),
    ],
)
def test_the_verdict_on_a_part_is_a_lower_bound_in_every_wording(found, whole, short, label):
    slide = slide_verdict("s", found, whole=whole, why="36 % of the tissue scanned")
    assert (slide.short, slide.label) == (short, label)
    assert slide.text == (short if whole else f"{short} (36 % of the tissue scanned)")
    told = slide.to_json()
    assert (told["slide"], told["settled"], told["text"]) == ("s", whole or found == ["macro"], slide.text)
    assert told["verdict"] == max(["negative", *found], key=VERDICTS.index)


def verdict(said, *, whole=True):
    return SlideVerdict(slide="s", verdict=said, whole=whole)


def test_of_several_slides_of_a_node_the_worst_counts():
    node = NodeFinding(node="1", slides=tuple(verdict(one) for one in ("negative", "micro", "itc")))
    assert (node.verdict, node.settled) == ("micro", True)
    assert NodeFinding(node="1", slides=(verdict("macro"), verdict(None, whole=False))).settled
    open_node = NodeFinding(node="1", slides=(verdict("itc"), verdict("negative", whole=False)))
    assert (open_node.verdict, open_node.settled, open_node.text) == ("itc", False, "at least itc")
    # Two slides of one node are one node.
    four = [verdict("macro"), verdict("macro"), verdict("micro"), verdict("micro")]
    assert stage_patient("p", {"1": four}).stage == "pN1"
    assert stage_patient("p", {str(number): [one] for number, one in enumerate(four)}).stage == "pN2"


def test_a_patient_of_whom_nothing_is_known_has_no_stage_in_words():
    staged = stage_patient("p", {"1": [verdict(None, whole=False)], "2": [verdict(None, whole=False)]})
    assert (staged.stage, staged.text) == (None, "not known")
    assert staged.notes[-1] == "p: not known, may be pN1; scan what is open to know"


@pytest.mark.parametrize(
    ("known", "open_nodes", "least", "most"),
    [
        (["negative"], 1, "pN0", "pN1"),
        (["itc"], 1, "pN0(i+)", "pN1"),
        (["micro"] * 3, 1, "pN1mi", "pN2"),
        (["macro"], 2, "pN1", "pN1"),
        (["macro"], 3, "pN1", "pN2"),
        (["macro"] * 4, 5, "pN2", "pN2"),
        (["macro"] * 4, 6, "pN2", None),
        (["macro"] * 10, 0, None, None),
    ],
)
@pytest.mark.parametrize("missing", [verdict(None, whole=False), verdict("negative", whole=False)])
def test_a_patient_is_staged_only_where_open_nodes_cannot_change_the_stage(known, open_nodes, least, most, missing):
    slides = {str(number): [verdict(one)] for number, one in enumerate(known)}
    slides |= {f"open {number}": [missing] for number in range(open_nodes)}
    staged = stage_patient("p", slides)
    assert (staged.at_least, staged.at_most) == (least, most)
    assert staged.stage == (least if least == most else None)
    told = "\n".join(staged.notes)
    assert told.count("slide s:") == open_nodes, "each of them is named"
    if least is None:
        assert staged.text == "beyond pN2"
        assert "stage this patient by hand" in told
    elif staged.stage is None:
        assert staged.text == f"at least {least}"
        assert f"at least {least}, may be {most or 'beyond pN2'}; scan what is open" in told
    else:
        assert staged.text == least
