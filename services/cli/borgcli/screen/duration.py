"""Durations as people write them: 90, 90s, 10m, 1h30m."""

import re

_FORM = re.compile(r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s?)?", re.IGNORECASE)
_UNIT_S = {"h": 3600, "m": 60, "s": 1}
_MAX_S = 10 * 365 * 24 * 3600


def parse_duration(text: str) -> int:
    """Read a duration in seconds.

    Raises:
        ValueError: it is none, or not between one second and ten years.
    """
    found = _FORM.fullmatch(text.strip()) if text.isascii() else None
    parts = {unit: int(digits[:12]) for unit, digits in found.groupdict().items() if digits} if found else {}
    seconds = sum(amount * _UNIT_S[unit] for unit, amount in parts.items())
    if not 0 < seconds <= _MAX_S:
        raise ValueError(f"{text[:40]!r} is no duration; expected seconds or a form such as 90s, 10m or 1h30m")
    return seconds


def format_duration(seconds: float) -> str:
    """Write a duration as hours, minutes and seconds: ``1:02:03``."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}"
