"""Which implementation is fastest where: what the automatic rule rests on.

`python -m benchmarks.implementations` times every implementation of the
per-sample convolution inside AWConv2D, over more shapes than the reference
table has, and prints the fastest beside the one that `"auto"` picks.

A gradient may be computed by another implementation than the value, so forward
+ backward is timed for pairs `forward/backward`: the picked forward with every
backward, and every implementation with itself.
"""

from benchmarks import layers, measure, report, session, worker
from benchmarks.awconv import TABLE, parse_shape
from benchmarks.layers import FORWARD, TRAIN, Shape
from benchmarks.measure import SUBJECT

TOLERANCE = 1.1
SHAPES = (
    *TABLE,
    # the rest of ResNet-20 at batch 128
    Shape(128, 32, 16, 16, 3),
    Shape(128, 32, 16, 32, 3, stride=2),
    Shape(128, 16, 32, 32, 3),
    Shape(128, 16, 32, 64, 3, stride=2),
    Shape(128, 8, 64, 64, 3),
    # small batches
    Shape(1, 28, 128, 128, 3),
    Shape(2, 56, 64, 64, 3),
    Shape(2, 14, 256, 256, 3),
    Shape(2, 7, 512, 512, 3),
    # larger kernels, few channels
    Shape(8, 64, 3, 32, 7, stride=2),
    Shape(8, 28, 32, 32, 5),
    Shape(32, 7, 128, 128, 3),
    # strided 1x1
    Shape(8, 56, 64, 128, 1, stride=2),
    # groups
    Shape(8, 28, 128, 128, 3, groups=2),
    Shape(8, 28, 128, 128, 3, groups=32),
    Shape(8, 14, 256, 256, 3, groups=32),
    Shape(8, 14, 256, 256, 1, groups=2),
    # depthwise
    Shape(8, 56, 64, 64, 3, groups=64),
    Shape(8, 28, 128, 128, 3, stride=2, groups=128),
    Shape(64, 14, 256, 256, 3, groups=256),
)


def measure_times(mode, dtype, seed, shapes, effort):
    """Times implementations on the backend of this process.

    Args:
        mode: One of the backend's modes.
        dtype: Name of a dtype policy.
        seed: Seed of weights and data.
        shapes: List of `Shape` fields.
        effort: Keyword arguments of `measure.interleave`.

    Returns:
        List of rows, two a shape: `label`, `direction`, `ms` by name of the
        contender; `picked`, the name that `"auto"` chose; `fastest`; and
        `cost`, how many times the fastest's time the picked one takes.
    """
    import keras

    from aw_keras.ops import IMPLEMENTATIONS

    keras.utils.set_random_seed(seed)
    rows = []
    for shape in (Shape(*fields) for fields in shapes):
        session.progress(f"  {shape}")
        forward, backward = _automatic(shape, dtype, mode, seed)
        pairs = {(forward, name) for name in IMPLEMENTATIONS}
        pairs |= {(name, name) for name in IMPLEMENTATIONS}
        for direction, picked, names in (
            (FORWARD, forward, IMPLEMENTATIONS),
            (TRAIN, f"{forward}/{backward}", map("/".join, sorted(pairs))),
        ):
            steps = {
                name: _make_step(name, shape, direction, dtype, mode, seed)
                for name in names
            }
            timings, _ = measure.interleave(steps, **effort, reference=picked)
            records = {name: t.record() for name, t in timings.items()}
            rows.append(_row(shape, direction, picked, records))
    return rows


def main(command=None):
    options = session.parser(__doc__)
    options.add_argument(
        "--shapes",
        nargs="+",
        type=parse_shape,
        default=SHAPES,
        metavar="SHAPE",
        help="indices of the reference table, or "
        "batch,size,channels,filters,kernel[,stride[,groups]]",
    )
    arguments = options.parse_args(command)
    results = []
    for target in session.targets(arguments):
        rows = worker.call(
            "benchmarks.implementations:measure_times",
            target.backend,
            target.device,
            mode=target.mode,
            dtype=arguments.dtype,
            seed=arguments.seed,
            effort=session.effort(arguments),
            shapes=arguments.shapes,
        )
        for direction in (FORWARD, TRAIN):
            report_rows(target, arguments.dtype, direction, rows)
        results.append({**target.record(), "rows": rows})
    return report.save(
        session.record("implementations", arguments, results),
        arguments.out
        / session.file_name("implementations", arguments, results),
    )


def report_rows(target, dtype, direction, rows):
    """Prints the rows of one direction, and how far `"auto"` is off at most."""
    rows = [row for row in rows if row["direction"] == direction]
    report.print_table(
        f"{target}, {dtype}",
        [direction, "picked", "ms", "fastest", "ms", "picked / fastest"],
        [
            [
                row["label"],
                row["picked"],
                f"{row['ms'][row['picked']]:.2f}",
                row["fastest"],
                f"{row['ms'][row['fastest']]:.2f}",
                f"{row['cost']:.2f}",
            ]
            for row in rows
        ],
    )
    late = [row["label"] for row in rows if row["cost"] > TOLERANCE]
    print(f"{len(late)} of {len(rows)} above {TOLERANCE}: {', '.join(late)}")


def _row(shape, direction, picked, records):
    # The ratio is of times in the same rounds, as in the other tables.
    fastest = min(records, key=lambda name: records[name]["ratio"])
    return {
        "label": str(shape),
        "direction": direction,
        "ms": {name: record["ms"] for name, record in records.items()},
        "picked": picked,
        "fastest": fastest,
        "cost": 1 / records[fastest]["ratio"],
    }


def _make_step(name, shape, direction, dtype, mode, seed):
    """A step of the implementation called `name`, or of a pair of them."""
    from aw_keras.ops.implementations import TABLE, Implementation

    forward, _, backward = name.partition("/")
    TABLE[name] = Implementation(
        TABLE[forward].forward, TABLE[backward or forward].backward
    )
    layer = layers.make_layer(name, shape, dtype)
    return layers.make_step(layer, shape, direction, mode, seed)


def _automatic(shape, dtype, mode, seed):
    """Names of the forward and the backward that `"auto"` chooses."""
    from aw_keras.ops import selection

    chosen = []
    automatic = selection.automatic

    def observed(*arguments):
        chosen.append(automatic(*arguments))
        return chosen[-1]

    selection.automatic = observed
    try:
        layer = layers.make_layer(SUBJECT, shape, dtype)
        layers.make_step(layer, shape, FORWARD, mode, seed)()
    finally:
        selection.automatic = automatic
    return chosen[-1]


if __name__ == "__main__":
    main()
