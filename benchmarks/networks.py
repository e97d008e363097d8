"""Networks with AW-convolution against plain ones, as Keras runs them.

`python -m benchmarks.networks` times full training steps, optimiser included,
and inference steps of AW-ResNet-20 against ResNet-20, and of AW-ResNet-50
against ResNet-50 and against that of `keras.applications`, on every backend
and device that it finds. `python -m benchmarks.networks --memory` measures the
peak memory of a training step instead.
"""

import contextlib
import functools
from typing import NamedTuple

import numpy as np

from benchmarks import backends, measure, session
from benchmarks.measure import REFERENCE, SUBJECT

TRAIN = "training step"
PREDICT = "inference step"
PEER = "keras.applications"


class Network(NamedTuple):
    """A network under measurement.

    Attributes:
        plain: Name of its function in `aw_keras.applications`, to which "AW"
            is put in front.
        classes: Number of classes.
        size: Height and width of the images.
        steps: Pairs of direction and batch size.
        has_peer: Whether `keras.applications` has it, under the same name.
    """

    plain: str
    classes: int
    size: int
    steps: tuple
    has_peer: bool = False


NETWORKS = {
    "ResNet-20": Network("ResNet20", 10, 32, ((TRAIN, 128), (PREDICT, 128))),
    "ResNet-50": Network(
        "ResNet50", 1000, 224, ((PREDICT, 1), (PREDICT, 8), (TRAIN, 8)), True
    ),
}


class Case(NamedTuple):
    """One step of one network: its name, direction, batch and image size."""

    network: str
    direction: str
    batch: int
    size: int

    def __str__(self):
        return f"{self.network}, {self.batch}×{self.size}²"


def make_model(contender, case, dtype, mode):
    """Returns a compiled network.

    Args:
        contender: `REFERENCE`, or `PEER` for that of `keras.applications`.
            Anything else is the network with AW-convolution.
        case: `Case`.
        dtype: Name of a dtype policy.
        mode: One of the backend's modes.
    """
    import keras

    from aw_keras import applications

    network = NETWORKS[case.network]
    module, prefix = {
        REFERENCE: (applications, ""),
        PEER: (keras.applications, ""),
    }.get(contender, (applications, "AW"))
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)  # The peer takes it from there.
    try:
        model = getattr(module, prefix + network.plain)(
            input_shape=(case.size, case.size, 3),
            classes=network.classes,
            weights=None,
        )
    finally:
        keras.config.set_dtype_policy(policy)
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        jit_compile=mode in ("xla", "jit"),
    )
    model.optimizer.build(model.trainable_variables)
    return model


def make_step(contender, case, mode, dtype, seed):
    """Returns the `Step` of a network on random data.

    Args:
        contender: `REFERENCE`, `PEER`, `SUBJECT`, or the name of an
            implementation that the network with AW-convolution is to use.
        case: `Case`.
        mode: One of the backend's modes.
        dtype: Name of a dtype policy.
        seed: Seed of weights and data.
    """
    import keras

    keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    images = generator.normal(size=(case.batch, case.size, case.size, 3))
    classes = NETWORKS[case.network].classes
    labels = generator.integers(classes, size=(case.batch,))
    model = make_model(contender, case, dtype, mode)
    inputs = keras.ops.convert_to_tensor(images, "float32")
    if case.direction == TRAIN:
        labels = keras.ops.convert_to_tensor(labels, "int32")
    else:
        labels = None
    with _implementation(contender):
        step = backends.active().network_step(model, inputs, labels, mode)
    return measure.Step(
        launch=_within(contender, step.launch),
        wait=step.wait,
        prepare=_within(contender, step.prepare),
        temporary_bytes=step.temporary_bytes,
    )


def measure_times(mode, dtype, seed, cases, contenders, effort):
    """Times networks on the backend of this process.

    Args:
        mode: One of the backend's modes.
        dtype: Name of a dtype policy.
        seed: Seed of weights and data.
        cases: List of `Case` fields.
        contenders: Names that `make_step` takes; `PEER` is left out where it
            has no such network.
        effort: Keyword arguments of `measure.interleave`.

    Returns:
        List of rows as `measure.row` returns them.
    """
    rows = []
    for case in (Case(*fields) for fields in cases):
        session.progress(f"  {case}, {case.direction}")
        steps = {
            contender: make_step(contender, case, mode, dtype, seed)
            for contender in contenders
            if contender != PEER or NETWORKS[case.network].has_peer
        }
        rows.append(measure.row(str(case), case.direction, steps, effort))
    return rows


def measure_memory(mode, device, dtype, seed, case, contender):
    """Measures one training step's memory, in a process of its own.

    Returns:
        What `backends.memory_record` returns.
    """
    step = make_step(contender, Case(*case), mode, dtype, seed)
    return backends.memory_record(step, device)


def main(command=None):
    options = session.comparison_parser(__doc__)
    options.add_argument(
        "--networks",
        nargs="+",
        choices=list(NETWORKS),
        default=list(NETWORKS),
        help="networks to measure",
    )
    options.add_argument("--batch", type=int, help="another batch size")
    options.add_argument("--size", type=int, help="another image size")
    arguments = options.parse_args(command)
    contenders = [REFERENCE, SUBJECT, *arguments.implementations]
    cases = [
        Case(
            name,
            direction,
            arguments.batch or batch,
            arguments.size or NETWORKS[name].size,
        )
        for name in arguments.networks
        for direction, batch in NETWORKS[name].steps
    ]
    if arguments.memory:
        return session.compare_memory(
            "networks",
            arguments,
            contenders,
            {str(c): {"case": c} for c in cases if c.direction == TRAIN},
        )
    return session.compare_times(
        "networks", arguments, [*contenders, PEER], cases=cases
    )


def _implementation(contender):
    from aw_keras.ops import IMPLEMENTATIONS, use_implementation

    if contender in IMPLEMENTATIONS:
        return use_implementation(contender)
    return contextlib.nullcontext()


def _within(contender, function):
    # What is traced or run inside the context keeps the implementation.
    @functools.wraps(function)
    def run():
        with _implementation(contender):
            return function()

    return run


if __name__ == "__main__":
    main()
