"""Fetch published weights once, check them, and keep them for every later run."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from napari_metastasis.errors import WeightsError
from napari_metastasis.storage import atomic_write, storage_errors

__all__ = ["PublishedWeights", "fetch_weights", "weights_folder"]

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """A file of weights that somebody else publishes.

    Attributes
    ----------
    url
        Address of the file.
    sha256
        Its SHA-256, all 64 digits.
    """

    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Return the last part of the address."""
        return self.url.rpartition("/")[2]


def weights_folder() -> Path:
    """Return where fetched weights are kept for this user."""
    return Path(platformdirs.user_cache_dir("napari-metastasis", appauthor=False)) / "weights"


def fetch_weights(
    published: PublishedWeights, *, folder: Path, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Return the local file of published weights; fetch it if it is not there.

    It is not executed, and appears under its name only if its hash is right.

    Parameters
    ----------
    published
        What to fetch.
    folder
        Where it is kept; made if it is missing.
    progress
        Called with (bytes fetched, bytes in all); 0 in all where the server does not say.

    Raises
    ------
    WeightsError
        If the server cannot be reached or sends something else.
    StorageError
        If the folder cannot be written.
    """
    path = folder / published.file_name
    by_hand = f"fetch {published.url} on a machine with a network and give the file's path instead"
    if path.exists():
        with storage_errors(path), path.open("rb") as kept:
            found = hashlib.file_digest(kept, "sha256").hexdigest()
        if found == published.sha256:
            return path
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        digest, done = hashlib.sha256(), 0
        for piece, total in _pieces(published.url, by_hand):
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(done, total)
        # Raised inside the block, so that the file is discarded.
        if digest.hexdigest() != published.sha256:
            raise WeightsError(
                f"expected weights with SHA-256 {published.sha256[:12]}…, got {digest.hexdigest()[:12]}… from "
                f"{published.url}; try again, or {by_hand}"
            )
    return path


def _pieces(url: str, by_hand: str) -> Iterator[tuple[bytes, int]]:
    """Yield the file in pieces, each with the whole length; a broken connection is not reported as a disk error."""
    try:
        # The addresses are constants of this package: https, or a test's own server.
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310
            total = int(response.headers.get("Content-Length") or 0)
            while piece := response.read(_CHUNK):
                yield piece, total
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsError(f"expected weights from {url}, got {reason}; {by_hand}") from error
