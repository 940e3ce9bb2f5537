"""Draws tests/bench/growth.json as deploy/growth/*.svg, with a light and a dark colour scheme. Needs only the standard library.

    python3 tests/bench/growth.py
"""

import json
import math
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 64, 64
STYLE = """
  svg { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
  .paper { fill: #ffffff; } .text { fill: #24292f; } .quiet { fill: #57606a; }
  .grid { stroke: #d8dee4; } .axis { stroke: #8c959f; }
  .a { --c: #0757b5; } .b { --c: #b35900; }
  .line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
  .dot { fill: var(--c); } .span { stroke: var(--c); stroke-width: 6; stroke-opacity: .25; } .name { fill: var(--c); font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117; } .text { fill: #e6edf3; } .quiet { fill: #9aa4af; }
    .grid { stroke: #2a313a; } .axis { stroke: #6e7681; }
    .a { --c: #6cb6ff; } .b { --c: #f0a35e; }
  }
"""


def number(value):
    """A number as text: 50,000; 0.5."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def size(value):
    """A number of bytes as text, in the largest unit that is not larger than the number."""
    for unit, bytes_of in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= bytes_of:
            return f"{value / bytes_of:g} {unit}"
    return f"{value:g} B" if value else "0"


class Scale:
    """Maps values to positions between two ends of an axis."""

    def __init__(self, values, begin, end, log=False, marks=None, show=number):
        self.log, self.show = log, show
        self.marks = marks or (decades(values) if log else steps(max(values)))
        self.low, self.high = self.scaled(min(self.marks)), self.scaled(max(max(self.marks), *values))
        self.begin, self.end = begin, end

    def scaled(self, value):
        return math.log10(value) if self.log else value

    def __call__(self, value):
        return self.begin + (self.end - self.begin) * (self.scaled(value) - self.low) / (self.high - self.low)


def decades(values):
    return [10.0**power for power in range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)]


def steps(most, count=5):
    """Round marks from 0 up to the largest value or the next mark above it."""
    rough = most / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    return [step * n for n in range(math.ceil(most / step) + 1)]


def drawing(title, below, x_label, y_label, x, y, series):
    """One drawing. A series is its name and points (x, median, low, high)."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
        f'<text class="text" x="16" y="26" font-size="15" font-weight="600">{escape(title)}</text>',
        f'<text class="quiet" x="16" y="46" font-size="12">{escape(below)}</text>',
    ]
    for mark in y.marks:
        at = y(mark)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="quiet" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{y.show(mark)}</text>')
    floor = HEIGHT - BOTTOM
    for mark in x.marks:
        at = x(mark)
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{floor}" y2="{floor + 5}"/>')
        parts.append(f'<text class="quiet" x="{at:.1f}" y="{floor + 20}" text-anchor="middle">{x.show(mark)}</text>')
    middle = (TOP + floor) / 2
    parts += [
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>',
        f'<text class="text" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text class="text" transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    for look, (name, points) in zip("ab", series):
        parts += line(look, name if len(series) > 1 else "", points, x, y, first=look == "a")
    return "\n".join([*parts, "</svg>", ""])


def line(look, name, points, x, y, first):
    path = " ".join(f"{x(p):.1f},{y(median):.1f}" for p, median, _, _ in points)
    yield f'<g class="{look}"><polyline class="line" points="{path}"/>'
    for p, median, low, high in points:
        yield f'<line class="span" x1="{x(p):.1f}" x2="{x(p):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"/>'
        yield f'<circle class="dot" cx="{x(p):.1f}" cy="{y(median):.1f}" r="3.5"/>'
    if name:
        # The legend is beside the title, because lines may cover each other at their ends.
        at = WIDTH - RIGHT - (240 if first else 120)
        yield f'<line class="line" x1="{at}" x2="{at + 18}" y1="21" y2="21"/>'
        yield f'<text class="name" x="{at + 24}" y="26">{escape(name)}</text>'
    yield "</g>"


def across(values, **how):
    return Scale(values, LEFT + 12, WIDTH - RIGHT - 12, **how)


def upwards(series, **how):
    values = [value for _, points in series for point in points for value in point[1:]]
    return Scale(values, HEIGHT - BOTTOM, TOP, **how)


def spread(x, figures, factor=1.0):
    return (x, *(figures[key] * factor for key in ("median", "low", "high")))


def connections(figures, below):
    counts = sorted({point["connections"] for point in figures})
    lines = [
        (name, [spread(point["connections"], point["cpu_us"]) for point in figures if point["workers"] == workers])
        for workers, name in ((1, "1 worker"), (2, "2 workers"))
    ]
    return drawing(
        "CPU for a request, by connections in use", below, "connections (up to 64 ask at once)", "µs of CPU",
        across(counts, log=True, marks=counts), upwards(lines), lines)


def memory(figures, below):
    points = [(point["connections"], *[point["resident_bytes"] / 2**20] * 3) for point in figures["points"]]
    lines = [("", points)]
    return drawing(
        "Memory, by connections at rest", below, "idle connections, up to as many as a process may have there", "MiB resident",
        across([point[0] for point in points]), upwards(lines), lines)


def rules(figures, below):
    counts = [point["rules"] for point in figures]
    lines = [("", [spread(point["rules"], point["cpu_us"]) for point in figures])]
    return drawing(
        "CPU for a request, by rules of the policy", below, "rules", "µs of CPU",
        across(counts, log=True, marks=counts), upwards(lines), lines)


def headers(figures, below):
    counts = [point["fields"] for point in figures]
    lines = [("", [spread(point["fields"], point["cpu_us"]) for point in figures])]
    return drawing(
        "CPU for a request, by its fields", below, "fields of some 30 bytes beside Host", "µs of CPU",
        across(counts, marks=counts), upwards(lines), lines)


# A logarithmic scale has no 0. An empty body is drawn at the position of this number of bytes.
EMPTY_BODY = 256


def bodies(figures, below):
    sizes = [point["bytes"] or EMPTY_BODY for point in figures]
    lines = [
        (name, [spread(point["bytes"] or EMPTY_BODY, point[key], 1e-3) for point in figures])
        for name, key in (("to client", "cpu_us_down"), ("to backend", "cpu_us_up"))
    ]
    return drawing(
        "CPU for a request, by the size of its body", below, "size of the body", "ms of CPU",
        across(sizes, log=True, marks=sizes, show=lambda mark: size(mark if mark > EMPTY_BODY else 0)), upwards(lines, log=True), lines)


DRAWINGS = {"connections": connections, "memory": memory, "rules": rules, "headers": headers, "bodies": bodies}


def main():
    folder = ROOT / "deploy/growth"
    folder.mkdir(exist_ok=True)
    record = json.loads((ROOT / "tests/bench/growth.json").read_text())
    for name, draw in DRAWINGS.items():
        if kept := record.get(name):
            below = f"{kept['on']}; {kept['at'][:10]}; medians, the bars reach from least to most"
            (folder / f"{name}.svg").write_text(draw(kept["figures"], below))


if __name__ == "__main__":
    main()
