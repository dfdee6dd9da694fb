"""A few images that a detector has learnt from, as its lower layers encode them: what retraining is not to forget.

Images of patients may not be passed on; features of a few hundred patches, in bytes, ship with a model.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from napari_metastasis.errors import WeightsError, first_line
from napari_metastasis.storage import atomic_write

__all__ = ["REPLAY_SUFFIX", "Replay", "read_replay", "write_replay"]

#: Of the file beside a model's weights.
REPLAY_SUFFIX = ".replay"
_STEPS = 255


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """Encoded patches with their labels.

    Attributes
    ----------
    features
        (n, C, h, w) uint8, in steps of ``scale`` from ``least``: as much as one answer needs.
    scale, least
        (C,) float32.
    labels
        (n,) int64: 0 normal, 1 tumour.
    lower_sha256
        Of the layers that encoded them; see :func:`~napari_metastasis.models.tuning.lower_sha256`.
    source
        What they were cut from, in words.
    """

    features: npt.NDArray[np.uint8]
    scale: npt.NDArray[np.float32]
    least: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    lower_sha256: str
    source: str

    @classmethod
    def of(cls, features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], sha256: str, source: str) -> Replay:
        """Return features, (n, C, h, w), each channel in as many steps as a byte has."""
        least, most = features.min(axis=(0, 2, 3)), features.max(axis=(0, 2, 3))
        scale = np.maximum(most - least, np.finfo(np.float32).tiny) / _STEPS
        # Laid out as they are read from a file: convolutions round otherwise by how their images lie in memory.
        steps = np.rint((features - least[:, None, None]) / scale[:, None, None]).astype(np.uint8, order="C")
        return cls(steps, scale.astype(np.float32), least.astype(np.float32), labels, sha256, source)

    @property
    def sha256(self) -> str:
        """Return a hash of the patches."""
        digest = hashlib.sha256(self.lower_sha256.encode())
        for array in (self.features, self.scale, self.least, self.labels):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return the features of some, N x C x h x w float32."""
        return torch.from_numpy(
            self.features[rows] * self.scale[:, None, None] + self.least[:, None, None].astype(np.float32)
        )


def write_replay(path: Path, replay: Replay) -> None:
    """Write patches beside a model's weights.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(getattr(replay, name)))
        for name in ("features", "scale", "least", "labels")
    }
    told = {"replay": json.dumps({"lower_sha256": replay.lower_sha256, "source": replay.source})}
    with atomic_write(path) as stream:
        stream.write(save(tensors, metadata=told))


def read_replay(path: Path) -> Replay | None:
    """Return the patches beside a model's weights; ``None`` where there is no such file.

    Raises
    ------
    WeightsError
        If the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            told: dict[str, Any] = json.loads((file.metadata() or {})["replay"])
            features, scale, least, labels = map(file.get_tensor, ("features", "scale", "least", "labels"))
        count, channels = features.shape[:2]
        kinds = (features.dtype, features.ndim, scale.shape, least.shape, labels.shape)
        if (
            not count
            or kinds != (np.uint8, 4, (channels,), (channels,), (count,))
            or not (np.isfinite(scale).all() and np.isfinite(least).all() and np.isin(labels, (0, 1)).all())
        ):
            raise ValueError("tensors that do not fit together")
        return Replay(features, scale, least, labels, str(told["lower_sha256"]), str(told["source"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"expected the encoded patches of a model, got {first_line(error)} in {path}; fetch the model again, or "
            "move the file away to retrain without them"
        ) from error
