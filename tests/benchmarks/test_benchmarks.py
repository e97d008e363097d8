"""The benchmark scripts on tiny shapes: what they print, write and draw."""

import argparse
import functools
import json
import math

import keras
import numpy as np
import pytest

from aw_keras import AWConv2D, applications
from aw_keras.ops import IMPLEMENTATIONS
from benchmarks import (
    awconv,
    backends,
    implementations,
    layers,
    networks,
    report,
    session,
)
from benchmarks.layers import FORWARD, TRAIN, TRICK, Shape
from benchmarks.measure import REFERENCE, SUBJECT

BACKEND = keras.backend.backend()
MODE = backends.MODES[BACKEND][0]
SMALL = Shape(2, 5, 8, 8, 3, stride=2)
EFFORT = {"rounds": 2, "sample_seconds": 0.0}


def test_awconv_from_command_to_files(tmp_path, capsys):
    paths = awconv.main(
        [
            *("--backends", BACKEND, "--modes", MODE, "--device", "cpu"),
            *("--shapes", "2,5,8,8,3,2", "2,4,8,8,1"),
            *("--quick", "--out", str(tmp_path)),
        ]
    )
    name = "awconv-cpu-float32"
    assert paths == [tmp_path / f"{name}.json", tmp_path / f"{name}.png"]
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert TRICK in capsys.readouterr().out

    record = json.loads(paths[0].read_text())
    assert record["benchmark"] == "awconv"
    assert record["effort"]["rounds"] == 2
    assert record["machine"]["cores"] >= 1
    assert record["versions"]["keras"] == keras.__version__
    (result,) = record["results"]
    assert (result["backend"], result["mode"]) == (BACKEND, MODE)
    rows = [(row["label"], row["direction"]) for row in result["rows"]]
    labels = "2×5² 8→8 3×3 /2", "2×4² 8→8 1×1"
    assert rows == [(s, d) for s in labels for d in (FORWARD, TRAIN)]
    for row in result["rows"]:
        assert list(row["contenders"]) == [REFERENCE, SUBJECT, TRICK]
        assert row["contenders"][REFERENCE]["ratio"] == 1
        for contender in row["contenders"].values():
            assert 0 < contender["ratio"] < math.inf


