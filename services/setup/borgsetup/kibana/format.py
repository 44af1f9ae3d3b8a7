"""How a number of an event is shown and named, derived from its figure, the unit in its name, and its type.

A figure has as many decimals as in the terminal, so that both show the same number. A field without a figure has its
unit at the end of its name, as all fields have.
"""

import re
from dataclasses import dataclass
from typing import Literal

from borgcore.events.reference import ENVELOPE, list_fields
from borgcore.events.schema import Event

_UNIT = re.compile(r"_(bytes|us|s|seconds)$|_(bytes)_per_[a-z]+$|_per_(?:s|sec)$")
_PRECISION = re.compile(r"\{:,?(?:\.(\d+))?([f%]?)\}")  # in a figure's template
_WORDS = {"bytes": "Bytes", "us": "Microseconds", "s": "Seconds", "seconds": "Seconds"}
_SHARE = "Share of the time"


@dataclass(frozen=True)
class NumberFormat:
    """One of Kibana's formats of a number."""

    id: Literal["number", "percent", "bytes"]
    decimals: int


def number_format(event: type[Event], field: str | None, *, averaged: bool = False) -> NumberFormat | None:
    """Return the format of a field or, for None, of a number of events; None for a time.

    ``averaged`` says that the number is a mean, which may have decimals where the field has none.
    """
    json_type = "integer" if field is None else _json_type(event, field)
    figure = event.figures().get(field or "")
    if json_type == "date":
        return None
    if figure is not None and (found := _PRECISION.search(figure.template)):
        return NumberFormat("percent" if found[2] == "%" else "number", int(found[1] or 0))
    if figure is not None and figure.kind == "share":
        return NumberFormat("percent", 1)
    unit = _find_unit(field or "")
    if unit == "bytes":
        return NumberFormat("bytes", 1)
    if json_type == "integer":
        return NumberFormat("number", int(averaged))
    return NumberFormat("number", 1 if unit else 2)


def axis_title(event: type[Event], field: str | None, label: str) -> str:
    """Return the title of the axis of a field: its unit in words, or ``label`` if it has none."""
    figure = event.figures().get(field or "")
    if figure is not None and figure.kind == "share":
        return _SHARE
    if figure is not None and figure.kind == "rate":
        return in_words(figure.unit.replace("/s", " per second"))
    found = _UNIT.search(field or "")
    return _WORDS[found[1]] if found and found[1] else label


def in_words(name: str) -> str:
    """Return the name of a field as a title."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _find_unit(field: str) -> str:
    """Return the unit at the end of a name: bytes, us, s, seconds, "per second", or nothing."""
    found = _UNIT.search(field)
    return (found[1] or found[2] or "per second") if found else ""


def _json_type(event: type[Event], field: str) -> str:
    return next(one.json_type for one in (*ENVELOPE, *list_fields(event)) if one.name == field)
