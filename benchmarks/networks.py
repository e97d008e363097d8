"""AW-ResNet-20 against ResNet-20, as Keras trains them and as it predicts.

`python -m benchmarks.networks` times full training steps, optimiser included,
and inference steps on every backend and device that it finds.
`python -m benchmarks.networks --memory` measures the peak memory of a
training step instead.
"""

import contextlib
import functools

import numpy as np

from benchmarks import backends, measure, session
from benchmarks.measure import REFERENCE, SUBJECT

TRAIN = "training step"
PREDICT = "inference step"
CLASSES = 10


def make_model(contender, size, dtype, mode):
    """Returns a compiled network.

    Args:
        contender: `REFERENCE` for ResNet-20. Anything else is AW-ResNet-20.
        size: Height and width of the images.
        dtype: Name of a dtype policy.
        mode: One of the backend's modes.
    """
    import keras

    from aw_keras import applications

    network = applications.AWResNet20
    if contender == REFERENCE:
        network = applications.ResNet20
    model = network(
        input_shape=(size, size, 3), classes=CLASSES, weights=None, dtype=dtype
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        jit_compile=mode in ("xla", "jit"),
    )
    model.optimizer.build(model.trainable_variables)
    return model


def make_step(contender, batch, size, direction, mode, dtype, seed):
    """Returns the `Step` of a network on random data.

    Args:
        contender: `REFERENCE`, `SUBJECT`, or the name of an implementation that
            AW-ResNet-20 is to use.
        batch: Number of images.
        size: Height and width of the images.
        direction: `TRAIN` or `PREDICT`.
        mode: One of the backend's modes.
        dtype: Name of a dtype policy.
        seed: Seed of weights and data.
    """
    import keras

    keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    images = generator.normal(size=(batch, size, size, 3))
    labels = generator.integers(CLASSES, size=(batch,))
    model = make_model(contender, size, dtype, mode)
    inputs = keras.ops.convert_to_tensor(images, "float32")
    if direction == TRAIN:
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


def measure_times(mode, dtype, seed, batch, size, contenders, effort):
    """Times networks on the backend of this process.

    Args:
        mode: One of the backend's modes.
        dtype: Name of a dtype policy.
        seed: Seed of weights and data.
        batch: Number of images.
        size: Height and width of the images.
        contenders: Names that `make_step` takes.
        effort: Keyword arguments of `measure.interleave`.

    Returns:
        List of rows as `measure.row` returns them.
    """
    rows = []
    for direction in (TRAIN, PREDICT):
        session.progress(f"  {direction}")
        steps = {
            contender: make_step(
                contender, batch, size, direction, mode, dtype, seed
            )
            for contender in contenders
        }
        label = network_label(batch, size)
        rows.append(measure.row(label, direction, steps, effort))
    return rows


def measure_memory(mode, device, dtype, seed, batch, size, contender):
    """Measures one training step's memory, in a process of its own.

    Returns:
        What `backends.memory_record` returns.
    """
    step = make_step(contender, batch, size, TRAIN, mode, dtype, seed)
    return backends.memory_record(step, device)


def main(command=None):
    options = session.comparison_parser(__doc__)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--size", type=int, default=32, help="image size")
    arguments = options.parse_args(command)
    contenders = [REFERENCE, SUBJECT, *arguments.implementations]
    settings = {"batch": arguments.batch, "size": arguments.size}
    if arguments.memory:
        label = network_label(**settings)
        return session.compare_memory(
            "networks", arguments, contenders, {label: settings}
        )
    return session.compare_times("networks", arguments, contenders, **settings)


def network_label(batch, size):
    return f"ResNet-20, {batch}×{size}²"


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
