"""The tables of benchmarks/README.md, from the records in its results/.

`python -m docs.tables` writes them into the page, as into those of docs/.
"""

import json
import math
import pathlib

from benchmarks.awconv import SHAPES
from benchmarks.implementations import TOLERANCE
from benchmarks.measure import REFERENCE, SUBJECT
from benchmarks.report import format_ratio
from zoo.publishing import table

RESULTS = pathlib.Path(__file__).parents[1] / "benchmarks" / "results"

#: Geometric means of ratios that the layer was to reach, on a CPU.
_LAYER_AIMS = {
    ("jax jit", "forward"): 1.5,
    ("jax jit", "forward + backward"): 1.1,
    ("tensorflow graph", "forward"): 1.9,
    ("tensorflow graph", "forward + backward"): 2.0,
    ("tensorflow xla", "forward"): 1.9,
    ("tensorflow xla", "forward + backward"): 1.9,
}
_WORST_AIM = 5.0

#: The same of networks and detectors, by the beginning of the label.
_NETWORK_AIMS = {
    ("ResNet-20", "training step", "jax jit"): 1.4,
    ("ResNet-20", "training step", "tensorflow graph"): 2.0,
    ("ResNet-20", "training step", "tensorflow xla"): 2.0,
    **{
        (label, direction, target): aim
        for label, direction, aim in (
            ("ResNet-50, 1×", "inference step", 1.25),
            ("ResNet-50, 8×", "inference step", 1.5),
            ("ResNet-50, 8×", "training step", 1.7),
        )
        for target in ("tensorflow graph", "tensorflow xla", "jax jit")
    },
    ("Faster R-CNN", "training step", "tensorflow graph"): 1.3,
    ("Faster R-CNN", "inference step", "tensorflow graph"): 1.2,
}
_MEMORY_AIMS = {"jax jit": 100, "tensorflow xla": 100}  # MiB above plain


def benchmark_layer():
    """Ratio and milliseconds of every shape."""
    return _each("awconv-?pu-*.json", _layer)


def benchmark_networks():
    """Ratios of whole networks and of their peers."""
    return _each("networks-?pu-*.json", _steps)


def benchmark_detection():
    """Ratios of detectors, and of the Model Garden's own."""
    return _each("detection-?pu-*.json", _steps)


def benchmark_memory():
    """Peak memory, and in brackets the compiler's temporaries, in MiB."""
    return _each("awconv-memory-*.json", _memory)


def benchmark_choice():
    """For how many shapes `auto` chooses what is fastest, and the others."""
    return _each("implementations-?pu-*.json", _choices)


def benchmark_aims():
    """What was aimed at on a CPU, and what was measured."""
    lines = [
        (name, f"{aim:g}", measured, "missed" if missed else "reached")
        for name, aim, measured, missed in (
            *(_compared(*aim) for aim in _ratio_aims()),
            *_memory_aims(),
        )
    ]
    return table.markdown(("", "aim:", "measured:", ""), lines)


def _each(pattern, tabulate):
    paths = sorted(RESULTS.glob(pattern))
    parts = []
    for path in paths:
        record = json.loads(path.read_text("utf-8"))
        parts += [_origin(record), tabulate(record)]
        if (chart := path.with_suffix(".png")).exists():
            parts.append(f"![ratios](results/{chart.name})")
    return "\n\n".join(parts)


def _records(pattern):
    for path in sorted(RESULTS.glob(pattern)):
        yield from json.loads(path.read_text("utf-8"))["results"]


def _origin(record):
    """Where, when and how something was measured."""
    machine = record["machine"]
    device = record["results"][0]["device_kind"]
    where = f"{machine['processor']}, {machine['cores']} cores"
    versions = [f"Python {machine['python']}"]
    versions += [" ".join(pair) for pair in record["versions"].items()]
    return (
        f"{where if device == 'cpu' else device}, {', '.join(versions)}; "
        f"{record['dtype']}, seed {record['seed']}, "
        f"{record['effort']['rounds']} rounds, {record['date'][:10]}: "
        f"`{record['command']}`."
    )


def _target(result):
    return result["target"].partition(",")[0]


def _layer(record):
    """A row a shape; a cell has both directions."""
    columns = [
        {(r["label"], r["direction"]): r["contenders"] for r in result["rows"]}
        for result in record["results"]
    ]
    labels = list(dict.fromkeys(label for label, _ in columns[0]))
    directions = list(dict.fromkeys(d for _, d in columns[0]))
    lines = [
        (label, *(_both(column, label, directions) for column in columns))
        for label in labels
    ]
    means = [
        " / ".join(
            f"{result['geometric_means'][d][SUBJECT]:.2f}" for d in directions
        )
        for result in record["results"]
    ]
    lines.append(
        ("**geometric mean of the first twelve**", *(f"**{m}**" for m in means))
    )
    targets = [f"{_target(result)}:" for result in record["results"]]
    return table.markdown(("shape", *targets), lines)


