"""Says in the window what the core says on the command line: in plain sentences, and with the window's own controls.

The core's lines have one form, "expected A, got B; remedy" or "expected A, but B; remedy". A line that this form does
not suit says itself how the window puts it: see :meth:`~napari_metastasis.errors.MetastasisError.in_window`.
"""

from __future__ import annotations

import re

__all__ = ["for_window"]

_LINE = re.compile(r"expected (?P<wanted>.+?), (?P<how>got|but) (?P<found>.+?)(?:; (?P<remedy>.+))?")
#: Controls of the panel for the command-line options that the core's messages name.
_CONTROLS = {
    "with --output": "under Advanced › Folder",
    "choose --device": "choose Device",
    "choose --engine": "choose Advanced › Engine",
    "choose --precision": "choose Advanced › Precision",
    "choose a smaller --roi-px": "choose a smaller Advanced › Piece size",
    "scan with --dense-coefficient": "scan with Advanced › Detail",
    "scan with --stain as-is": "scan with Advanced › Stain as it is",
    "scan with --stain auto": "scan with Advanced › Stain automatic",
    "for --stain normalise": "to scan the stain as dense as in training",
    "as --precision, or --engine torch": "under Advanced › Precision, or PyTorch under Advanced › Engine",
}
#: An option and its value, and the "or" that joins it to what can be done in the window.
_OPTION = r"--[a-z][\w-]*(?: (?!or\b)[\w.:-]+)?"
_OPTION_FIRST = re.compile(rf"{_OPTION}(?: on the command line)?,? or ")
_COMMAND = re.compile(r"--[a-z]|napari-metastasis|pip install|the same command|\bon the command line\b")
_ARTICLE = re.compile(r"^(?:an?|the|some|any) ")
_TO = re.compile(r"^(?P<what>.+?) to (?P<act>be|state|name|run|have|hold|write|lie)\b ?(?P<rest>.*)$")
_STATES = {"be": "be", "have": "have"}


def for_window(line: str) -> str:
    """Return a line of the core as the window says it.

    Parameters
    ----------
    line
        An error, a warning or a note; one of another form than the house's stays as it is, without advice for the
        command line.
    """
    line = " ".join(line.split())
    for option, control in _CONTROLS.items():
        line = line.replace(option, control)
    line = line.replace(" in napari", "")
    match = _LINE.fullmatch(_OPTION_FIRST.sub("", line))
    if match is None and not _COMMAND.search(line):
        return line
    if match is None:
        first, *rest = line.split("; ")
        return _sentences(_without_commands(first) or first, "; ".join(rest))
    say = _but if match["how"] == "but" else _got
    return _sentences(say(match["wanted"], match["found"]), match["remedy"] or "")


def _got(wanted: str, found: str) -> str:
    """Return what is told of "expected A, got B"."""
    found, _, so = found.partition(": ")
    so = f": {so}" if so else ""
    none = re.match(r"(?:none|no \w+)(?P<rest>.*)$", found)
    if wanted.startswith("to "):
        return f"could not {wanted[3:]}: {found}{so}"
    if none:
        return f"there is no {_ARTICLE.sub('', wanted)}{none['rest']}{so}"
    act = _TO.match(wanted)
    if act and act["act"] in _STATES:
        return f"{act['what']} has to {act['act']} {act['rest']}, and is {found}{so}"
    if act:
        return f"{act['what']} cannot {act['act']} {act['rest']}: {found}{so}"
    together = ", " if "," in found else " "
    return f"found {found}{together}instead of {wanted}{so}"


def _but(wanted: str, found: str) -> str:
    """Return what is told of "expected A, but B"."""
    act = _TO.match(wanted)
    if act and found == "it does not":
        return f"{act['what']} does not {act['act']} {act['rest']}"
    if re.match(r"(?:its |their |no |another |it is full)", found) and not wanted.startswith("to "):
        return f"there is no {_ARTICLE.sub('', wanted)}: {found}"
    if found.startswith("it "):
        return f"{wanted} {found[3:]}"
    named = re.search(r"[\w-]+\.[a-z]\w*", wanted)
    # What failed must be named.
    return found if named is None or named[0] in found else f"{named[0]}: {found}"


def _sentences(said: str, remedy: str) -> str:
    """Return what happened and what to do, as sentences."""
    left = _without_commands(remedy)
    return " ".join(f"{_begun(one)}{'' if one.endswith(('.', '…')) else '.'}" for one in (said, left) if one)


def _without_commands(advice: str) -> str:
    """Return advice without what can only be done on the command line."""
    ways = re.split(r"; |, or |, then ", advice)
    if not any(_COMMAND.search(way) for way in ways):
        return advice
    return ", or ".join(way for way in ways if not _COMMAND.search(way))


def _begun(text: str) -> str:
    """Return text with a capital, unless it begins with the name of a file, which has its own."""
    first = text.split(" ", 1)[0].rstrip(":,")
    return text if re.search(r"[./\\_\d]", first) else text[:1].upper() + text[1:]
