"""Which implementation is fastest where: what the automatic rule rests on.

`python -m benchmarks.implementations` times every implementation of the
per-sample convolution inside AWConv2D, over more shapes than the reference
table has, and prints the fastest beside the one that `"auto"` picks.

Backward is the median time of forward + backward less that of forward, both
with the same implementation.
"""

from benchmarks import layers, measure, report, session, worker
from benchmarks.awconv import TABLE, parse_shape
from benchmarks.layers import FORWARD, TRAIN, Shape
from benchmarks.measure import SUBJECT

BACKWARD = "backward"
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
        implementation, `SUBJECT` for the automatic choice; `picked`, the name
        of that choice; `fastest`; and `cost`, how many times the fastest's
        time the picked one takes.
    """
    import keras

    from aw_keras.ops import IMPLEMENTATIONS

    keras.utils.set_random_seed(seed)
    rows = []
    for shape in (Shape(*fields) for fields in shapes):
        session.progress(f"  {shape}")
        made = {SUBJECT: _observed_layer(shape, dtype)}
        for name in IMPLEMENTATIONS:
            made[name] = layers.make_layer(name, shape, dtype)
        milliseconds = {}
        for direction in (FORWARD, TRAIN):
            steps = {
                name: layers.make_step(layer, shape, direction, mode, seed)
                for name, layer in made.items()
            }
            timings, _ = measure.interleave(steps, **effort, reference=SUBJECT)
            milliseconds[direction] = {
                name: timing.record()["ms"] for name, timing in timings.items()
            }
        milliseconds[BACKWARD] = {
            name: milliseconds[TRAIN][name] - milliseconds[FORWARD][name]
            for name in made
        }
        for direction, picked in zip(
            (FORWARD, BACKWARD), made[SUBJECT].picked, strict=True
        ):
            rows.append(_row(shape, direction, milliseconds[direction], picked))
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
        for direction in (FORWARD, BACKWARD):
            report_rows(target, arguments.dtype, direction, rows)
        results.append({**target.record(), "rows": rows})
    return report.save(
        session.record("implementations", arguments, results),
        arguments.out
        / session.file_name("implementations", arguments, results),
    )


def report_rows(target, dtype, direction, rows):
    """Prints the rows of one direction, times in milliseconds."""
    rows = [row for row in rows if row["direction"] == direction]
    names = list(rows[0]["ms"])
    report.print_table(
        f"{target}, {dtype}",
        [f"{direction}, ms", *names, "fastest", "picked", "cost"],
        [
            [
                row["label"],
                *(f"{row['ms'][name]:.2f}" for name in names),
                row["fastest"],
                row["picked"],
                f"{row['cost']:.2f}",
            ]
            for row in rows
        ],
    )


def _row(shape, direction, milliseconds, picked):
    named = {k: v for k, v in milliseconds.items() if k != SUBJECT}
    fastest = min(named, key=named.get)
    return {
        "label": str(shape),
        "direction": direction,
        "ms": milliseconds,
        "picked": picked,
        "fastest": fastest,
        "cost": named[picked] / named[fastest],
    }


def _observed_layer(shape, dtype):
    """Returns an AWConv2D that notes, as `picked`, what `"auto"` chooses."""
    from aw_keras.ops.convolution import convolution_geometry
    from aw_keras.ops.selection import automatic

    layer = layers.make_layer(SUBJECT, shape, dtype)
    convolution_op = layer.convolution_op

    def observed(inputs, kernel):
        geometry = convolution_geometry(
            layer.kernel_size,
            layer.strides,
            layer.padding,
            layer.dilation_rate,
            layer.groups,
        )
        layer.picked = automatic(geometry, inputs.shape, layer.filters)
        return convolution_op(inputs, kernel)

    layer.convolution_op = observed
    return layer


if __name__ == "__main__":
    main()
