"""Output of the benchmarks: results as JSON lines on standard output, progress on standard error."""

import sys
from typing import Any

import orjson


def print_line(bench: str, **fields: Any) -> None:
    """Print one result."""
    print(orjson.dumps({"bench": bench, **fields}).decode(), flush=True)


def print_metric(bench: str, metric: str, value: float, unit: str, params: dict[str, Any], *, subject: str) -> None:
    """Print one value with its unit and the parameters of its measurement."""
    print_line(bench, subject=subject, metric=metric, value=value, unit=unit, params=params)


def print_progress(text: str) -> None:
    """Print the current step to standard error."""
    print(text, file=sys.stderr, flush=True)
