"""What adds up over many steps: memory, and functions that are traced again."""

import pathlib

import keras
import numpy as np
import pytest

from aw_keras.layers import CBAM, AWConv2D
from tests.backends import BACKEND

STATUS = pathlib.Path("/proc/self/status")
BATCH, SIZE, FILTERS = 8, 8, 16
STEPS, EPOCHS = 60, 10  # of full batches, which a smaller one follows


def small():
    """A network with all that the registered ones are made of."""
    image = keras.Input((SIZE, SIZE, 3))
    x = AWConv2D(FILTERS, 3, activation="relu", name="stem")(image)
    x = keras.layers.BatchNormalization()(x)
    x = AWConv2D(FILTERS, 3, strides=2, activation="relu")(x)
    x = CBAM()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(4, activation="softmax")(x)
    model = keras.Model(image, x)
    model.compile(
        "sgd",
        "sparse_categorical_crossentropy",
        # XLA would take most of the time, and trace as often.
        jit_compile=BACKEND == "jax",
    )
    return model


class Records(keras.callbacks.Callback):
    """After every step and epoch: what was traced, and the memory in use.

    Attributes:
        steps: Pairs of a number of traces (calls of a layer's Python code and,
            under JAX, compilations) and a number of bytes.
        epochs: Numbers of traces.
    """

    def __init__(self, layer):
        super().__init__()
        self.traces = 0
        self.steps, self.epochs = [], []
        call = layer.call

        def counted(*args, **kwargs):
            self.traces += 1
            return call(*args, **kwargs)

        layer.call = counted
        if BACKEND == "jax":
            import jax

            jax.monitoring.register_event_duration_secs_listener(self.compiled)

    def compiled(self, event, seconds, **kwargs):
        self.traces += event.endswith("backend_compile_duration")

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append((self.traces, resident_bytes()))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(self.traces)


def resident_bytes():
    if not STATUS.exists():
        return None
    (line,) = (
        line
        for line in STATUS.read_text().splitlines()
        if line.startswith("VmRSS:")
    )
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def records():
    samples = STEPS * BATCH + 3
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, SIZE, SIZE, 3)).astype("float32")
    y = rng.integers(0, 4, samples)
    model = small()
    records = Records(model.get_layer("stem"))
    model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=EPOCHS,
        validation_data=(x[: BATCH + 1], y[: BATCH + 1]),
        verbose=0,
        callbacks=[records],
    )
    assert len(records.steps) == (STEPS + 1) * EPOCHS
    return records


@pytest.mark.skipif(
    not STATUS.exists(), reason="The system does not tell the memory in use."
)
def test_memory_over_500_training_steps(records):
    """Kept from every step, one layer's kernels would be four times as much.

    They are the smallest tensor that a step must not keep; what allocators
    add by themselves was one MiB.
    """
    before, after = (records.steps[step][1] for step in (-501, -1))
    kernels = BATCH * 9 * FILTERS * FILTERS * 4
    assert after - before < 500 * kernels / 4


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs op by op.")
def test_nothing_is_traced_after_the_second_step(records):
    """Nor, where the last batch is smaller, after the first epoch."""
    first, second, *others = (traces for traces, _ in records.steps[:STEPS])
    assert first > 0
    assert set(others) == {second}
    assert set(records.epochs) == {records.epochs[0]}


def test_eager_calls_on_many_shapes_warn_of_nothing(caplog):
    """TensorFlow warns where it takes new shapes for traces of one function."""
    for channels in range(1, 12):
        AWConv2D(4, 3)(np.zeros((2, 5, 5, channels), "float32"))
    assert not caplog.messages
