"""What two scans of a slide must have alike, byte for byte, whoever made them."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["result_bytes"]

#: What says of a record who made it, and when.
_OF_THE_RUN = ("versions", "machine", "scans")
#: Its page says when it was made.
_DATED = ("report.html", "overview.png")


def result_bytes(folder: Path) -> dict[str, bytes]:
    """Return every file of a result folder by its name, the record without what a run alone decides."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name in _DATED:
            continue
        found[name] = path.read_bytes()
        if path.name == "journal.jsonl" and not name.startswith("heatmap"):
            # A block of a later pass is answered as soon as what it reads is there, and that is all at once here.
            found[name] = b"\n".join(sorted(found[name].splitlines()))
        if name == "run.json":
            record = json.loads(found[name])
            kept = {key: value for key, value in record.items() if key not in _OF_THE_RUN}
            kept["shown"].pop("at")
            found[name] = json.dumps(kept, sort_keys=True).encode()
    return found
