"""Dates for people: in English, whatever language the desktop speaks, since so are the words around them."""

from __future__ import annotations

from datetime import datetime

__all__ = ["day_text", "moment_text"]

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day_text(at: datetime) -> str:
    """Return a day without its year: "28 Nov"."""
    return f"{at.day} {_MONTHS[at.month - 1]}"


def moment_text(at: datetime) -> str:
    """Return a date with its time, and what its clock is ahead of Greenwich: "28 Nov 2026, 14:03 UTC+01:00"."""
    offset = at.strftime("%z")
    clock = f"UTC{'' if int(offset) == 0 else f'{offset[:3]}:{offset[3:5]}'}" if offset else ""
    return f"{day_text(at)} {at.year}, {at.hour:02}:{at.minute:02} {clock}".rstrip()
