"""Tables, JSON files and charts of measurements.

A row is a dictionary with a `label`, a `direction` and the `contenders`, each
a record of a `Timing`. `rich` and `matplotlib` are used where they are
installed; the tables are plain text and the charts are left out where not.
"""

import importlib.util
import json
import sys

from benchmarks.measure import (
    GIVE_UP_RATIO,
    REFERENCE,
    SUBJECT,
    geometric_mean,
)

# Okabe and Ito's colours, which most colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("x", "+", "1", "2", "3", "4")
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 25, 100, 1000)


def print_table(title, header, lines):
    """Prints a table; the first column is text, the others are numbers."""
    if importlib.util.find_spec("rich"):
        _print_rich(title, header, lines)
    else:
        print(plain_table(title, header, lines))


def plain_table(title, header, lines):
    """Returns the table as aligned text."""
    widths = [
        max(map(len, column)) for column in zip(header, *lines, strict=True)
    ]

    def aligned(line):
        first, *rest = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(
                zip(line, widths, strict=True)
            )
        )
        return "  ".join([first, *rest])

    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    return "\n".join(
        ["", title, rule, aligned(header), rule, *map(aligned, lines)]
    )


def format_ratio(timing):
    """Returns a ratio as text, marked if it was measured only once.

    Args:
        timing: Record of a `Timing`, or `None` for a peer that cannot run or
            that there is not.
    """
    if timing is None:
        return "-"
    if timing["gave_up"]:
        return f">{GIVE_UP_RATIO:g} ({timing['ratio']:.0f})"
    return f"{timing['ratio']:.2f}"


def direction_means(rows, labels):
    """Returns geometric means of the ratios over the rows with these labels.

    Args:
        rows: Rows of all directions.
        labels: Labels of the rows that count.

    Returns:
        Dictionary of direction to dictionary of contender to mean. A
        direction without such rows is left out.
    """
    means = {}
    for direction in _unique(rows, "direction"):
        counted = [
            row["contenders"]
            for row in rows
            if row["direction"] == direction and row["label"] in labels
        ]
        if counted:
            means[direction] = {
                name: geometric_mean(c[name]["ratio"] for c in counted)
                for name in counted[0]
                if all(name in contenders for contenders in counted)
            }
    return means


def print_ratios(title, rows, in_mean=()):
    """Prints the reference's times and the ratios of the other contenders.

    Args:
        title: Text above the tables, of which there is one a direction.
        rows: Rows of all directions.
        in_mean: Labels of the rows that geometric means are taken over.
    """
    names = [name for name in _contenders(rows) if name != REFERENCE]
    means = direction_means(rows, in_mean)
    for direction in _unique(rows, "direction"):
        lines = [
            [
                row["label"],
                f"{row['contenders'][REFERENCE]['ms']:.2f}",
                *(format_ratio(row["contenders"].get(name)) for name in names),
            ]
            for row in rows
            if row["direction"] == direction
        ]
        if direction in means:
            cells = [
                f"{means[direction][name]:.2f}"
                if name in means[direction]
                else ""
                for name in names
            ]
            count = sum(line[0] in in_mean for line in lines)
            label = f"geometric mean over {count}"
            lines.append([label, "", *cells])
        header = [direction, f"{REFERENCE} ms", *names]
        print_table(title, header, lines)


def print_memory(title, results):
    """Prints peak memory in MiB, absolute and above the reference's.

    Args:
        title: Text above the table.
        results: Dictionaries with `target`, `label` and `contenders`' records.
    """
    lines = []
    for result in results:
        reference = result["contenders"][REFERENCE]
        for name, record in result["contenders"].items():
            lines.append([f"{result['target']}, {result['label']}: {name}"])
            for key in ("peak_mib", "temporary_mib"):
                if record[key] is None:
                    lines[-1] += ["", ""]
                    continue
                above = record[key] - reference[key]
                lines[-1] += [f"{record[key]:.0f}", f"{above:+.0f}"]
    above = f"above {REFERENCE}"
    header = ["MiB", "peak", above, "compiler's temporaries", above]
    print_table(title, header, lines)


def save(record, path, draw=None):
    """Writes a JSON file, and a PNG file if there is something to draw.

    Args:
        record: What `session.record` returned.
        path: Where to, without the ending.
        draw: Function of a path that draws the chart.

    Returns:
        List of the paths written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = [path.with_name(f"{path.name}.json")]
    paths[0].write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    if draw and importlib.util.find_spec("matplotlib"):
        paths.append(path.with_name(f"{path.name}.png"))
        draw(paths[1])
    for written in paths:
        print(f"wrote {written}")
    return paths


def draw_ratios(path, title, results):
    """Draws a panel a direction, with a bar for every row and target.

    The bars show the subject; marks over, in or under a bar show its peers.

    Args:
        path: PNG file to write.
        title: Text above each panel, before the direction.
        results: Dictionaries with `target` and `rows`.
    """
    from matplotlib.figure import Figure

    rows = [row for result in results for row in result["rows"]]
    directions, all_labels = _unique(rows, "direction"), _unique(rows, "label")
    figure = Figure(
        figsize=(max(7, 1.1 * len(all_labels)), 1 + 3.6 * len(directions)),
        layout="constrained",
    )
    panels = figure.subplots(len(directions), squeeze=False)[:, 0]
    width = 0.8 / len(results)
    for panel, direction in zip(panels, directions, strict=True):
        labels = _unique(
            [row for row in rows if row["direction"] == direction], "label"
        )
        for index, result in enumerate(results):
            _draw_bars(
                panel,
                result["target"],
                [r for r in result["rows"] if r["direction"] == direction],
                {
                    label: place + width * (index - (len(results) - 1) / 2)
                    for place, label in enumerate(labels)
                },
                width,
                COLOURS[index % len(COLOURS)],
            )
        _draw_axes(panel, f"{title}: {direction}", labels)
    handles, names = panels[0].get_legend_handles_labels()
    legend = dict(zip(names, handles, strict=True))
    figure.legend(
        legend.values(),
        legend.keys(),
        loc="outside upper center",
        ncols=max(2, len(all_labels) // 3),
    )
    figure.savefig(path, dpi=130)


def _draw_bars(panel, target, rows, places, width, colour):
    def points(name):
        able = [row for row in rows if name in row["contenders"]]
        return (
            [places[row["label"]] for row in able],
            [row["contenders"][name]["ratio"] for row in able],
        )

    x, ratios = points(SUBJECT)
    heights = [ratio - 1 for ratio in ratios]
    name = f"{SUBJECT}, {target}"
    panel.bar(x, heights, width, bottom=1, color=colour, label=name)
    peers = sorted(set(_contenders(rows)) - {REFERENCE, SUBJECT})
    for peer, marker in zip(peers, MARKERS, strict=False):
        panel.plot(*points(peer), marker, color="black", label=peer)


def _draw_axes(panel, title, labels):
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.axhline(1, color="black", linewidth=1)
    panel.grid(axis="y", alpha=0.3)
    panel.set_axisbelow(True)
    panel.set_ylabel(f"time / {REFERENCE}")
    panel.set_title(title)
    panel.set_xticks(
        range(len(labels)), [label.replace(" ", "\n") for label in labels]
    )


def _contenders(rows):
    return list(
        dict.fromkeys(name for row in rows for name in row["contenders"])
    )


def _unique(rows, key):
    return list(dict.fromkeys(row[key] for row in rows))


def _print_rich(title, header, lines):
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right")
    for line in lines:
        table.add_row(*line)
    # A file has no width that a table would have to fit into.
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(table)
