"""Forms made from the settings, which state each field's default, range and explanation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from magicgui.widgets import ComboBox, create_widget
from magicgui.widgets.bases import ValueWidget
from qtpy.QtWidgets import QFormLayout, QLabel, QSizePolicy, QWidget

from napari_metastasis.settings import Setting, setting_of

__all__ = ["SettingsForm", "label_of"]

#: Labels of fields whose names do not explain them.
_LABELS = {
    "augment_views": "Accuracy",
    "dense_coefficient": "Detail",
    "hot_spot_mm2": "Area in which mitoses are densest",
    "hot_spot_shape": "Its shape",
    "keep_features": "Keep what fewer false alarms need later",
    "mitosis": "Find mitoses (takes several times longer)",
    "mitosis_above": "Mitoses where tumour is probable from",
    "mitosis_radius_um": "Mitoses lie at least apart by",
    "queue_rois": "Pieces waiting",
    "read_segmentation": "Findings from the exact outlines",
    "refine": "Fewer false alarms (may miss single cells)",
    "refined_share": "Share of fewer false alarms",
    "roi_px": "Piece size",
    "segment": "Exact outlines (takes twice as long)",
    "segment_above": "Outlines from probability",
    "threads": "Reading threads",
    "tissue_only": "Tissue only",
}
#: Fields whose choices are long: their lists lie under their labels.
_WIDE = frozenset(
    {
        "augment_views",
        "dense_coefficient",
        "hot_spot_mm2",
        "mitosis_above",
        "mitosis_radius_um",
        "segment_above",
        "stain",
    }
)
#: What the lowest value of a field means, where that is no number to a person.
_LOWEST = {"mitosis_above": "all tissue", "segment_above": "all tissue"}
#: Probabilities are moved by this step.
_STEP = 0.05


def label_of(name: str) -> str:
    """Return what a field is called."""
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def _wrapped(text: str) -> str:
    """Return a tooltip in lines of readable length."""
    return textwrap.fill(text, 56, break_long_words=False, break_on_hyphens=False)


class SettingsForm:
    """The widgets of some fields of a settings group.

    Parameters
    ----------
    group
        A frozen dataclass of napari_metastasis.settings.
    names
        The fields wanted, in the group's order.
    choices
        For fields that are chosen from a list: the values offered, each with its text.
    """

    def __init__(self, group: type, names: Iterable[str], *, choices: dict[str, dict[Any, str]] | None = None) -> None:
        self._group = group
        wanted = set(names)
        offered = choices or {}
        self.widgets: dict[str, ValueWidget[Any]] = {}
        for candidate in fields(group):
            if candidate.name in wanted:
                default, setting = setting_of(group, candidate.name)
                self.widgets[candidate.name] = self._widget(
                    candidate.name, default, setting, offered.get(candidate.name)
                )

    @staticmethod
    def _widget(name: str, default: Any, setting: Setting, offered: dict[Any, str] | None) -> ValueWidget[Any]:
        label = label_of(name)
        options: dict[str, Any] = {"tooltip": _wrapped(setting.help)}
        if offered is None and setting.choices:
            offered = {choice: str(choice) for choice in setting.choices}
        if offered is not None:
            options["choices"] = [(text, value) for value, text in offered.items()]
            kind: Any = ComboBox
            return create_widget(value=default, name=name, label=label, widget_type=kind, options=options)
        if isinstance(default, int | float) and not isinstance(default, bool):
            options |= {"min": setting.minimum, "max": setting.maximum}
            options |= {"step": _STEP} if setting.maximum == 1 and isinstance(default, float) else {}
            options = {key: value for key, value in options.items() if value is not None}
        widget: ValueWidget[Any] = create_widget(
            value=default,
            annotation=type(default),
            name=name,
            label="" if isinstance(default, bool) else label,
            options=options | ({"text": label} if isinstance(default, bool) else {}),
        )
        if name in _LOWEST:
            widget.native.setSpecialValueText(_LOWEST[name])
        return widget

    def add_to(self, layout: QFormLayout) -> None:
        """Append every widget as a row, with its tooltip on the label as well."""
        for name, widget in self.widgets.items():
            native: QWidget = widget.native
            default, setting = setting_of(self._group, name)
            native.setToolTip(_wrapped(setting.help))
            unit = f" ({setting.unit})" if setting.unit else ""
            # A switch has its label beside its box; magicgui would repeat it in front.
            if name in _WIDE:
                label = QLabel(f"{widget.label}{unit}")
                label.setToolTip(_wrapped(setting.help))
                layout.addRow(label)
                layout.addRow(native)
            elif not isinstance(default, bool):
                layout.addRow(f"{widget.label}{unit}", native)
                layout.labelForField(native).setToolTip(_wrapped(setting.help))
            else:
                # Over the whole width: its words are its label.
                layout.addRow(native)
                native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def offer(self, name: str, choices: dict[Any, str]) -> None:
        """Offer other values for a field; the chosen one stays if it is among them."""
        widget = self.widgets[name]
        assert isinstance(widget, ComboBox)
        before = widget.value
        widget.choices = [(text, value) for value, text in choices.items()]
        if before in choices:
            widget.value = before

    def enable(self, enabled: bool) -> None:
        """Let the fields be filled in, or grey them."""
        for widget in self.widgets.values():
            widget.enabled = enabled

    @property
    def values(self) -> dict[str, Any]:
        """Return what was filled in, by the fields' names."""
        return {name: widget.value for name, widget in self.widgets.items()}
