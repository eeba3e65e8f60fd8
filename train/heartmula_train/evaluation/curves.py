"""Validation figures of a run: from its TensorBoard logs to a compact table, and to a drawing (SVG)."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Curve = list[tuple[int, float]]  # (step, value)
Curves = dict[str, dict[str, list]]  # of a stage: its figures by name, and "step"

_PREFIX = "validation/"
_MOST_POINTS = 60
_WIDTH, _HEIGHT, _COLUMNS = 300, 170, 3
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 26, 26
_COLOURS = {
    "autoencoder": "#1f6feb",
    "rvq": "#8250df",
    "flow": "#bf5b04",
    "language_model": "#1a7f37",
    "flow_student": "#a40e26",
}


def read_curves(run: Path, stages: list[str]) -> Curves:
    """Validation figures of the stages that have logs, by stage and name."""
    curves: Curves = {}
    for stage in stages:
        folder = run / stage / "logs"
        if not folder.is_dir():
            continue
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        names = [tag for tag in events.Tags()["scalars"] if tag.startswith(_PREFIX)]
        found: dict[str, Curve] = {tag: thinned([(e.step, e.value) for e in events.Scalars(tag)]) for tag in names}
        if found:
            steps = sorted({step for curve in found.values() for step, _ in curve})
            # A figure that a run learned to tell on its way has none before.
            columns = {
                tag.removeprefix(_PREFIX): [dict(curve).get(step) for step in steps] for tag, curve in found.items()
            }
            curves[stage] = {"step": steps, **columns}
    return curves


def thinned(points: Curve) -> Curve:
    """At most 60 points, the last among them, values to five digits."""
    stride = -(-len(points) // _MOST_POINTS)
    kept = points[::-1][:: max(1, stride)][::-1]
    return [(step, float(f"{value:.5g}")) for step, value in kept]


def draw_curves(curves: Curves) -> str:
    """SVG: a panel a figure, steps to the right."""
    panels = [
        (stage, name, [point for point in zip(figures["step"], values, strict=True) if point[1] is not None])
        for stage, figures in curves.items()
        for name, values in figures.items()
        if name != "step"
    ]
    rows = -(-len(panels) // _COLUMNS)
    width, height = _COLUMNS * _WIDTH, rows * _HEIGHT
    drawn = [_panel(i % _COLUMNS * _WIDTH, i // _COLUMNS * _HEIGHT, *panel) for i, panel in enumerate(panels)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
            'font-size="11" fill="#24292f">',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def _panel(x: int, y: int, stage: str, name: str, points: Curve) -> str:
    steps, values = [p[0] for p in points], [p[1] for p in points]
    low, high, last = min(values), max(values), max(1, *steps)
    span = high - low or 1.0
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def place(step: int, value: float) -> str:
        across = _LEFT + (right - _LEFT) * step / last
        down = bottom - (bottom - _TOP) * (value - low) / span
        return f"{across:.1f},{down:.1f}"

    line = " ".join(place(*point) for point in points)
    colour = _COLOURS.get(stage, "#57606a")
    return "\n".join(
        [
            f'<g transform="translate({x} {y})">',
            f'<text x="{_LEFT}" y="16" font-weight="bold">{escape(stage)}: {escape(name)}</text>',
            f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#d0d7de"/>',
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>',
            f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{high:.3g}</text>',
            f'<text x="{_LEFT - 4}" y="{bottom}" text-anchor="end">{low:.3g}</text>',
            f'<text x="{right}" y="{bottom + 15}" text-anchor="end">{last} steps, ends at {values[-1]:.3g}</text>',
            "</g>",
        ]
    )
