"""Requests that no server should die of."""

import json
import pathlib
import subprocess
import sys

import keras
import pytest

import aw_keras
from aw_keras.applications import get_entry
from tests.exporting.artifacts import RUNTIMES

CLIENT = pathlib.Path(__file__).with_name("client.py")
CIFAR = get_entry("AWResNet20").preprocessing
GOOD = (2, 9, 8, 3)
EMPTY = (0, 9, 8, 3)
WRONG_RANKS = [(9, 8, 3), (3,), (), (1, 1, 9, 8, 3)]
WRONG_CHANNELS = [(2, 9, 8, 1), (2, 9, 8, 4), (2, 3, 9, 8)]
WRONG_SIZES = [(2, 8, 9, 3), (2, 10, 8, 3), (2, 1, 1, 3)]
NOTHING = [(1, 0, 8, 3), (1, 9, 0, 3), (1, 0, 0, 3)]

#: Dtype that an artifact takes, and requests that are wrong and right.
ARTIFACTS = {
    "bare": (
        "float32",
        [*WRONG_RANKS, *WRONG_CHANNELS, *WRONG_SIZES, *NOTHING],
        [GOOD],
    ),
    "preprocessing": (
        "uint8",
        [*WRONG_RANKS, *WRONG_CHANNELS, *NOTHING],
        [(1, 2, 2, 3), GOOD],
    ),
    "any_size": ("float32", WRONG_RANKS, [(1, 2, 2, 3), GOOD]),
}


@pytest.fixture(scope="module")
def models():
    image = keras.Input((9, 8, 3))
    x = aw_keras.AWConv2D(4, 3, padding="same", activation="relu")(image)
    # TensorFlow folds these two into one, which wants a sample.
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    x = keras.layers.BatchNormalization()(x)
    x = aw_keras.AWConv2D(4, 3)(x)
    x = keras.layers.Dense(5)(keras.layers.Flatten()(x))
    model = keras.Model(image, x)
    image = keras.Input((None, None, 3))
    x = aw_keras.AWConv2D(5, 3, strides=2, padding="same")(image)
    x = keras.layers.GlobalMaxPooling2D()(x)
    any_size = keras.Model(image, x)
    return {"bare": model, "preprocessing": model, "any_size": any_size}


@pytest.fixture(scope="module", params=RUNTIMES)
def format(request):
    module, extra = RUNTIMES[request.param]
    pytest.importorskip(module, reason=f"pip install 'aw-keras[{extra}]'")
    return request.param


@pytest.fixture(scope="module")
def answers(format, models, tmp_path_factory):
    """Shape of each answer, or the error, by `(artifact, dtype, shape)`.

    What is right is asked after everything that is wrong.
    """
    folder = tmp_path_factory.mktemp("requests")
    requests = []
    for name, (dtype, wrong, right) in ARTIFACTS.items():
        aw_keras.export(
            models[name],
            folder / name,
            format,
            preprocessing=CIFAR if name == "preprocessing" else None,
        )
        requests.append((name, "float64", GOOD))
        requests += [(name, dtype, s) for s in (*wrong, EMPTY, *right)]
    sent = [(str(folder / name), *request) for name, *request in requests]
    process = subprocess.run(
        [sys.executable, "-I", CLIENT, format, json.dumps(sent)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-500:]
    *_, last = process.stdout.splitlines()
    return dict(zip(requests, json.loads(last), strict=True))


@pytest.mark.parametrize("name", ARTIFACTS)
def test_what_is_wrong_is_an_error(name, format, answers):
    dtype, wrong, right = ARTIFACTS[name]
    assert isinstance(answers[name, "float64", GOOD], str)
    for shape in wrong:
        answer = answers[name, dtype, shape]
        assert isinstance(answer, str), shape
        if format == "saved_model" and shape not in NOTHING:
            received = str(list(shape)).replace(" ", "")
            assert f"Shape of tensor images {received} is not" in answer
    for shape in right:
        assert answers[name, dtype, shape] == [shape[0], 5]


@pytest.mark.parametrize("name", ARTIFACTS)
def test_no_images_have_no_answers(name, format, answers):
    dtype, *_ = ARTIFACTS[name]
    answer = answers[name, dtype, EMPTY]
    if format == "litert":
        # Nothing in its graphs could say it better.
        assert answer.startswith("RuntimeError: ") and "reshape" in answer
    else:
        assert answer == [0, 5]
