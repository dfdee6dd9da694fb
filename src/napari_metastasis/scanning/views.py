"""The eight views of an image: turned and mirrored windows, whose answers are turned back and averaged."""

from __future__ import annotations

import numpy as np

from napari_metastasis.errors import SettingsError
from napari_metastasis.geometry import SYMMETRIES
from napari_metastasis.scanning.engines.base import Engine, FloatArray, UInt8Array

__all__ = ["encode_views", "predict_views"]


def predict_views(engine: Engine, image: UInt8Array, views: int) -> FloatArray:
    """Return the probabilities of one image, float32 (rows, columns), averaged over its views.

    Each view is the image turned by a right angle, and mirrored for every second one; its answers are turned back
    before they are averaged. A turned window's patches are the turned patches: this equals averaging patch by patch.

    Parameters
    ----------
    engine
        Runs the network.
    image
        uint8, (height, width, 3).
    views
        1, or 8 for the whole dihedral group.
    """
    # One view at a time: eight at once would take eight times the memory and be no faster on a window of this size.
    return _mean([view.undo(engine.run(view.apply(image)[None])[0]) for view in SYMMETRIES[:views]])


def encode_views(engine: Engine, image: UInt8Array, views: int) -> tuple[FloatArray, FloatArray]:
    """Return the probabilities of one image, averaged over its views, and the features of every view.

    Parameters
    ----------
    engine, image, views
        As :func:`predict_views` takes them; the engine runs an encoder.

    Returns
    -------
    float32 of shape (rows, columns), and float32 of shape (views, rows / α, columns / α, features), both as they lie on
    the image. A view's features are those of turned patches, so that they are not averaged.
    """
    probabilities, features = [], []
    for view in SYMMETRIES[:views]:
        answers, encoded = engine.encode(view.apply(image)[None])
        probabilities.append(view.undo(answers[0]))
        features.append(view.undo(np.moveaxis(encoded[0], 0, -1)))
    return _mean(probabilities), np.stack(features)


def _mean(answers: list[FloatArray]) -> FloatArray:
    if not answers:
        raise SettingsError("expected 1 or 8 views, got none; choose one of them")
    # In float64, so that the order of the views does not show in the last digit.
    return np.asarray(np.mean(answers, axis=0, dtype=np.float64), np.float32)
