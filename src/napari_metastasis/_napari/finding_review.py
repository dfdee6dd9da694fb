"""Goes through the findings of the current slide: what is said of each, which is chosen, and what is shown next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QModelIndex, Qt

from napari_metastasis._napari.compat import canvas_size
from napari_metastasis._napari.part import Part
from napari_metastasis._napari.ranking import said_text
from napari_metastasis._napari.review_bar import DECISIONS
from napari_metastasis._napari.view_transform import view_transform
from napari_metastasis.geometry import Point

if TYPE_CHECKING:
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QLabel, QToolButton

    from napari_metastasis._napari.lesion_table import LesionTable
    from napari_metastasis._napari.ranking import Ranking
    from napari_metastasis._napari.review_bar import ReviewBar
    from napari_metastasis._napari.said_rows import SaidRow, SaidRows
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations import Correction
    from napari_metastasis.annotations.corrections import Label
    from napari_metastasis.lesions import LesionRow, Reviewed

__all__ = ["FindingReview"]

#: A click shows a lesion on this share of the window, which then spans at least this many µm.
_FILL, _MIN_VIEW_UM = 0.4, 400.0
#: µm along a pixel of the window at 20x.
_CLOSEST_UM = 0.5


class FindingReview(Part):
    """A part that lists findings, and takes what is said of them. What it shows them in is made by :meth:`_build`."""

    table: LesionTable
    review: ReviewBar
    position: QLabel
    back_button: QToolButton
    on_button: QToolButton
    _ahead_soon: QTimer
    #: Rows of what was said, and of which slide.
    _drawn: SaidRows | None = None
    _of: SlideSession | None = None

    def _list_findings(self) -> None:
        """List what was found, and what was said of no lesion."""
        session = self._session
        if session is not None and session is not self._of:
            # Imported where there is a slide: an empty window starts without lesions.
            from napari_metastasis._napari.said_rows import SaidRows

            self._drawn, self._of = SaidRows(session.slide.mpp), session
        lesions = () if session is None or session.found is None else session.found.rows
        threshold = 0.0 if session is None else session.threshold
        self.table.rows.show(lesions, self._said_rows(), reviewed=self._said(), threshold=threshold)

    # -- what was said of it -------------------------------------------------------------------------------------

    def _said(self) -> Reviewed | None:
        """Return of which lesions was spoken, as far as that is known."""
        session = self._session
        if session is None:
            return None
        if session.reviewed is None and session.found is None and session.corrections.present.of_lesions:
            from napari_metastasis.lesions import Reviewed

            return Reviewed(alone=tuple(one.key for one in session.corrections.present.of_lesions))
        return session.reviewed

    def _said_rows(self) -> tuple[SaidRow, ...]:
        said, session = self._said(), self._session
        if said is None or session is None or self._drawn is None:
            return ()
        return self._drawn.of(session.corrections.present, said)

    def _on_corrections_changed(self) -> None:
        # Where there are lesions, it is found out first of which of them that speaks.
        if self._session is not None and self._session.found is None:
            self._show_reviewed()

    def _show_reviewed(self) -> None:
        """Show what was said of the findings."""
        self.table.rows.say(self._said(), self._said_rows())
        self._show_progress()

    def _show_progress(self) -> None:
        """Show how far a person is, and what was said of the chosen finding."""
        from napari_metastasis._napari.reviewing import correction_of

        said, session, rows = self._said(), self._session, self.table.rows
        found = None if session is None else session.found
        decided = 0 if said is None else said.decided
        self.review.show_progress(decided, 0 if found is None else len(found.rows), hidden=rows.hidden)
        row = self._chosen_row
        chosen = rows.lesions[row] if row >= 0 and session is not None else None
        if chosen is None or session is None:
            self.review.show_said(None, "", "", can_say=bool(rows.lesions))
            return
        held = correction_of(session, chosen)
        review = rows.review(chosen)
        text = said_text(
            review.state,
            is_clear=review.is_clear,
            reviewer="" if held is None else held.reviewer,
            at=None if held is None else held.at,
        )
        self.review.show_said(review.state, text, "" if held is None else held.comment, can_say=True)

    def _on_commented(self, comment: str) -> None:
        from napari_metastasis._napari.reviewing import comment_on

        row = self._chosen_row
        if self._session is not None and row >= 0:
            comment_on(self._session, self.table.rows.lesions[row], comment, reviewer=self._workspace.reviewer.name)

    def _on_ranked(self, ranking: Ranking) -> None:
        self.table.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.DescendingOrder)
        self.table.rows.rank(ranking)

    def decide(self, label: Label) -> None:
        """Say what lies in the chosen finding, and show the next on which nobody has decided.

        Where none is chosen, the first of these is shown, and nothing is said.
        """
        from napari_metastasis._napari.reviewing import say_of

        session, rows, row = self._session, self.table.rows, self._chosen_row
        if session is None:
            return
        if row >= 0:
            lesion = rows.lesions[row]
            before = rows.review(lesion)
            state = next((state for own, state, *_ in DECISIONS if own == label), "pending")
            if before.state != state or not before.is_clear:
                say_of(session, lesion, label, reviewer=self._workspace.reviewer.name)
        following = -1 if row >= 0 and label == "undecided" else rows.next_pending(row)
        if following >= 0:
            self.go_to(rows.lesions[following], at_once=True)

    def go_to_said(self, changed: tuple[Correction, ...]) -> None:
        """Show what a step back, or again, has changed: a decision on a finding is shown as it was made."""
        from napari_metastasis._napari.reviewing import is_row_of, place_of

        session = self._session
        if session is None or not changed:
            return
        where = place_of(changed[0], session.found)
        lesion = next((one for one in self.table.rows.lesions if is_row_of(one, changed[0], where.lesion)), None)
        view, before = view_transform(self._viewer, session.slide), self._workspace.correcting.chosen
        if lesion is not None and changed[0].found is not None:
            if view is not None and before == changed[0].key and view.shows_part_of(changed[0].shape_px.bounds):
                # A person is at it: the view stays.
                self._choose(lesion)
            else:
                self.go_to(lesion, at_once=True)
            return
        if lesion is not None:
            self._choose(lesion)
        if view is None or not view.shows(where.middle):
            across = max(where.length_px * session.slide.mpp / _FILL, _MIN_VIEW_UM)
            self._workspace.flight.jump(where.middle, session.slide, across_um=across)

    # -- going to a finding --------------------------------------------------------------------------------------

    @property
    def _chosen_row(self) -> int:
        """Return the row that is chosen; -1 where none is."""
        session, rows = self._session, self.table.rows
        if session is None:
            return -1
        key = session.corrections.selected
        if key:
            return -1 if self._drawn is None else rows.row_of(self._drawn.number_of(key))
        return rows.row_of(session.selected)

    def _show_selected(self, *_: object) -> None:
        """Mark the chosen finding in the table, and say which of how many it is."""
        rows, row = self.table.rows, self._chosen_row
        if row < 0:
            self.table.clearSelection()
        elif row != self.table.currentIndex().row() or not self.table.selectionModel().hasSelection():
            self.table.selectRow(row)
        count, drawn = len(rows.lesions), rows.added
        found = count - drawn
        counted = [f"{found} finding{'' if found == 1 else 's'}"] if found or not drawn else []
        counted += [f"{drawn} drawn"] if drawn else []
        self.position.setText(f"{row + 1} of {count}" if row >= 0 else ", ".join(counted) if count else "No findings")
        self.back_button.setEnabled(row > 0)
        self.on_button.setEnabled(row + 1 < count)
        self._show_progress()

    def _on_row(self, index: QModelIndex) -> None:
        self.go_to(self.table.rows.lesions[index.row()])

    def go_on(self, step: int) -> None:
        """Go to the next finding of the table, or to the one before."""
        lesions, row = self.table.rows.lesions, self._chosen_row
        if 0 <= row + step < len(lesions):
            self.go_to(lesions[row + step])

    def _choose(self, lesion: LesionRow) -> None:
        if self._session is not None:
            key = getattr(lesion, "key", "")
            self._session.select(None if key else lesion.id)
            self._session.corrections.select(key)

    def go_to(self, lesion: LesionRow, *, at_once: bool = False) -> None:
        """Choose a finding, and fly there; or be there at once."""
        if self._session is None:
            return
        self._choose(lesion)
        go = self._workspace.flight.jump if at_once else self._workspace.flight.to
        go(Point(lesion.x, lesion.y), self._session.slide, across_um=self._across_um(lesion))
        # The one that is asked for comes first: to begin a thread takes longer than to look at it.
        self._ahead_soon.start()

    def _across_um(self, lesion: LesionRow) -> float:
        """Return how much of the slide is shown of a finding: with what lies around it, and no closer than at 20x."""
        least = max(_MIN_VIEW_UM, _CLOSEST_UM * min(canvas_size(self._viewer)))
        return max(lesion.length_mm * 1000 / _FILL, least)

    def _read_ahead(self) -> None:
        """Let the next finding on which nobody has decided be read while a person looks at this one."""
        controller, rows = self._controller, self.table.rows
        following = rows.next_pending(self._chosen_row)
        # A scan needs the processor itself.
        if controller is None or controller.busy or following < 0:
            return
        lesion, slide, canvas = rows.lesions[following], controller.session.slide, canvas_size(self._viewer)
        px = self._across_um(lesion) / min(canvas) / slide.mpp
        controller.ahead.read(slide, Point(lesion.x, lesion.y), across_px=max(canvas) * px, px=px)
