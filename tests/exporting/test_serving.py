"""A SavedModel behind HTTP, in a process without this library and Keras."""

import concurrent.futures
import json
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest

from aw_keras import export
from aw_keras.applications import get_entry
from aw_keras.applications.datasets import CIFAR10
from tests.applications.networks import SMALL, predict, randomise

if keras.backend.backend() != "tensorflow":
    pytest.skip(
        "other backends hand the model to TensorFlow: test_elsewhere.py",
        allow_module_level=True,
    )

CLIENTS = 4
NAMES = [f"class {index}" for index in range(10)]


@pytest.fixture(scope="module")
def model():
    return randomise(
        SMALL["AWDenseNet"](
            input_shape=(32, 32, 3), classes=10, classifier_activation=None
        )
    )


@pytest.fixture(scope="module")
def url(model, tmp_path_factory):
    """Address of the model's server."""
    path = tmp_path_factory.mktemp("serving") / "1"
    preprocessing = get_entry("AWDenseNetBC100").preprocessing
    export(model, path, preprocessing=preprocessing, class_names=NAMES)
    script = pathlib.Path(__file__).with_name("server.py")
    with subprocess.Popen(
        [sys.executable, "-I", script, "small", path],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def ask(url, path, content=None):
    body = None if content is None else json.dumps(content).encode()
    with urllib.request.urlopen(f"{url}/v1/models/{path}", body, 60) as answer:
        return json.load(answer)


def test_clients_at_once_get_what_predict_gives(url, model):
    rng = np.random.default_rng(0)
    shapes = [(1, 32, 32, 3), (2, 40, 30, 3), (7, 20, 50, 3)] * CLIENTS
    batches = [rng.integers(0, 256, shape, "uint8") for shape in shapes]

    def post(batch):
        return ask(url, "small:predict", {"instances": batch.tolist()})

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(post, batches))
    inputs = [CIFAR10.preprocessing(batch) for batch in batches]
    expected = predict(model, np.concatenate(inputs))
    found = [scores for answer in answers for scores in answer["predictions"]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_metadata(url):
    metadata = ask(url, "small/metadata")
    assert metadata["class_names"] == NAMES
    assert metadata["outputs"] == {
        "predictions": {"shape": [None, 10], "dtype": "float32"}
    }


def test_what_are_no_images_is_an_error_and_harms_nobody(url):
    with pytest.raises(urllib.error.HTTPError, match="400"):
        ask(url, "small:predict", {"instances": [[1, 2], [3, 4]]})
    images = np.zeros((1, 9, 9, 3), int).tolist()
    answer = ask(url, "small:predict", {"instances": images})
    assert np.shape(answer["predictions"]) == (1, 10)