def _both(column, label, directions):
    cells = [column[label, direction] for direction in directions]
    ratios = " / ".join(format_ratio(cell[SUBJECT]) for cell in cells)
    times = " / ".join(f"{cell[REFERENCE]['ms']:.1f}" for cell in cells)
    return f"{ratios} ({times})"


def _steps(record):
    """A row a network and direction; a column for every contender."""
    rows = [(_target(x), row) for x in record["results"] for row in x["rows"]]
    names = dict.fromkeys(n for _, row in rows for n in row["contenders"])
    del names[REFERENCE]
    lines = [
        (
            *(target, f"{row['label']}, {row['direction']}"),
            f"{row['contenders'][REFERENCE]['ms']:.0f}",
            *(
                format_ratio(row["contenders"][name])
                if name in row["contenders"]
                else ""
                for name in names
            ),
        )
        for target, row in rows
    ]
    header = ("", "", f"{REFERENCE}, ms:", *(f"{name}:" for name in names))
    return table.markdown(header, lines)


def _memory(record):
    names = list(record["results"][0]["contenders"])
    lines = []
    for result in record["results"]:
        found = result["contenders"]
        lines.append(
            (
                f"{_target(result)}, {result['label']}",
                *(_mebibytes(found[name]) for name in names),
                f"{_above(found):+.0f}",
            )
        )
    header = ("", *(f"{name}:" for name in names), f"{SUBJECT} above:")
    return table.markdown(header, lines)


def _mebibytes(measured):
    temporary = measured["temporary_mib"]
    brackets = "" if temporary is None else f" ({temporary:.0f})"
    return f"{measured['peak_mib']:.0f}{brackets}"


def _above(contenders):
    # Never "-0".
    difference = [contenders[n]["peak_mib"] for n in (SUBJECT, REFERENCE)]
    return round(difference[0] - difference[1]) + 0


def _choices(record):
    lines = []
    for result in record["results"]:
        for direction in dict.fromkeys(r["direction"] for r in result["rows"]):
            rows = [r for r in result["rows"] if r["direction"] == direction]
            others = [row for row in rows if row["cost"] > TOLERANCE]
            lines.append(
                (
                    *(_target(result), direction),
                    f"{len(rows) - len(others)} of {len(rows)}",
                    "; ".join(
                        f"{row['label']}: {row['picked']} {row['cost']:.2f} × "
                        f"{row['fastest']}"
                        for row in others
                    ),
                )
            )
    within = f"shapes within {TOLERANCE - 1:.0%}:"
    return table.markdown(("", "direction", within, "the others"), lines)


def _compared(name, aim, ratio):
    return name, aim, f"{ratio:.2f}", round(ratio, 2) > aim


def _ratio_aims():
    """Triples of what, its aim, and the ratio that was measured."""
    results = {_target(x): x for x in _records("awconv-cpu-*.json")}
    for (target, direction), aim in _LAYER_AIMS.items():
        mean = results[target]["geometric_means"][direction][SUBJECT]
        yield f"{target}, {direction}, geometric mean", aim, mean
    worst, name = max(
        (
            row["contenders"][SUBJECT]["ratio"],
            f"{target}, {row['label']}, {row['direction']}",
        )
        for target in {target for target, _ in _LAYER_AIMS}
        for row in results[target]["rows"]
        if row["label"] in map(str, SHAPES)
    )
    yield f"worst of the twelve ({name})", _WORST_AIM, worst
    rows = [
        (_target(result), row)
        for pattern in ("networks-cpu-*.json", "detection-cpu-*.json")
        for result in _records(pattern)
        for row in result["rows"]
    ]
    for (label, direction, of), aim in _NETWORK_AIMS.items():
        for target, row in rows:
            if (direction, of) == (row["direction"], target) and row[
                "label"
            ].startswith(label):
                name = f"{row['label']}, {direction}, {target}"
                yield name, aim, row["contenders"][SUBJECT]["ratio"]


def _memory_aims():
    for result in _records("awconv-memory-cpu-*.json"):
        aim = _MEMORY_AIMS.get(_target(result), math.inf)
        above = _above(result["contenders"])
        if aim < math.inf:
            name = f"MiB above plain, {_target(result)}, {result['label']}"
            yield name, aim, f"{above:.0f}", above > aim


TABLES = (
    *(benchmark_layer, benchmark_networks, benchmark_detection),
    *(benchmark_memory, benchmark_choice, benchmark_aims),
)
