"""Attention layers by name, for models that take the name as an argument."""

import functools
import inspect

from aw_keras.layers.cbam import CBAM
from aw_keras.layers.dual_attention import DualAttention
from aw_keras.layers.eca import EfficientChannelAttention
from aw_keras.layers.gather_excite import GatherExcite
from aw_keras.layers.non_local import NonLocal
from aw_keras.layers.sca import SpatialChannelAttention
from aw_keras.layers.spatial_softmax import SpatialSoftmaxAttention
from aw_keras.layers.squeeze_excite import SqueezeExcite

_FACTORIES = {
    "se": SqueezeExcite,
    "cbam": CBAM,
    "eca": EfficientChannelAttention,
    "gather_excite": GatherExcite,
    "non_local": NonLocal,
    "dual": DualAttention,
    "sca": SpatialChannelAttention,
    "spatial_softmax": SpatialSoftmaxAttention,
}


def attention_names():
    """Names that `attention_layer` knows, in the order of registration.

    Returns:
        Tuple of strings.

    Example:

    >>> from aw_keras.layers import attention_names
    >>> attention_names()[:2]
    ('se', 'cbam')
    """
    return tuple(_FACTORIES)


def register_attention(name, factory=None):
    """Makes an attention known by name to `attention_layer` and to models.

    Args:
        name: String that is not registered yet.
        factory: Callable that takes the keyword arguments `data_format`,
            `dtype` and `name`, and `reduction` if its signature names it, and
            returns a layer or another function of a tensor. `None` for the
            use as a decorator.

    Returns:
        `factory`, or a decorator.

    Raises:
        ValueError: If `name` is not a string or is registered already, or if
            `factory` cannot be called.

    Example:

    >>> import keras
    >>> from aw_keras.layers import attention_layer, register_attention
    >>> @register_attention("half")
    ... class Half(keras.layers.Rescaling):
    ...     def __init__(self, data_format=None, **kwargs):
    ...         super().__init__(0.5, **kwargs)
    >>> attention_layer("half", name="block1_half").scale
    0.5
    """
    if not isinstance(name, str) or name in _FACTORIES:
        raise ValueError(
            "Expected `name` to be a string other than "
            f"{attention_names()}. Received: name={name}"
        )
    if factory is None:
        return functools.partial(register_attention, name)
    if not callable(factory):
        raise ValueError(
            f"Expected `factory` to be callable. Received: factory={factory}"
        )
    _FACTORIES[name] = factory
    return factory


def attention_layer(attention, /, *, reduction=None, **arguments):
    """A new attention layer by its name.

    Args:
        attention: One of `attention_names()`.
        reduction: Ratio of channels to hidden units, for the attentions that
            have one; the others ignore it. `None` for their own default.
        **arguments: Further arguments of the layer, such as `data_format`,
            `dtype` and `name`.

    Returns:
        A Keras layer, or whatever a registered factory returns.

    Raises:
        ValueError: If the name is unknown.

    Example:

    >>> import keras
    >>> from aw_keras.layers import attention_layer
    >>> images = keras.ops.ones((2, 7, 5, 32))
    >>> se = attention_layer("se", reduction=4, name="block1_se")
    >>> tuple(se(images).shape)
    (2, 7, 5, 32)
    >>> attention_layer("eca", reduction=4, name="block1_eca").name
    'block1_eca'
    """
    if not isinstance(attention, str) or attention not in _FACTORIES:
        raise ValueError(
            f"Expected `attention` to be one of {attention_names()}. "
            f"Received: attention={attention}"
        )
    factory = _FACTORIES[attention]
    if reduction is not None and _takes_reduction(factory):
        arguments["reduction"] = reduction
    return factory(**arguments)


def _takes_reduction(factory):
    return "reduction" in inspect.signature(factory).parameters
