"""The stages of a network as a feature pyramid."""

import re

import keras


def feature_pyramid(model, levels=(2, 3, 4, 5)):
    """A model of the outputs of a network's stages.

    The networks for ImageNet have stages at levels 2 to 5, whose outputs have
    strides 4, 8, 16 and 32; those for CIFAR have levels 2 to 4 with strides 1,
    2 and 4. Stages are found by the names of layers, which
    `keras.applications` has too in its residual and dense networks.

    Example:

    >>> from aw_keras.applications import ResNet20, feature_pyramid
    >>> pyramid = feature_pyramid(ResNet20(include_top=False), levels=(3, 4))
    >>> {level: tuple(maps.shape) for level, maps in pyramid.output.items()}
    {'3': (None, 16, 16, 32), '4': (None, 8, 8, 64)}

    Args:
        model: `keras.Model`, one of this library's networks, with or without
            its top.
        levels: Integers, levels of stages.

    Returns:
        A `keras.Model` with the inputs and weights of `model`, whose outputs
        are a dict from level, as text, to maps.

    Raises:
        ValueError: If `model` has no stage of a level.
    """
    outputs = _stage_outputs(model)
    if not levels or not set(levels) <= set(outputs):
        raise ValueError(
            "Expected `levels` to be some of the stages of the model, "
            f"{sorted(outputs)}. Received: levels={levels}"
        )
    return keras.Model(
        model.input,
        {str(level): outputs[level] for level in levels},
        name=f"{model.name}_pyramid",
    )


def _stage_outputs(model):
    """Dict from level to the output of the last layer of that stage."""
    if not isinstance(model, keras.Model) or not hasattr(model, "inputs"):
        raise ValueError(
            f"Expected `model` to be a functional model. Received: {model=}"
        )
    outputs = {}
    for layer in model.layers:
        if (match := re.match(r"conv(\d+)_block", layer.name)) is not None:
            outputs[int(match[1])] = layer.output
    return outputs
