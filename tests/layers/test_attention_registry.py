"""The registry of attention layers: names, arguments, registration, errors."""

import keras
import numpy as np
import pytest

from aw_keras.layers import (
    CBAM,
    attention_layer,
    attention_names,
    attention_registry,
    register_attention,
)

NAMES = (
    *("se", "cbam", "eca", "gather_excite", "non_local", "dual", "sca"),
    "spatial_softmax",
)


@pytest.fixture
def registry(monkeypatch):
    """A registry that the test may change."""
    factories = {name: attention_registry._FACTORIES[name] for name in NAMES}
    monkeypatch.setattr(attention_registry, "_FACTORIES", factories)


def test_names(registry):
    assert attention_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_arguments_reach_the_layer(name):
    layer = attention_layer(
        name,
        reduction=4,
        data_format="channels_first",
        dtype="mixed_bfloat16",
        name=f"conv2_block1_{name}",
    )
    assert isinstance(layer, keras.layers.Layer)
    assert layer.name == f"conv2_block1_{name}"
    assert layer.data_format == "channels_first"
    assert layer.dtype_policy.name == "mixed_bfloat16"
    takes_reduction = name in ("se", "cbam", "sca")
    assert hasattr(layer, "reduction") == takes_reduction
    if takes_reduction:
        assert layer.reduction == 4
        assert attention_layer(name).reduction == 16


def test_further_arguments():
    assert attention_layer("cbam", kernel_size=3).kernel_size == (3, 3)
    assert type(attention_layer("cbam", kernel_size=3)) is CBAM
    with pytest.raises((TypeError, ValueError), match="extent"):
        attention_layer("cbam", extent=2)


def test_every_layer_has_its_paper(registry):
    for name in NAMES:
        docstring = type(attention_layer(name)).__doc__
        assert "Reference:" in docstring
        assert "arxiv.org/abs/" in docstring or name == "spatial_softmax"


def test_registered_function(registry):
    received = {}

    def halve(**arguments):
        received.update(arguments)
        return lambda x: x / 2

    assert register_attention("half", halve) is halve
    assert attention_names() == (*NAMES, "half")
    function = attention_layer("half", reduction=16, dtype="float32", name="h")
    np.testing.assert_array_equal(function(np.ones(3)), np.full(3, 0.5))
    assert received == {"dtype": "float32", "name": "h"}


def test_decorator(registry):
    @register_attention("shrunk")
    def shrunk(reduction, data_format=None):
        return reduction, data_format

    assert attention_layer("shrunk", reduction=8) == (8, None)
    assert shrunk(2) == (2, None)


@pytest.mark.parametrize("name", ["se", None, 3, ("se",)])
def test_errors_of_names_to_register(registry, name):
    with pytest.raises(ValueError, match="Expected `name`.*Received: name="):
        register_attention(name, CBAM)
    with pytest.raises(ValueError, match="Expected `name`.*Received: name="):
        register_attention(name)
    assert attention_names() == NAMES


def test_error_of_a_factory(registry):
    with pytest.raises(ValueError, match="callable. Received: factory=3"):
        register_attention("three", 3)
    with pytest.raises(ValueError, match="callable. Received: factory=3"):
        register_attention("three")(3)
    assert attention_names() == NAMES


@pytest.mark.parametrize("name", ["SE", "", None, 3, ["se"], "bam"])
def test_unknown_names(name):
    with pytest.raises(ValueError) as raised:
        attention_layer(name)
    for known in NAMES:
        assert repr(known) in str(raised.value)
    assert str(raised.value).endswith(f"Received: attention={name}")
