"""AWConv2D against Conv2D of the same shape and the usual grouped trick.

`python -m benchmarks.awconv` times whole layers, attention branch included,
forward and forward + backward, on every backend and device that it finds.
`python -m benchmarks.awconv --memory` measures the peak memory of a training
step instead.
"""

import argparse

from benchmarks import backends, layers, measure, session
from benchmarks.layers import FORWARD, TRAIN, TRICK, Shape
from benchmarks.measure import REFERENCE, SUBJECT

SHAPES = (
    Shape(8, 56, 64, 64, 3),
    Shape(8, 28, 128, 128, 3),
    Shape(8, 14, 256, 256, 3),
    Shape(8, 7, 512, 512, 3),
    Shape(64, 32, 16, 16, 3),
    Shape(64, 16, 32, 32, 3),
    Shape(64, 8, 64, 64, 3),
    Shape(8, 56, 128, 128, 3, stride=2),
    Shape(64, 32, 16, 32, 3, stride=2),
    Shape(8, 56, 64, 256, 1),
    Shape(8, 14, 1024, 256, 1),
    Shape(256, 8, 16, 16, 3),
)
LARGE = Shape(32, 7, 512, 512, 3)
TABLE = (*SHAPES, LARGE)


def measure_times(mode, dtype, seed, shapes, contenders, effort):
    """Times layers on the backend of this process.

    Args:
        mode: One of the backend's modes.
        dtype: Name of a dtype policy.
        seed: Seed of weights and data.
        shapes: List of `Shape` fields.
        contenders: Names that `layers.make_layer` takes.
        effort: Keyword arguments of `measure.interleave`.

    Returns:
        List of rows as `measure.row` returns them.
    """
    import keras

    keras.utils.set_random_seed(seed)
    rows = []
    for shape in (Shape(*fields) for fields in shapes):
        session.progress(f"  {shape}")
        made = {c: layers.make_layer(c, shape, dtype) for c in contenders}
        for direction in (FORWARD, TRAIN):
            steps = {
                contender: layers.make_step(layer, shape, direction, mode, seed)
                for contender, layer in made.items()
            }
            rows.append(measure.row(str(shape), direction, steps, effort))
    return rows


def measure_memory(mode, device, dtype, seed, shape, contender):
    """Measures one training step's memory, in a process of its own.

    Args:
        mode: One of the backend's modes.
        device: `"cpu"`, or the accelerator in use.
        dtype: Name of a dtype policy.
        seed: Seed of weights and data.
        shape: `Shape` fields.
        contender: Name that `layers.make_layer` takes.

    Returns:
        What `backends.memory_record` returns.
    """
    import keras

    keras.utils.set_random_seed(seed)
    shape = Shape(*shape)
    layer = layers.make_layer(contender, shape, dtype)
    step = layers.make_step(layer, shape, TRAIN, mode, seed)
    return backends.memory_record(step, device)


def parse_shape(text):
    """Returns the `Shape` of an index of `TABLE` or of its fields."""
    numbers = [int(number) for number in text.split(",")]
    if len(numbers) == 1 and 0 <= numbers[0] < len(TABLE):
        return TABLE[numbers[0]]
    if 5 <= len(numbers) <= len(Shape._fields):
        return Shape(*numbers)
    raise argparse.ArgumentTypeError(
        f"Expected an index below {len(TABLE)} or "
        f"{','.join(Shape._fields)}. Received: shape={text}"
    )


def main(command=None):
    options = session.comparison_parser(__doc__)
    options.add_argument(
        "--shapes",
        nargs="+",
        type=parse_shape,
        metavar="SHAPE",
        help="indices of the table, or "
        "batch,size,channels,filters,kernel[,stride[,groups]]",
    )
    options.add_argument(
        "--no-trick",
        action="store_true",
        help="leave out the grouped trick, which can take minutes",
    )
    arguments = options.parse_args(command)
    contenders = [REFERENCE, SUBJECT, TRICK, *arguments.implementations]
    if arguments.no_trick:
        contenders.remove(TRICK)
    if arguments.memory:
        cases = {
            str(shape): {"shape": shape}
            for shape in arguments.shapes or [LARGE]
        }
        return session.compare_memory("awconv", arguments, contenders, cases)
    return session.compare_times(
        "awconv",
        arguments,
        contenders,
        in_mean=[str(shape) for shape in SHAPES],
        shapes=arguments.shapes or TABLE,
    )


if __name__ == "__main__":
    main()
