"""Reading tiles off the GUI thread, for this session of napari only.

napari reads what it draws on the GUI thread unless "async" is switched on in its preferences, and then a pan over a
slide blocks the window while tiles are decoded. Switching the preference on would write it to the user's settings file;
marking it first as one that the environment supplied (as ``NAPARI_ASYNC=1`` does) keeps it out of there.
"""

from __future__ import annotations

from napari.settings import get_settings

__all__ = ["slice_off_the_gui_thread"]


def slice_off_the_gui_thread() -> None:
    """Switch asynchronous slicing on until napari ends, without changing the user's settings file."""
    settings = get_settings()
    if not settings.experimental.async_:
        settings.env_settings.setdefault("experimental", {})["async_"] = True
        settings.experimental.async_ = True
