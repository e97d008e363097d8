"""Files that try to run code when they are opened.

Every attack leaves a mark, a file, where it succeeds.
"""

import ast
import base64
import io
import json
import pathlib
import pickle
import re
import sys

import keras
import numpy as np
import pytest

from aw_keras import weights
from aw_keras.applications import create_model, get_entry, list_models
from aw_keras.cli import networks as cli
from tests.hostile.archives import members, network, rewrite
from zoo import recipe
from zoo.training import checkpoints

ROOT = pathlib.Path(__file__).parents[2]


class Payload:
    """Writes the mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return pathlib.Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """Path of the mark, which importing the module `planted` makes, too."""
    folder = tmp_path / "modules"
    folder.mkdir()
    mark = tmp_path / "mark"
    (folder / "planted.py").write_text(f"open({str(mark)!r}, 'w').close()")
    monkeypatch.syspath_prepend(folder)
    yield mark
    sys.modules.pop("planted", None)


@pytest.fixture
def model_file(tmp_path):
    """A function that saves `network` with another config for its `stem`."""
    path = tmp_path / "model.keras"

    def write(**changes):
        network().save(path)
        contents = members(path)
        config = json.loads(contents["config.json"])
        (stem,) = (
            layer
            for layer in config["config"]["layers"]
            if layer["config"]["name"] == "stem"
        )
        stem["config"].update(changes.pop("config", {}))
        stem.update(changes)
        config.update(changes.pop("model", {}))
        rewrite(path, contents | {"config.json": json.dumps(config)})
        return path

    return write


def check_refused(path, mark):
    """By every function that opens models, before anything happens."""
    with pytest.raises(ValueError, match="Expected a .keras file written by"):
        cli.load(str(path))
    with pytest.raises((AttributeError, TypeError, ValueError)):
        keras.saving.load_model(path)
    assert not mark.exists()
    assert "planted" not in sys.modules
    # Only the weights are of interest here, and they are sound.
    assert weights.load(network(), path).loaded == ("stem",)
    assert not mark.exists()


def from_module(module, name, kind=None, config=None):
    """Config of an object, or with the kind `"function"` of a function."""
    return {
        "module": module,
        "class_name": kind or name,
        "config": name if kind else config or {},
        "registered_name": name,
    }


LAYERS = {
    "of a foreign module": from_module("planted", "Layer"),
    "of a foreign module, in our name": from_module("planted", "aw_keras>A"),
    "no layer": from_module("os", "system"),
    "no layer, of ours": from_module("aw_keras.exporting.elsewhere", "_run"),
    "no layer, of Keras": from_module("keras.utils", "get_file"),
    "outside of Keras through it": from_module("keras.src.utils.os", "system"),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_layer_that_is_none(layer, model_file, mark):
    check_refused(model_file(**layer), mark)


FUNCTIONS = {
    "of a foreign module": from_module("planted", "function", "function"),
    "of the system": from_module("os", "system", "function"),
    "of a package of ours": from_module("zoo.train", "main", "function"),
    "download": from_module("keras.utils", "get_file", "function"),
    "end of safe mode": from_module(
        "keras.config", "enable_unsafe_deserialization", "function"
    ),
    "import": from_module("builtins", "__import__", "function"),
}


@pytest.mark.parametrize("argument", ["activation", "kernel_initializer"])
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_that_is_none(function, argument, model_file, mark):
    check_refused(model_file(config={argument: function}), mark)


@pytest.mark.parametrize(
    "argument",
    [
        *("attention_expand_initializer", "kernel_regularizer"),
        *("kernel_constraint", "dtype"),
    ],
)
def test_an_object_of_a_foreign_module(argument, model_file, mark):
    hostile = from_module("planted", "Object")
    check_refused(model_file(config={argument: hostile}), mark)


def lambda_model(mark):
    """A model that runs foreign code when it is loaded."""
    function = eval(f"lambda x: open({str(mark)!r}, 'w') and x")
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, keras.layers.Lambda(function)(image))
    mark.unlink()
    return model


def test_a_lambda_layer(tmp_path, mark):
    path = tmp_path / "model.keras"
    lambda_model(mark).save(path)
    with pytest.raises(ValueError, match="a Python lambda"):
        cli.load(str(path))
    assert not mark.exists()
    keras.saving.load_model(path, safe_mode=False)
    assert mark.exists()  # The attack is a real one.


def test_a_lambda_in_place_of_a_function(model_file, mark):
    function = lambda_model(mark).layers[1].get_config()["function"]
    function["config"] = {"value": list(function["config"].values())}
    check_refused(model_file(config={"activation": function}), mark)


def test_a_pickled_module(model_file, mark):
    pickled = base64.b64encode(pickle.dumps(Payload(mark))).decode()
    layer = from_module(
        "keras.layers",
        "TorchModuleWrapper",
        config={"module": pickled, "name": "stem"},
    )
    check_refused(model_file(**layer), mark)


def test_pickled_arrays_in_a_model(model_file, mark):
    path = model_file()
    contents = members(path)
    del contents["model.weights.h5"]
    rewrite(path, contents | {"model.weights.npz": pickled_arrays(mark)})
    for load in (
        lambda: cli.load(str(path)),
        lambda: weights.load(network(), path),
    ):
        with pytest.raises(ValueError, match="Expected .* file"):
            load()
    assert not mark.exists()


def pickled_arrays(mark):
    array = np.array([Payload(mark)], object)
    buffer = io.BytesIO()
    np.savez(buffer, record=array, stem=array)
    return buffer.getvalue()


def test_pickled_arrays_in_a_checkpoint(tmp_path, mark):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "000000001.npz").write_bytes(pickled_arrays(mark))
    model = network()
    model.compile("sgd")
    with pytest.raises(ValueError, match="is whole.*allow_pickle=False"):
        checkpoints.restore(folder, model)
    assert not mark.exists()


def test_a_recipe_that_runs(tmp_path, mark):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: !!python/object/apply:open ['{mark}', 'w']\n")
    with pytest.raises(ValueError, match="Expected YAML"):
        recipe.Recipe.from_file(path)
    assert not mark.exists()


def one_of_each_kind():
    """Names of registered networks; those of other depths repeat blocks."""
    kinds = {
        (re.sub(r"\d+", "", name), get_entry(name).family): name
        for name in reversed(list_models())
    }
    return sorted(kinds.values())


@pytest.mark.parametrize("name", one_of_each_kind())
def test_networks_are_made_of_layers_alone(name):
    """Neither Lambda layers nor functions, which safe mode would refuse."""

    def configs(value):
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from configs(item)

    with keras.StatelessScope(initialize_variables=False):
        model = create_model(name)
    found = list(configs(keras.saving.serialize_keras_object(model)))
    assert len(found) > 50
    for config in found:
        assert config["class_name"] not in ("Lambda", "__lambda__", "function")
        registered = config.get("registered_name") or ""
        module = config.get("module") or "keras"
        assert module.startswith("keras") or registered.startswith("aw_keras>")


#: What runs code, or writes outside of its folder, if its input is hostile.
DANGEROUS = {
    *("eval", "exec", "pickle", "marshal", "safe_mode", "allow_pickle"),
    *("unsafe_load", "extractall", "enable_unsafe_deserialization"),
}
FIELDS = ("id", "arg", "name", "module")


@pytest.mark.parametrize("package", ["aw_keras", "zoo"])
def test_nothing_dangerous_is_called(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 10
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            used = {getattr(node, field, None) for field in FIELDS}
            if isinstance(node, ast.Attribute):
                used = {node.attr} - {"eval"}  # Models have it, too.
            assert not used & DANGEROUS, (path, node.lineno)
            if isinstance(node, ast.Call) and is_torch_load(node.func):
                arguments = {k.arg: k.value for k in node.keywords}
                assert arguments["weights_only"].value is True, path


def is_torch_load(function):
    """It unpickles whatever there is, unless it is told not to."""
    return ast.unparse(function) == "torch.load"
