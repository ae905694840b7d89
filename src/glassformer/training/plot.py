"""The loss of a run as a picture: a PNG file, and a few lines of text for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glassformer.files import whole_file

Points = list[tuple[int, float]]
BARS = "▁▂▃▄▅▆▇█"


def curves(rows: list[dict[str, Any]]) -> tuple[Points, Points]:
    """Step and loss of the training and of the validation rows of a log."""
    training = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    validation = [(row["step"], row["val_loss"]) for row in rows if "val_loss" in row]
    return training, validation


def save_png(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw both curves into a PNG file. Raises DiskError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    training, validation = curves(rows)
    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*training, strict=True), color="#9db7d5", linewidth=1.2, label="training")
    if validation:
        axes.plot(*zip(*validation, strict=True), color="#c44e52", marker="o", markersize=4, label="validation")
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    with whole_file(path) as draft:
        FigureCanvasAgg(figure).print_png(draft)


def sparkline(points: Points, width: int = 60) -> str:
    """The curve as one line of text, at most `width` characters: high bars are high losses."""
    if not points:
        return ""
    values = [value for _, value in points]
    if len(values) > width:
        values = [values[index * len(values) // width] for index in range(width)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in values)


def terminal_plot(rows: list[dict[str, Any]]) -> str:
    """Both curves as lines of text, with where they begin and end."""
    lines: list[str] = []
    for name, points in zip(("training", "validation"), curves(rows), strict=True):
        if points:
            lines.append(f"{name:>10} {points[0][1]:7.4f} {sparkline(points)} {points[-1][1]:.4f}")
    return "\n".join(lines)
