"""The "Mitoses" part: where to look for them, how many there are, and the way to where they are densest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from napari.layers import Points
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_metastasis._napari.part import Part
from napari_metastasis._napari.parts import ErrorLine, Folded, form_layout, probability_slider
from napari_metastasis._napari.regions import points_drawn
from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.user_shapes import shapes_of
from napari_metastasis._napari.words import for_window
from napari_metastasis.geometry import Point

if TYPE_CHECKING:
    from napari import Viewer
    from psygnal import SignalInstance

    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis._napari.slide_controller import SlideController
    from napari_metastasis.annotations.corrections import Label

__all__ = ["MitosisWidget"]

#: Across the window at a mitosis, and around the densest area: this many times its side.
_ACROSS_UM, _ROOM = 200.0, 1.15
_TOLD = "Mitoses have not been looked for."


class MitosisWidget(Part):
    """Looks for mitoses on the current slide, and counts them.

    Parameters
    ----------
    napari_viewer
        The viewer; napari fills it in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "")
        self._workspace.mitoses_possible.connect(self._show_buttons)
        correcting = self._workspace.correcting
        correcting.sets_mitoses_changed.connect(self.add_button.setChecked)
        correcting.mitosis_refused.connect(self.refused.show_failure)

    def _build(self, layout: QVBoxLayout) -> None:
        self._at = -1
        inside = QWidget()
        rows = QVBoxLayout(inside)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(6)
        rows.addWidget(QLabel("Look for mitoses in"))
        rows.addLayout(self._make_searches())
        self._add_counts(rows)
        rows.addLayout(self._make_steps())
        rows.addLayout(self._make_decisions())
        self.refused = ErrorLine()
        rows.addWidget(self.refused)
        self.take_button = QPushButton("Take the points of napari's layer")
        self.take_button.setToolTip("Add the points that were set in napari's own Points layers as mitoses")
        self.take_button.clicked.connect(lambda _: self.take_points())
        rows.addWidget(self.take_button)
        # Once it is known whose a new layer is.
        self._workspace.layers_changed.connect(single_shot(self, 0, self._show_layers).start)
        rows.addLayout(self._make_threshold())
        self.show_map = QCheckBox("Show how probable a mitosis is")
        self.show_map.setToolTip("Tint where the model sees a mitosis, also where it is less sure than the slider says")
        self.show_map.toggled.connect(self._on_show_map)
        rows.addWidget(self.show_map)
        self.fold = Folded("Mitoses", inside)
        layout.addWidget(self.fold)

    def _make_searches(self) -> QHBoxLayout:
        """Return the buttons that look for mitoses."""
        self.view_button, self.tumour_button = QPushButton("This view"), QPushButton("Tumour")
        self.shape_button = QPushButton("Selected shape")
        self.view_button.setToolTip("Look for mitoses in what the window shows, from its middle outwards")
        self.tumour_button.setToolTip(
            "Look for mitoses on the whole slide, only where findings are shown and around them; scan first"
        )
        self.shape_button.setToolTip(
            "Look for mitoses inside the shape that is selected, or the shapes; counts are of all tissue that was "
            "looked at, also before"
        )
        buttons = QHBoxLayout()
        for button, where in ((self.view_button, "view"), (self.tumour_button, "tumour"), (self.shape_button, "shape")):
            button.clicked.connect(lambda _=False, where=where: self._workspace.mitoses_wanted.emit(where))
            buttons.addWidget(button, 1)
        return buttons

    def _add_counts(self, rows: QVBoxLayout) -> None:
        """Add how many there are, where they are densest, how much was looked at, and what people said."""
        self.count, self.spot, self.searched, self.said = QLabel(), QLabel(), QLabel(), QLabel()
        for label in (self.count, self.spot, self.searched, self.said):
            label.setWordWrap(True)
        for label in (self.count, self.spot, self.searched):
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.count.setStyleSheet("font-weight: bold;")
        self.spot_button = QPushButton("Show")
        self.spot_button.setToolTip("Show where mitoses are densest")
        self.spot_button.clicked.connect(lambda _: self.show_spot())
        densest = QHBoxLayout()
        densest.addWidget(self.spot, 1)
        densest.addWidget(self.spot_button)
        rows.addWidget(self.count)
        rows.addLayout(densest)
        rows.addWidget(self.searched)
        rows.addWidget(self.said)

    def _make_steps(self) -> QHBoxLayout:
        """Return the buttons that show one mitosis after the other."""
        self.back_button, self.on_button, self.position = QToolButton(), QToolButton(), QLabel()
        self.position.setAlignment(Qt.AlignmentFlag.AlignCenter)
        for button, text, step in ((self.back_button, "◀", -1), (self.on_button, "▶", 1)):
            button.setText(text)
            button.setToolTip(f"{'Next' if step > 0 else 'Previous'} mitosis, the surest first")
            button.clicked.connect(lambda _=False, step=step: self.go_on(step))
        steps = QHBoxLayout()
        steps.addWidget(self.back_button)
        steps.addWidget(self.position, 1)
        steps.addWidget(self.on_button)
        return steps

    def _make_decisions(self) -> QHBoxLayout:
        """Return the buttons that say of the one in the middle what it is, and add those that were missed."""
        self.yes_button, self.no_button = QPushButton("✓ Mitosis"), QPushButton("✗ Not one")
        self.add_button = QPushButton("+ Add")
        self.yes_button.setToolTip("The one in the middle is a mitosis; the next is shown. Once more takes it back")
        self.no_button.setToolTip("It is not, and does not count; the next is shown. Once more takes it back")
        self.add_button.setToolTip("Click where a mitosis was missed; Escape, or this button again, ends it")
        self.add_button.setCheckable(True)
        self.yes_button.clicked.connect(lambda _: self.decide("mitosis"))
        self.no_button.clicked.connect(lambda _: self.decide("not-mitosis"))
        self.add_button.clicked.connect(self._workspace.correcting.set_mitoses)
        decisions = QHBoxLayout()
        for button in (self.yes_button, self.no_button, self.add_button):
            decisions.addWidget(button, 1)
        return decisions

    def _make_threshold(self) -> QFormLayout:
        """Return the slider of the probability that counts."""
        self.threshold = probability_slider(0.01, 1.0, step=0.01)
        self.threshold.setToolTip("Probability from which a point counts as a mitosis: rings, counts and files follow")
        self.threshold.valueChanged.connect(self._on_slider)
        form = form_layout()
        form.addRow(QLabel("Show mitoses from probability"))
        form.addRow(self.threshold)
        return form

    def _heard(self, session: SlideSession) -> Iterable[tuple[SignalInstance, Callable[..., Any]]]:
        state = session.mitoses
        return (
            (state.map_changed, self._show_found),
            (state.found_changed, self._show_found),
            (state.threshold_changed, self._show_threshold),
            (session.activity_changed, self._show_buttons),
            (session.maps_replaced, self._show_buttons),
        )

    def _on_current_changed(self, controller: SlideController | None) -> None:
        if self._controller is not None:
            self._controller.mitosis_map.changed.disconnect(self._show_map)
        super()._on_current_changed(controller)
        if controller is not None:
            controller.mitosis_map.changed.connect(self._show_map)
        self._show_map()

    def _show_map(self) -> None:
        controller = self._controller
        layer = None if controller is None else controller.mitosis_map.layer
        self.show_map.setEnabled(controller is not None and controller.session.mitoses.frame is not None)
        self.show_map.blockSignals(True)
        self.show_map.setChecked(layer is not None and layer.visible)
        self.show_map.blockSignals(False)

    def _on_show_map(self, shown: bool) -> None:
        if self._controller is not None:
            self._controller.mitosis_map.show(shown)

    def _show_current(self) -> None:
        self._at = -1
        self.refused.show_failure("")
        self._show_layers()
        self._show_buttons()
        self._show_found()

    def _show_buttons(self, *_: object) -> None:
        session, possible = self._session, self._workspace.finds_mitoses
        ready = session is not None and possible and not session.activity.busy
        for button in (self.view_button, self.shape_button):
            button.setEnabled(ready)
        self.tumour_button.setEnabled(ready and session is not None and session.heatmap is not None)

    def _show_layers(self, *_: object) -> None:
        """Offer the points of napari's own layers, where there are such."""
        shown = self._session is not None and any(
            isinstance(layer, Points) for layer in shapes_of(self._viewer, self._session.slide)
        )
        self.take_button.setVisible(shown)

    def take_points(self) -> None:
        """Add the points of napari's own layers as mitoses; those that were taken before stay as they are."""
        session = self._session
        if session is None:
            return
        from napari_metastasis.annotations import PointSet, corrections_of_points
        from napari_metastasis.lesions import new_mitoses

        places = points_drawn(self._viewer, session.slide)
        points = PointSet(places, ("Mitosis",) * len(places))
        more, _ = corrections_of_points(points, reviewer=self._workspace.reviewer.name)
        known = session.corrections.present
        asked = [one for one in more if one.key not in known]
        found = session.mitoses.found
        fresh = asked if found is None else new_mitoses(found, known, asked)
        left = len(asked) - len(fresh)
        self.refused.show_failure(f"{left} of {len(asked)} points are known already." if left else "")
        session.corrections.do(f"Add {len(fresh)} mitoses of napari's layer", known.with_(*fresh))

    def _show_found(self) -> None:
        session = self._session
        found = None if session is None else session.mitoses.found
        has_map = session is not None and session.mitoses.frame is not None
        lost = "" if session is None else for_window(session.mitoses.lost)
        self.count.setText(found.text if found is not None else "Counting…" if has_map else lost or _TOLD)
        self.spot.setText("" if found is None else found.spot_text)
        self.searched.setText("" if found is None else found.searched_text)
        for shown in (self.spot, self.searched):
            shown.setVisible(bool(shown.text()))
        self.spot_button.setVisible(bool(self.spot.text()))
        self.said.setText("" if found is None else f"{found.review_text[:1].upper()}{found.review_text[1:]}")
        self.said.setVisible(bool(self.said.text()))
        count = 0 if found is None else len(found)
        self._at = min(self._at, count - 1)
        self._show_position()
        for button in (self.back_button, self.on_button):
            button.setEnabled(count > 0)
        self.add_button.setEnabled(has_map)
        self.threshold.setEnabled(has_map)
        if session is not None:
            self._show_threshold(session.mitoses.threshold)

    def _show_position(self) -> None:
        """Say which one is shown, how sure the model is, and what was said of it."""
        found = None if self._session is None else self._session.mitoses.found
        known = found is not None and 0 <= self._at < len(found)
        for button in (self.yes_button, self.no_button):
            button.setEnabled(known)
        if found is None or not known:
            self.position.setText("")
            return
        sure, state = float(found.probability[self._at]), found.reviews[self._at].state
        parts = [
            f"{self._at + 1} of {len(found)}",
            "" if sure != sure else f"{sure:.2f}",
            "" if state == "pending" else state,
            "" if found.inside[self._at] else "outside",
        ]
        self.position.setText(", ".join(filter(None, parts)))

    def _show_threshold(self, threshold: float) -> None:
        self.threshold.blockSignals(True)
        if self._session is not None:
            self.threshold.setMinimum(self._session.mitoses.floor)
        self.threshold.setValue(threshold)
        self.threshold.blockSignals(False)

    def _on_slider(self, value: float) -> None:
        if self._session is not None:
            self._session.mitoses.set_threshold(round(value, 2))

    def show_spot(self) -> None:
        """Show the area where mitoses are densest in the middle of the window."""
        session = self._session
        spot = None if session is None or session.mitoses.found is None else session.mitoses.found.spot
        if session is not None and spot is not None:
            across = max(spot.width, spot.height) * session.slide.mpp * _ROOM
            self._workspace.flight.to(spot.center, session.slide, across_um=across)

    def go_on(self, step: int) -> None:
        """Show the next mitosis, or the one before; after the last comes the first."""
        session = self._session
        found = None if session is None else session.mitoses.found
        if session is None or found is None or not len(found):
            return
        self._show_at((self._at + step) % len(found) if self._at >= 0 else (0 if step > 0 else len(found) - 1))

    def _show_at(self, place: int) -> None:
        session = self._session
        found = None if session is None else session.mitoses.found
        if session is None or found is None:
            return
        self._at = place
        x, y = found.xy[place].tolist()
        self._workspace.flight.jump(Point(x, y), session.slide, across_um=_ACROSS_UM)
        self._show_position()

    def decide(self, label: Label) -> None:
        """Say whether the one that is shown is a mitosis, and show the next on which nobody has decided."""
        session = self._session
        found = None if session is None else session.mitoses.found
        if session is None or found is None or not 0 <= self._at < len(found):
            return
        from napari_metastasis.lesions import decide_mitosis

        before = found.reviews[self._at].state
        said = "confirmed" if label == "mitosis" else "rejected"
        # An added one is a mitosis already.
        taken_back = before == said or (before == "added" and label == "mitosis")
        more, _ = decide_mitosis(
            found,
            self._at,
            session.corrections.present,
            None if taken_back else label,
            model=session.mitoses.model_name,
            reviewer=self._workspace.reviewer.name,
        )
        what = "Take back what was said of" if taken_back else "Confirm" if label == "mitosis" else "Reject"
        session.corrections.do(f"{what} mitosis {self._at + 1}", more)
        pending = [place for place, one in enumerate(found.reviews) if one.state == "pending" and place != self._at]
        following = [place for place in pending if place > self._at] or pending
        if following and not taken_back:
            self._show_at(following[0])
