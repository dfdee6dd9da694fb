"""Crops that a finished encoder encodes once, so that what reads its features learns from them again and again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_metastasis.errors import ScanCancelledError, TrainingError
from napari_metastasis.plain_json import read_json
from napari_metastasis.sampling.batches import BatchSource, PatchBatch
from napari_metastasis.storage import atomic_text, atomic_write, storage_errors
from napari_metastasis.training.augment import Augmenter

__all__ = ["AlreadyEncoded", "EncodedBatches", "Encoding", "WithLogOdds", "encode_batches"]

_FEATURES, _LABELS, _RECORD = "features.npy", "labels.npy", "encoded.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How crops are encoded.

    Attributes
    ----------
    folder
        Where what is encoded lies; what lies there of the same crops is used again.
    crops
        How many.
    augment
        Varies them before; ``None`` encodes them as they are.
    identity
        What decides, besides the crops, what they are encoded as: encoder and variations, as plain values.
    seed
        Of their order, which is another in every round; ``None`` for those that are measured on, which stay in order.
    device
        Where the encoder runs.
    progress
        Called with (done, total) crops after every batch.
    should_stop
        Asked before every batch.
    """

    folder: Path
    crops: int
    augment: Augmenter | None
    identity: Mapping[str, Any]
    seed: int | None
    device: str
    progress: Callable[[int, int], None]
    should_stop: Callable[[], bool]


class WithLogOdds(nn.Module):
    """What a finished model encodes, its log-odds before its features.

    Parameters
    ----------
    encoder
        From crops, N x 3 x H x W in 0..255, to log-odds, N x K x K, and features, N x K x K x C.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> Tensor:
        """Return both, N x K x K x (1 + C)."""
        log_odds, hidden = self.encoder(image)
        return torch.cat([log_odds[..., None], hidden], dim=-1)


class AlreadyEncoded(nn.Module):
    """Stands for the encoder where what arrives is what :class:`WithLogOdds` made."""

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-odds, N x K x K, and features, N x K x K x C, of N x (1 + C) x K x K."""
        return encoded[:, 0], encoded[:, 1:].permute(0, 2, 3, 1)


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, number: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, number]).permutation(count)


# Told apart by identity, as other sources that hold arrays.
@dataclass(frozen=True, eq=False)
class EncodedBatches:
    """Batches of encoded crops.

    Attributes
    ----------
    folder
        Where they lie.
    batch_size
        Crops in one batch.
    batches_per_epoch
        After how many batches the model is measured and stored.
    fingerprint
        SHA-256 over what decides the crops.
    seed
        Of their order: every crop comes once before any comes again. ``None`` takes them as they lie.
    """

    folder: Path
    batch_size: int
    batches_per_epoch: int
    fingerprint: str
    seed: int | None

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``: float16 of (n, rows, columns, features) for images."""
        places = np.arange(number * self.batch_size, (number + 1) * self.batch_size)
        rounds, rows = np.divmod(places, len(self._labels))
        if self.seed is not None:
            rows = np.array([self._row(int(number), int(place)) for number, place in zip(rounds, rows, strict=True)])
        # Copies: what lies on the disk is not to be written.
        return PatchBatch.labelled(self._features[rows], self._labels[rows].astype(np.int64))

    def _row(self, number: int, place: int) -> int:
        assert self.seed is not None
        return int(_shuffled(len(self._labels), self.seed, number)[place])

    @cached_property
    def _features(self) -> npt.NDArray[np.float16]:
        return np.load(self.folder / _FEATURES, mmap_mode="r", allow_pickle=False)

    @cached_property
    def _labels(self) -> npt.NDArray[np.int8]:
        return np.load(self.folder / _LABELS, allow_pickle=False)


def encode_batches(encoder: nn.Module, source: BatchSource, batch_size: int, how: Encoding) -> EncodedBatches:
    """Encode the first crops of a source, and return batches of them; an epoch is as long as the source's.

    Parameters
    ----------
    encoder
        From crops, N x 3 x H x W in 0..255, to features, N x rows x columns x C.
    source
        Crops.
    batch_size
        Of the source, and of what is returned.
    how
        How many, how, and where to.

    Raises
    ------
    TrainingError
        If the crops do not fill one batch.
    ScanCancelledError
        If ``how`` said so; nothing is kept of them.
    StorageError
        If the folder cannot be written.
    """
    batches = how.crops // batch_size
    if not batches:
        raise TrainingError(
            f"expected crops for at least one batch of {batch_size}, got {how.crops}; keep more, or lower the batch "
            "size"
        )
    told = [source.fingerprint, batches, how.augment is not None, how.seed, how.identity]
    fingerprint = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    with storage_errors(how.folder):
        how.folder.mkdir(parents=True, exist_ok=True)
        if _recorded(how.folder) != fingerprint:
            (how.folder / _RECORD).unlink(missing_ok=True)
            _encode(encoder.to(how.device), source, batches, how)
            with atomic_text(how.folder / _RECORD) as file:
                json.dump({"fingerprint": fingerprint}, file)
    return EncodedBatches(how.folder, batch_size, source.batches_per_epoch, fingerprint, how.seed)


def _recorded(folder: Path) -> str | None:
    """Return of which crops all is encoded in a folder; ``None`` where not all is."""
    try:
        found = read_json(folder / _RECORD)["fingerprint"]
        # A file that was cut short is no file of these crops.
        np.load(folder / _FEATURES, mmap_mode="r", allow_pickle=False)
        np.load(folder / _LABELS, allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return str(found)


def _encode(encoder: nn.Module, source: BatchSource, batches: int, how: Encoding) -> None:
    labels = []
    with atomic_write(how.folder / _FEATURES) as file:
        for number in range(batches):
            if how.should_stop():
                raise ScanCancelledError("expected to encode every crop, but was stopped; the same command begins anew")
            batch = source.batch(number)
            images = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float().to(how.device)
            if how.augment is not None:
                images = how.augment(images / 255, number) * 255
            with torch.no_grad():
                features = encoder(images).half().cpu().numpy()
            if number == 0:
                shape = (batches * len(features), *features.shape[1:])
                np.lib.format.write_array_header_2_0(
                    file, {"descr": features.dtype.str, "fortran_order": False, "shape": shape}
                )
            file.write(features.tobytes())
            labels.append(batch.labels.astype(np.int8))
            how.progress((number + 1) * len(features), batches * len(features))
    with atomic_write(how.folder / _LABELS) as file:
        np.save(file, np.concatenate(labels))
