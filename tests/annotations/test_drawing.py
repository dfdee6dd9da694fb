"""What a person draws becomes corrections: painted, erased, cut, joined, filled, and what is drawn last holds."""

from __future__ import annotations

import pytest
import shapely

from napari_metastasis.annotations import Correction, Corrections, Finding
from napari_metastasis.annotations.drawing import Drawing

FOUND_PX = shapely.box(1000, 0, 1100, 100)
FOUND = Finding(model="m", map="heatmap", threshold=0.5, probability=0.9, outline_px=FOUND_PX)


class Pen:
    """A person's hand on a slide with one finding at (1000, 0)."""

    def __init__(self):
        self.said, self.chosen, self.steps = Corrections(), "", []

    def findings_under(self, geometry):
        spoken = any(one.found is not None for one in self.said)
        if spoken or not FOUND_PX.intersects(geometry):
            return ()
        return (Correction(key="finding", label="tumour", shape_px=FOUND_PX, found=FOUND),)

    def __getattr__(self, name):
        def act(*arguments):
            drawing = Drawing(self.said, reviewer="A", chosen=self.chosen, findings_under=self.findings_under)
            drawn = getattr(drawing, name)(*arguments)
            if drawn.what:
                self.steps.append(drawn.what)
                self.said, self.chosen = drawn.corrections, drawn.key
            return drawn

        return act

    def areas(self):
        return {(one.label, round(one.shape_px.area)) for one in self.said}


@pytest.fixture
def pen():
    return Pen()


def test_what_touches_an_area_of_its_kind_becomes_part_of_it_and_another_kind_is_cut_out(pen):
    pen.paint(shapely.box(0, 0, 100, 100), "tumour")
    pen.paint(shapely.box(90, 0, 190, 100), "tumour")
    assert pen.areas() == {("tumour", 19_000)}
    pen.paint(shapely.box(300, 0, 400, 100), "tumour")
    assert len(pen.said) == 2
    # One stroke over both joins them.
    pen.paint(shapely.box(180, 40, 310, 50), "tumour")
    assert len(pen.said) == 1
    pen.paint(shapely.box(0, 0, 50, 100), "normal")
    assert pen.areas() == {("normal", 5_000), ("tumour", 25_100)}
    pen.paint(shapely.box(-10, -10, 500, 500), "ignore")
    assert [one.label for one in pen.said] == ["ignore"]
    assert pen.steps[:4] == ["Draw tumour", "Change tumour", "Draw tumour", "Change tumour"]
    assert pen.steps[4:] == ["Draw normal tissue", "Draw what to ignore"]
    assert {one.reviewer for one in pen.said} == {"A"}


def test_the_outline_of_a_finding_is_changed_and_what_the_model_found_is_kept_beside(pen):
    pen.paint(shapely.box(1090, 0, 1150, 100), "tumour")
    (said,) = pen.said
    assert (said.state, said.is_redrawn, said.found) == ("confirmed", True, FOUND)
    assert said.shape_px.area == 15_000
    pen.erase(shapely.box(990, 0, 1010, 100))
    assert pen.areas() == {("tumour", 14_000)}
    pen.erase(shapely.box(900, -100, 1500, 500))
    (said,) = pen.said
    assert (said.state, said.shape_px) == ("rejected", FOUND_PX)


def test_the_eraser_takes_from_all_that_it_touches_and_points_go_as_they_lie(pen):
    pen.paint(shapely.box(0, 0, 100, 100), "tumour")
    pen.paint(shapely.box(100.5, 0, 200, 100), "normal")
    pen.drop(95, 50, "ignore")
    pen.drop(80, 50, "ignore")
    pen.erase(shapely.box(90, 0, 110.5, 100))
    assert pen.areas() == {("tumour", 9_000), ("normal", 8_950), ("ignore", 0)}
    assert len(pen.said) == 3
    pen.erase(shapely.box(-1, -1, 300, 101))
    assert not pen.said


def test_a_line_cuts_and_joins_and_holes_are_filled(pen):
    pen.paint(shapely.box(0, 0, 100, 100), "tumour")
    first = pen.chosen
    pen.cut([(50, -10), (50, 110)])
    assert pen.areas() == {("tumour", 5_000)}
    assert len(pen.said) == 2
    assert pen.chosen == first
    pen.join([(10, 50), (90, 50)], "tumour")
    assert pen.areas() == {("tumour", 10_000)}
    pen.erase(shapely.box(40, 40, 60, 60))
    pen.fill()
    assert pen.areas() == {("tumour", 10_000)}
    # What a model found is cut and joined as what was drawn is.
    pen.join([(50, 50), (1050, 50)], "tumour")
    (joined,) = pen.said
    assert joined.key == first
    pen.remove()
    assert not pen.said
    pen.cut([(1050, -10), (1050, 110)])
    assert [(one.found, one.shape_px.area) for one in pen.said] == [(FOUND, 5_000), (FOUND, 5_000)]


def test_points_are_dropped_one_by_one(pen):
    pen.paint(shapely.box(0, 0, 100, 100), "tumour")
    pen.drop(500, 500, "normal")
    assert pen.steps[-1] == "Drop a point of normal tissue"
    assert [one.shape_px.geom_type for one in pen.said] == ["Polygon", "Point"]
    pen.remove()
    assert [one.shape_px.geom_type for one in pen.said] == ["Polygon"]


def test_what_changes_nothing_is_no_step(pen):
    for act in (
        lambda: pen.paint(None, "tumour"),
        lambda: pen.erase(None),
        lambda: pen.erase(shapely.box(0, 0, 1, 1)),
        lambda: pen.cut([(0, 0)]),
        lambda: pen.cut([(0, 0), (1, 1)]),
        lambda: pen.join([(0, 0), (1, 1)], "tumour"),
        pen.fill,
        pen.remove,
    ):
        act()
    assert pen.steps == []
    pen.paint(shapely.box(0, 0, 100, 100), "tumour")
    pen.cut([(-10, 50), (50, 50)])
    pen.fill()
    assert pen.steps == ["Draw tumour"]


def test_an_outline_that_crosses_itself_can_be_painted_on_and_erased_from(pen):
    eight = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
    pen.said = Corrections.of([Correction(key="8", label="tumour", shape_px=eight)])
    pen.paint(shapely.box(0, 40, 100, 60), "tumour")
    assert [one.key for one in pen.said] == ["8"]
    pen.erase(shapely.box(-1, -1, 30, 101))
    assert pen.said["8"].shape_px.is_valid


def test_another_outline_holds_where_it_has_grown_and_confirms_what_a_model_found(pen):
    pen.paint(shapely.box(0, 0, 100, 100), "tumour")
    pen.paint(shapely.box(110, 0, 200, 100), "normal")
    tumour, normal = pen.said
    pen.reshape(tumour, shapely.box(0, 0, 150, 100), "Move a corner")
    assert pen.areas() == {("tumour", 15_000), ("normal", 5_000)}
    assert [one.key for one in pen.said] == [tumour.key, normal.key]
    # Where it is made smaller, nothing is given back.
    pen.reshape(pen.said[tumour.key], shapely.box(0, 0, 50, 100), "Move a corner")
    assert pen.areas() == {("tumour", 5_000), ("normal", 5_000)}
    (finding,) = pen.findings_under(FOUND_PX)
    pen.reshape(finding, shapely.box(1000, 0, 1100, 90), "Move a corner")
    assert (pen.said["finding"].state, pen.said["finding"].is_redrawn) == ("confirmed", True)
    assert (pen.chosen, pen.steps[-1]) == ("finding", "Move a corner")
