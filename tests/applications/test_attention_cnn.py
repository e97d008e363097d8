"""The network with spatial softmax attention: its modules and its baseline."""

import pytest

from aw_keras.applications import AttentionCNN110, ResNet110
from aw_keras.layers import SpatialSoftmaxAttention


def modules(model):
    return [
        layer.name
        for layer in model.layers
        if isinstance(layer, SpatialSoftmaxAttention)
    ]


def test_it_is_resnet110_with_modules():
    model = AttentionCNN110()
    places = ["conv2_block18", "conv3_block18", "conv4_block18"]
    added = [f"{place}_spatial_softmax" for place in places]
    assert modules(model) == added
    rest = [x.name for x in model.layers[1:] if x.name not in added]
    assert rest == [layer.name for layer in ResNet110().layers[1:]]
    for place, module in zip(places, added):
        out = model.get_layer(f"{place}_out").output
        assert model.get_layer(module).input is out


def test_number_and_place_are_arguments():
    place = {"conv4_block3": "spatial_softmax"}
    model = AttentionCNN110(attention_after=place)
    assert modules(model) == ["conv4_block3_spatial_softmax"]
    assert modules(AttentionCNN110(attention_after={})) == []
    with pytest.raises(ValueError, match="attention_after=conv4_block19"):
        AttentionCNN110(attention_after={"conv4_block19": "spatial_softmax"})
