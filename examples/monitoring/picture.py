#!/usr/bin/env python3
"""Draw dashboard.json without Grafana: its panels and their layout, with data from a Prometheus server.

    pip install matplotlib
    python3 picture.py --prometheus http://127.0.0.1:9090 --minutes 5 --out dashboard.png
"""
import argparse
import json
import pathlib
import re
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK, PAPER, PANEL = "#d8d9da", "#111217", "#181b1f"
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#e0b400", "#3274d9", "#c4162a"]


def series(prometheus, expression, start, end, step):
    query = urllib.parse.urlencode({"query": expression, "start": start, "end": end, "step": step})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{query}") as answer:
        return json.load(answer)["data"]["result"]


def legend(template, labels):
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template)


def shown(value, unit):
    if unit == "s":
        for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return "0"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    if unit == "percentunit":
        return f"{value:.1%}"
    return f"{value:.3g}" + (" /s" if unit == "reqps" else "")


def draw(axes, panel, args, start, end):
    defaults = panel["fieldConfig"]["defaults"]
    unit, lines = defaults["unit"], []
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "30s").replace("$instance", ".+")
        for found in series(args.prometheus, expression, start, end, args.step):
            values = {float(at): float(value) for at, value in found["values"] if value != "NaN"}
            lines.append((legend(target["legendFormat"], found["metric"]), values))
    times = [start + args.step * number for number in range(int((end - start) / args.step) + 1)]
    near = lambda values, at: values.get(at, values.get(float(f"{at:.3f}"), float("nan")))
    clock = [(at - end) / 60 for at in times]
    lines.sort(key=lambda line: -max(line[1].values(), default=0))
    if "stacking" in defaults.get("custom", {}) and lines:
        stack = [[0 if near(values, at) != near(values, at) else near(values, at) for at in times] for _, values in lines]
        axes.stackplot(clock, stack, labels=[name for name, _ in lines], colors=COLOURS, alpha=0.6)
    else:
        for (name, values), colour in zip(lines, COLOURS):
            drawn = [near(values, at) for at in times]
            axes.plot(clock, drawn, label=name, color=colour, linewidth=1.3)
    if not lines:
        axes.text(0.5, 0.5, "No data", transform=axes.transAxes, color="#8e8e8e", ha="center", va="center")
    axes.set_title(panel["title"], loc="left", color=INK, fontsize=10, pad=6)
    axes.set_facecolor(PANEL)
    axes.set_xlim(clock[0], 0)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
    if axes.get_ylim()[1] <= 0 or not any(max(values.values(), default=0) for _, values in lines):
        axes.set_ylim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit)))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} min" if value else "now"))
    axes.tick_params(colors="#9fa1a5", labelsize=7, length=0)
    axes.grid(color="#2c3235", linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if lines:
        columns = 2 if len(lines) > 3 else len(lines)
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.11), ncol=columns, fontsize=6.5, frameon=False,
                    labelcolor=INK, handlelength=1, columnspacing=1, borderaxespad=0)


def main():
    here = pathlib.Path(__file__).parent
    options = argparse.ArgumentParser()
    options.add_argument("--prometheus", default="http://127.0.0.1:9090")
    options.add_argument("--dashboard", default=here / "dashboard.json")
    options.add_argument("--minutes", type=float, default=5)
    options.add_argument("--step", type=float, default=5)
    options.add_argument("--out", default="dashboard.png")
    args = options.parse_args()
    dashboard = json.loads(pathlib.Path(args.dashboard).read_text())
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    inches = 0.34
    figure = plt.figure(figsize=(18, height * inches + 0.6), facecolor=PAPER)
    total = height + 0.6 / inches
    end = int(time.time() / args.step) * args.step
    start = end - args.minutes * 60
    figure.text(0.012, 1 - 0.9 / total, dashboard["title"], color="white", fontsize=15, weight="bold", va="center")
    for panel in panels:
        place = panel["gridPos"]
        left, top = place["x"] / 24, place["y"] + 0.6 / inches
        if panel["type"] == "row":
            figure.text(0.012, 1 - (top + 0.6) / total, panel["title"], color=INK, fontsize=11, weight="bold", va="center")
            continue
        width, tall = place["w"] / 24, place["h"]
        card = plt.Rectangle((left + 0.004, 1 - (top + tall - 0.1) / total), width - 0.008, (tall - 0.2) / total,
                             transform=figure.transFigure, facecolor=PANEL, edgecolor="#2c3235", linewidth=0.8, zorder=-1)
        figure.add_artist(card)
        box = (left + 0.042, 1 - (top + tall - 2.1) / total, width - 0.056, (tall - 3.3) / total)
        draw(figure.add_axes(box), panel, args, start, end)
    figure.savefig(args.out, dpi=75, facecolor=PAPER)


if __name__ == "__main__":
    main()
