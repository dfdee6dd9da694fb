"""What is worked out anew for every window, and comes out the same each time: once in a process it is enough."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from napari._qt.widgets.qt_welcome import QtWelcomeWidget
from napari.settings import NapariSettings
from napari.settings._base import EventedConfigFileSettings
from napari.utils.events import EventEmitter
from npe2 import PluginManifest
from vispy.visuals.shaders.function import Function
from vispy.visuals.text.text import SDFRendererCPU

from napari_metastasis._napari import model_choice
from napari_metastasis._napari.slide_work import AvailableModels
from napari_metastasis.models import list_models
from napari_metastasis.storage import home_path

__all__ = ["worked_out_once"]


@contextmanager
def worked_out_once() -> Iterator[None]:
    """Spare every window after the first a third of what it costs to make one."""
    with pytest.MonkeyPatch.context() as patch:
        _find_plugins_once(patch)
        _reset_changed_settings(patch)
        _draw_letters_once(patch)
        _look_at_listeners_once(patch)
        _rewrite_no_hidden_welcome(patch)
        patch.setattr(Function, "_clean_code", _cleaned(Function._clean_code))
        _load_the_same_models_once(patch)
        yield


def _find_plugins_once(patch: pytest.MonkeyPatch) -> None:
    """Every window looks through all that is installed for plugins; here what is found once is found each time."""
    found = list(PluginManifest.discover())
    patch.setattr(PluginManifest, "discover", lambda **_: iter(found))


def _reset_changed_settings(patch: pytest.MonkeyPatch) -> None:
    """Napari resets its settings before and after every window, and writes each change to a file that no test reads."""
    changed: list[object] = [None]
    reset = NapariSettings.reset

    def reset_changed(settings: NapariSettings) -> None:
        if changed:
            reset(settings)
            changed.clear()

    patch.setattr(EventedConfigFileSettings, "_maybe_save", lambda settings: changed.append(settings), raising=False)
    patch.setattr(NapariSettings, "reset", reset_changed)


def _draw_letters_once(patch: pytest.MonkeyPatch) -> None:
    """The distance from every pixel to a letter's edge takes a hundredth of a second for each letter of a scale bar."""
    render = SDFRendererCPU.render_to_texture
    letters: dict[tuple[object, ...], np.ndarray] = {}

    def rendered(
        renderer: SDFRendererCPU, data: np.ndarray, texture: Any, offset: tuple[int, int], size: tuple[int, int]
    ) -> None:
        key = (data.shape, data.tobytes(), size)
        (x, y), (width, height) = offset, size
        if key not in letters:
            letters[key] = np.empty((height, width, 3), np.uint8)
            render(renderer, data, letters[key], (0, 0), size)
        texture[y : y + height, x : x + width, :] = letters[key]

    patch.setattr(SDFRendererCPU, "render_to_texture", rendered)


def _look_at_listeners_once(patch: pytest.MonkeyPatch) -> None:
    """At each of a thousand connections napari asks Python whether the listener takes the event."""
    check = EventEmitter._check_signature
    known: WeakKeyDictionary[object, dict[bool, bool]] = WeakKeyDictionary()

    def checked(listener: Callable[..., object]) -> bool:
        bound = inspect.ismethod(listener)
        function = listener.__func__ if bound else listener
        if not inspect.isfunction(function):
            return check(listener)
        answers = known.setdefault(function, {})
        if bound not in answers:
            answers[bound] = check(listener)
        return answers[bound]

    patch.setattr(EventEmitter, "_check_signature", staticmethod(checked))


def _rewrite_no_hidden_welcome(patch: pytest.MonkeyPatch) -> None:
    """Napari's welcome names its keys, and writes them all anew at each of two hundred that are bound."""
    refresh = QtWelcomeWidget.refresh
    patch.setattr(
        QtWelcomeWidget, "refresh", lambda welcome, event=None: refresh(welcome, event) if welcome.isVisible() else None
    )


def _load_the_same_models_once(patch: pytest.MonkeyPatch) -> None:
    """Every window loads all models there are, to say which can be chosen; files that did not change say the same."""
    look = model_choice.available_models_work
    known: dict[tuple[object, ...], AvailableModels] = {}

    def looked(files: Sequence[str], should_stop: Callable[[], bool]) -> AvailableModels:
        weights = [entry.path for entry in list_models()] + [home_path(name) for name in files]
        both = [path for each in weights for path in (each, each.with_suffix(".json")) if path.exists()]
        key = (*files, *((path, path.stat().st_mtime_ns) for path in both))
        if key not in known:
            known[key] = look(files, should_stop)
        return known[key]

    patch.setattr(model_choice, "available_models_work", looked)


def _cleaned(clean: Callable[[Function, str], str]) -> Callable[[Function, str], str]:
    """Take the indentation off each piece of a shader once."""
    once = cache(lambda code: clean(None, code))
    return lambda _, code: once(code)
