"""Draw the learning curves that bench.pong measured, as SVG.

    python -m bench.curve bench/results/pong.jsonl > docs/pong.svg
    python -m bench.curve --x transitions bench/results/breakout*.jsonl > docs/breakout.svg

One line per file and seed: the mean return over the newest 20 training episodes.
"""

import argparse
import math
import sys
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import Any

import orjson

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 320, 50, 692, 20, 280  # pixels: the picture, then its axes
COLOURS = ("#2a6fdb", "#c0392b", "#27864a", "#8e44ad", "#b7791f", "#444444")
TICKS = 6  # at most, per axis

Curve = list[tuple[float, float]]


def main() -> None:
    """Read the results, print the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="files of JSON lines that bench.pong printed")
    parser.add_argument("--x", choices=("minutes", "transitions"), default="minutes", help="axis (default: minutes)")
    options = parser.parse_args()
    curves: dict[str, Curve] = defaultdict(list)
    for path in options.results:
        for line in path.read_bytes().splitlines():
            point: dict[str, Any] = orjson.loads(line)
            if point["metric"] == "curve":
                curves[f"{path.stem}, seed {point['seed']}"].append((point[options.x], point["mean_return_20"]))
    if not curves:
        raise SystemExit(f"{', '.join(map(str, options.results))}: no line with the metric curve; nothing was drawn")
    sys.stdout.write(draw(curves, options.x))


def draw(curves: dict[str, Curve], x_name: str) -> str:
    """Return the picture as SVG."""
    points = [point for curve in curves.values() for point in curve]
    most_x = max(x for x, _ in points)
    least_y, most_y = min(y for _, y in points), max(y for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        share = (y - least_y) / ((most_y - least_y) or 1.0)
        return round(LEFT + (RIGHT - LEFT) * x / most_x, 1), round(BOTTOM - (BOTTOM - TOP) * share, 1)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" fill="#444">',
        "<style>text {font: 12px sans-serif}</style>",
        f"<title>Mean return over the newest 20 episodes against {x_name}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for value in round_values(least_y, most_y):
        _, y = place(0.0, value)
        lines += [
            f'<path d="M{LEFT} {y}H{RIGHT}" stroke="#ddd"/>',
            f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:,g}</text>',
        ]
    for value in round_values(0.0, most_x):
        x, _ = place(value, least_y)
        lines.append(f'<text x="{x}" y="{BOTTOM + 20}" text-anchor="middle">{value:,.7g}</text>')
    lines.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{x_name}</text>')
    for index, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join("{},{}".format(*place(x, y)) for x, y in curve)
        lines += [
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>',
            f'<text x="{LEFT + 8}" y="{TOP + 16 + 16 * index}" fill="{colour}">{name}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def round_values(least: float, most: float) -> list[float]:
    """Return at most TICKS axis values: multiples of the smallest fitting step of 1, 2 or 5 times a power of ten."""
    steps = (digit * 10.0**power for power in count(int(math.log10((most - least) or 1.0)) - 2) for digit in (1, 2, 5))
    step = next(step for step in steps if most // step - math.ceil(least / step) < TICKS)
    return [step * multiple for multiple in range(math.ceil(least / step), int(most // step) + 1)]


if __name__ == "__main__":
    main()
