"""Which implementation runs: argument, context, environment, automatic rule."""

import functools
import threading

import keras
import numpy as np
import pytest

from aw_keras import ops
from aw_keras.ops import selection
from aw_keras.ops.backends import active
from aw_keras.ops.convolution import convolution_geometry
from aw_keras.ops.implementations import TABLE
from tests.backends import BACKEND, run

VARIABLE = "AW_KERAS_IMPLEMENTATION"

#: A mode in which every call of a new function runs its Python.
TRACING_MODE = "graph" if BACKEND == "tensorflow" else "eager"


@pytest.fixture
def chosen(monkeypatch):
    """A function that convolves and returns the implementation that ran."""
    ran = []

    def recorder(name, forward):
        @functools.wraps(forward)
        def record(*arguments):
            ran.append(name)
            return forward(*arguments)

        return record

    for name, implementation in list(TABLE.items()):
        monkeypatch.setitem(
            TABLE,
            name,
            implementation._replace(
                forward=recorder(name, implementation.forward)
            ),
        )

    def convolve(**keywords):
        ran.clear()
        # A new function, and nothing that was traced before is used again.
        if hasattr(active, "_traced"):
            active._traced.cache_clear()
        run(
            lambda x, kernels: ops.per_sample_conv2d(
                x, kernels, padding="same", **keywords
            ),
            np.ones((2, 5, 5, 4)),
            np.ones((2, 3, 3, 4, 4)),
            dtype="float32",
            mode=TRACING_MODE,
        )
        (name,) = set(ran)
        return name

    return convolve


@pytest.fixture
def others(chosen):
    """Three names, none of which the automatic rule would choose."""
    automatic = chosen()
    return [name for name in ops.IMPLEMENTATIONS if name != automatic][:3]


def test_the_known_names():
    assert ops.IMPLEMENTATIONS == (
        "grouped",
        "loop",
        "matmul",
        "shifted",
        "tiles",
        "views",
    )


@pytest.mark.parametrize("name", ops.IMPLEMENTATIONS)
def test_every_name_runs_its_implementation(chosen, monkeypatch, name):
    assert chosen(implementation=name) == name
    with ops.use_implementation(name):
        assert chosen() == name
    monkeypatch.setenv(VARIABLE, name)
    assert chosen() == name


def test_precedence(chosen, others, monkeypatch):
    automatic = chosen()
    argument, context, environment = others
    monkeypatch.setenv(VARIABLE, environment)
    assert chosen() == environment
    with ops.use_implementation(context):
        assert chosen() == context
        assert chosen(implementation=argument) == argument
        assert chosen(implementation="auto") == context
    assert chosen() == environment
    assert chosen(implementation=argument) == argument
    monkeypatch.delenv(VARIABLE)
    assert chosen() == automatic


@pytest.mark.parametrize("value", ["", "auto"])
def test_an_empty_or_automatic_environment_changes_nothing(
    chosen, monkeypatch, value
):
    automatic = chosen()
    monkeypatch.setenv(VARIABLE, value)
    assert chosen() == automatic


def test_an_automatic_context_overrules_the_environment(
    chosen, others, monkeypatch
):
    automatic = chosen()
    monkeypatch.setenv(VARIABLE, others[0])
    with ops.use_implementation("auto"):
        assert chosen() == automatic


@pytest.mark.parametrize(
    "batch, kernel, groups, names",
    [
        (8, (3, 3), 1, ("grouped", "matmul")),
        (None, (3, 3), 1, ("matmul", "matmul")),  # To be exported, perhaps.
        (None, (1, 1), 1, ("matmul", "matmul")),
        (None, (3, 3), 4, ("shifted", "shifted")),
    ],
)
def test_automatic_choice_on_an_accelerator(
    batch, kernel, groups, names, monkeypatch
):
    monkeypatch.setattr(selection.active, "device", lambda: "gpu")
    geometry = convolution_geometry(kernel, 1, "same", 1, groups)
    assert selection.automatic(geometry, (batch, 6, 6, 4), 8) == names