@pytest.mark.parametrize("direction", [FORWARD, TRAIN])
@pytest.mark.parametrize("mode", backends.MODES[BACKEND])
def test_grouped_trick_computes_what_aw_conv_computes(direction, mode):
    outputs = []
    made = {c: layers.make_layer(c, SMALL, "float32") for c in (SUBJECT, TRICK)}
    made[TRICK].set_weights(made[SUBJECT].get_weights())
    for layer in made.values():
        step = layers.make_step(layer, SMALL, direction, mode, seed=0)
        tensors = keras.tree.flatten(step.launch())
        outputs.append([keras.ops.convert_to_numpy(t) for t in tensors])
    # forward: y; else also the gradients of x and of the five weights
    assert len(outputs[0]) == (1 if direction == FORWARD else 7)
    for ours, theirs in zip(*outputs, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_implementations_notes_choice_and_cost():
    rows = implementations.measure_times(
        MODE, "float32", 0, shapes=[SMALL], effort=EFFORT
    )
    assert [row["direction"] for row in rows] == [FORWARD, TRAIN]
    forward, train = rows
    assert set(forward["ms"]) == set(IMPLEMENTATIONS)
    pairs = {(forward["picked"], name) for name in IMPLEMENTATIONS}
    pairs |= {(name, name) for name in IMPLEMENTATIONS}
    assert set(train["ms"]) == {"/".join(pair) for pair in pairs}
    for row in rows:
        assert {row["picked"], row["fastest"]} <= set(row["ms"])
        assert 1 <= row["cost"] < math.inf


@pytest.fixture
def tiny_networks(monkeypatch):
    """Puts networks of one convolution in the place of the ResNets."""

    def tiny(conv, input_shape, classes, weights):
        return keras.Sequential(
            [
                keras.Input(input_shape),
                conv(4, 3),
                keras.layers.Flatten(),
                keras.layers.Dense(classes, activation="softmax"),
            ]
        )

    plain = functools.partial(tiny, keras.layers.Conv2D)
    aw = functools.partial(tiny, AWConv2D)
    for depth in (20, 50):
        monkeypatch.setattr(applications, f"ResNet{depth}", plain)
        monkeypatch.setattr(applications, f"AWResNet{depth}", aw)
    monkeypatch.setattr(keras.applications, "ResNet50", plain)


def test_networks_times_training_and_inference(tiny_networks):
    cases = [
        ("ResNet-20", networks.TRAIN, 2, 4),
        ("ResNet-50", networks.PREDICT, 1, 4),
    ]
    contenders = [REFERENCE, SUBJECT, "matmul", networks.PEER]
    small, large = networks.measure_times(
        MODE, "float32", 0, cases=cases, contenders=contenders, effort=EFFORT
    )
    assert (small["label"], small["direction"]) == (
        "ResNet-20, 2×4²",
        networks.TRAIN,
    )
    assert list(small["contenders"]) == contenders[:-1]
    assert list(large["contenders"]) == contenders
    for row in (small, large):
        assert 0 < row["contenders"][SUBJECT]["ratio"] < math.inf


@pytest.mark.parametrize("mode", backends.MODES[BACKEND])
def test_network_step_trains(tiny_networks, mode):
    case = networks.Case("ResNet-20", networks.TRAIN, 4, 4)
    step = networks.make_step(SUBJECT, case, mode, "float32", seed=0)
    first = float(step.launch()["loss"])
    step(20)
    # Keras logs the mean since the beginning.
    assert float(step.launch()["loss"]) < 0.9 * first


def test_networks_takes_the_resnets():
    policy = keras.config.dtype_policy().name
    case = networks.Case("ResNet-20", networks.TRAIN, 1, 8)
    made = {
        contender: networks.make_model(contender, case, "mixed_bfloat16", MODE)
        for contender in (REFERENCE, SUBJECT)
    }
    assert [model.name for model in made.values()] == ["resnet20", "awresnet20"]
    model = made[SUBJECT]
    assert model.input_shape == (None, 8, 8, 3)
    assert model.output_shape == (None, 10)
    converted = [x for x in model.layers if isinstance(x, AWConv2D)]
    assert len(converted) == 18
    assert {x.dtype_policy.name for x in converted} == {"mixed_bfloat16"}
    assert keras.config.dtype_policy().name == policy


def test_awconv_memory_from_command_to_files(tmp_path, capsys):
    (path, *_) = awconv.main(
        [
            *("--backends", BACKEND, "--modes", MODE, "--device", "cpu"),
            *("--memory", "--no-trick", "--shapes", "32,32,32,32,3"),
            *("--out", str(tmp_path)),
        ]
    )
    assert "peak memory" in capsys.readouterr().out
    (result,) = json.loads(path.read_text())["results"]
    assert list(result["contenders"]) == [REFERENCE, SUBJECT]
    for measured in result["contenders"].values():
        # The output and the input's gradient alone are 4 MiB each.
        assert measured["peak_mib"] >= 8
        assert (measured["temporary_mib"] is None) == (BACKEND != "jax")


def test_parse_shape():
    assert awconv.parse_shape("3") == Shape(8, 7, 512, 512, 3)
    assert awconv.parse_shape("12") == awconv.LARGE
    assert awconv.parse_shape("2,5,8,8,3,2") == SMALL
    for text in ("13", "1,2", "1,2,3,4,5,6,7,8"):
        with pytest.raises(argparse.ArgumentTypeError, match="Expected"):
            awconv.parse_shape(text)


def test_geometric_means_are_over_the_reference_shapes_only():
    def row(label, ratio):
        contenders = {REFERENCE: {"ratio": 1.0}, SUBJECT: {"ratio": ratio}}
        return {"label": label, "direction": TRAIN, "contenders": contenders}

    rows = [row("in", 2.0), row("in too", 8.0), row("out", 1000.0)]
    rows[0]["contenders"][TRICK] = {"ratio": 3.0}  # unable in the others
    means = report.direction_means(rows, ["in", "in too"])
    assert means[TRAIN] == {REFERENCE: 1, SUBJECT: pytest.approx(4)}
    assert report.direction_means(rows, ["elsewhere"]) == {}


def test_ratio_measured_once_is_marked():
    once = {"gave_up": True, "ratio": 412.3}
    assert report.format_ratio(once) == ">25 (412)"
    assert report.format_ratio({"gave_up": False, "ratio": 1.234}) == "1.23"
    assert report.format_ratio(None) == "-"


def test_plain_table_aligns_numbers_right():
    table = report.plain_table("t", ["a", "ms"], [["xyz", "1"], ["x", "22"]])
    assert table.splitlines()[-2:] == ["xyz   1", "x    22"]


def test_options_choose_targets(monkeypatch):
    found = {"cpu": "cpu", "gpu": "a GPU"}
    monkeypatch.setattr(session.worker, "call", lambda *_: found)
    options = session.parser("")
    both = options.parse_args(["--backends", "tensorflow"])
    assert [str(target) for target in session.targets(both)] == [
        "tensorflow graph, cpu",
        "tensorflow xla, cpu",
        "tensorflow graph, gpu",
        "tensorflow xla, gpu",
    ]
    one = options.parse_args(
        ["--backends", "tensorflow", "jax", "--device", "gpu", "--modes", "xla"]
    )
    targets = [str(target) for target in session.targets(one)]
    assert targets == ["tensorflow xla, gpu"]
