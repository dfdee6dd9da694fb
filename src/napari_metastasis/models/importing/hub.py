"""Models that are published on the hub of Hugging Face, where WSInfer's zoo lies, by their names."""

from __future__ import annotations

import http.client
import os
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from napari_metastasis.errors import ModelError, WeightsError, first_line
from napari_metastasis.models.fetch import PublishedWeights, fetch_weights, weights_folder
from napari_metastasis.plain_json import parse_json
from napari_metastasis.storage import atomic_write, storage_errors

__all__ = ["fetch_from_hub", "hub_address", "is_hub_name"]

#: Where models are fetched from, unless the hub's own variable of the environment names a mirror.
_HUB, _VARIABLE = "https://huggingface.co", "HF_ENDPOINT"
#: Owner and name, and which version.
_NAME = re.compile(r"([\w][\w.-]*/[\w][\w.-]*)(?:@([\w.-]+))?")
_TIMEOUT_S = 30.0
#: Bytes of lists and of small files.
_MOST_BYTES = 1 << 20


def hub_address() -> str:
    """Return the hub's address."""
    return os.environ.get(_VARIABLE, "").rstrip("/") or _HUB


def is_hub_name(source: str) -> bool:
    """Return whether this is how a model on the hub is called: ``owner/name``, with ``@version`` or without."""
    return _NAME.fullmatch(source) is not None


def fetch_from_hub(source: str, wanted: tuple[str, ...], *, progress: Callable[[int, int], None] | None = None) -> Path:
    """Return a folder with the files of a published model; what was fetched before is not fetched again.

    Parameters
    ----------
    source
        ``owner/name`` or ``owner/name@version``.
    wanted
        Files, of which those that there are are fetched; large ones are checked by the hash that the hub states.
    progress
        Of each large file, in bytes.

    Raises
    ------
    ModelError
        If the hub has no such model.
    WeightsError
        If it cannot be reached, or sends something else.
    StorageError
        If the folder cannot be written.
    """
    match = _NAME.fullmatch(source)
    assert match is not None
    name, version = match[1], match[2] or "main"
    hub = hub_address()
    listed = _listed(f"{hub}/api/models/{name}/tree/{urllib.parse.quote(version, safe='')}", source)
    there = {str(entry.get("path")): entry for entry in listed if isinstance(entry, dict)}
    if not any(each in there for each in wanted):
        raise ModelError(
            f"expected {' or '.join(wanted)} in {source} on {hub}, got {first_line(', '.join(there) or 'no file')}; "
            "choose another model"
        )
    # Named by what is in it: another version lies elsewhere.
    marks = "".join(str(there[each].get("oid", "")) for each in wanted if each in there)
    folder = weights_folder() / "hub" / name.replace("/", "--") / (re.sub(r"[^0-9a-f]", "", marks)[:16] or "files")
    for file in wanted:
        if file not in there:
            continue
        url = f"{hub}/{name}/resolve/{urllib.parse.quote(version, safe='')}/{file}"
        large = there[file].get("lfs")
        if isinstance(large, dict) and isinstance(large.get("oid"), str):
            sha256 = large["oid"].removeprefix("sha256:")
            fetch_weights(PublishedWeights(url, sha256), folder=folder, progress=progress)
        else:
            data = _read(url, source)
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(folder / file) as stream:
                stream.write(data)
    return folder


def _listed(url: str, source: str) -> list[Mapping[str, Any]]:
    data = _read(url, source)
    try:
        found = parse_json(data)
    except ValueError as error:
        raise WeightsError(f"expected a list of files from {url}, got {first_line(error)}; try again") from error
    if not isinstance(found, list):
        raise WeightsError(f"expected a list of files from {url}, got {type(found).__name__}; try again")
    return found


def _read(url: str, source: str) -> bytes:
    by_hand = f"or fetch {source} on a machine with a network, and give its folder"
    if not url.startswith(("https://", "http://")):
        raise WeightsError(f"expected {_VARIABLE} to begin with https://, got {url}; correct it, {by_hand}")
    try:
        # http and https alone, as was seen above.
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310
            data: bytes = response.read(_MOST_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if getattr(error, "code", 0) in (401, 403, 404):
            raise ModelError(
                f"expected a model called {source} that anyone may read on {hub_address()}, got {reason}; correct the "
                "name, or give a folder or a file that exists"
            ) from error
        raise WeightsError(
            f"expected an answer from {url}, got {first_line(str(reason))}; try again, {by_hand}"
        ) from error
    if len(data) > _MOST_BYTES:
        raise WeightsError(f"expected at most {_MOST_BYTES} bytes from {url}, got more; {by_hand.removeprefix('or ')}")
    return data