@pytest.mark.parametrize(
    "batch, size, channels, name",
    [
        (32, 56, 64, "grouped"),
        (32, 28, 128, "grouped"),
        (32, 14, 256, "views"),
        (32, 7, 512, "views"),
        (128, 32, 16, "matmul"),
        (128, 8, 64, "matmul"),
        (None, 7, 512, "matmul"),
    ],
)
def test_automatic_choice_on_a_tpu(batch, size, channels, name, monkeypatch):
    monkeypatch.setattr(selection.active, "device", lambda: "tpu")
    geometry = convolution_geometry((3, 3), 1, "same", 1, 1)
    found = selection.automatic(
        geometry, (batch, size, size, channels), channels
    )
    assert found == (name, name)


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("size", [(None, None), (1, 1), (7, 7), (56, 56)])
@pytest.mark.parametrize("channels", [4, 64, 512])
def test_automatic_choice_names_implementations(batch, size, channels):
    for groups in (1, 2, channels):
        for kernel in ((1, 1), (3, 3)):
            geometry = convolution_geometry(kernel, 1, "same", 1, groups)
            names = selection.automatic(
                geometry, (batch, *size, channels), channels
            )
            assert set(names) <= set(ops.IMPLEMENTATIONS)


def test_contexts_nest(chosen, others):
    automatic = chosen()
    outer, inner, _ = others
    with ops.use_implementation(outer):
        with ops.use_implementation(inner):
            assert chosen() == inner
        assert chosen() == outer
        with ops.use_implementation("auto"):
            assert chosen() == automatic
        assert chosen() == outer
    assert chosen() == automatic


def test_a_context_ends_when_its_body_raises(chosen, others):
    automatic = chosen()
    with pytest.raises(RuntimeError, match="inside"):
        with ops.use_implementation(others[0]):
            raise RuntimeError("inside")
    assert chosen() == automatic


def test_a_context_is_its_threads_own(chosen, others):
    """Neither inherited by a new thread nor seen by the one that started it."""
    automatic = chosen()
    here, there, _ = others
    seen = {}

    def work():
        seen["inherited"] = chosen()
        with ops.use_implementation(there):
            entered.set()
            leave.wait(timeout=30)

    entered, leave = threading.Event(), threading.Event()
    with ops.use_implementation(here):
        thread = threading.Thread(target=work)
        thread.start()
        started = entered.wait(timeout=30)
        seen["meanwhile"] = chosen()
        leave.set()
        thread.join()
    assert started
    assert seen == {"inherited": automatic, "meanwhile": here}


def test_the_choice_reaches_the_whole_convolution(chosen, others, monkeypatch):
    """`aw_conv2d` and a layer's call choose as `per_sample_conv2d` does."""
    from aw_keras.layers import AWConv2D

    x = keras.ops.ones((2, 6, 5, 4))
    ran = []
    argument, context, _ = others
    for name in (argument, context):
        forward = TABLE[name].forward

        def record(*arguments, name=name, forward=forward):
            ran.append(name)
            return forward(*arguments)

        monkeypatch.setitem(TABLE, name, TABLE[name]._replace(forward=record))
    layer = AWConv2D(4, 3)
    layer.build(x.shape)
    with ops.use_implementation(context):
        layer(x)
    assert set(ran) == {context}
    ran.clear()
    with ops.use_implementation(context):
        AWConv2D(4, 3, implementation=argument)(x)
    assert set(ran) == {argument}


def message_lists_every_name(error):
    return all(name in str(error.value) for name in ops.IMPLEMENTATIONS)


def test_unknown_argument(chosen):
    with pytest.raises(ValueError, match="(?s)Expected.*Received.*quick") as e:
        chosen(implementation="quick")
    assert message_lists_every_name(e)


def test_unknown_context():
    with pytest.raises(ValueError, match="(?s)Expected.*Received.*quick") as e:
        with ops.use_implementation("quick"):
            pass
    assert message_lists_every_name(e)


def test_unknown_environment(chosen, monkeypatch):
    monkeypatch.setenv(VARIABLE, "quick")
    pattern = f"(?s)Expected.*Received: {VARIABLE}=quick"
    with pytest.raises(ValueError, match=pattern) as e:
        chosen()
    assert message_lists_every_name(e)


@pytest.mark.parametrize("name", [None, 3, "Loop"])
def test_names_are_exact(name):
    with pytest.raises(ValueError, match="(?s)Expected.*Received"):
        with ops.use_implementation(name):
            pass
