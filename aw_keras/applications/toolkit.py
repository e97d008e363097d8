"""The layers of one Keras 3 network, which share layout and dtype."""

import dataclasses

import keras
from keras import layers

from aw_keras.layers import AWConv2D
from aw_keras.layers.attention_registry import attention_layer
from aw_keras.layers.identity_shortcut import IdentityShortcut
from aw_keras.ops.validation import standard_data_format


@dataclasses.dataclass(frozen=True)
class KerasToolkit:
    """Makes layers by name and calls them: a `topology.Toolkit` of Keras 3.

    Attributes:
        data_format: `"channels_last"` or `"channels_first"`.
        policy: `keras.DTypePolicy` of every layer.
        reduction: Reduction ratio of attention branches and modules.
        epsilon: Epsilon of the batch normalisations.
        kernel_initializer: Initializer of the convolutions.
    """

    data_format: str
    policy: keras.DTypePolicy
    reduction: int
    epsilon: float
    kernel_initializer: str = "he_normal"

    @classmethod
    def from_arguments(cls, data_format, dtype, **more):
        """The toolkit of a network with these arguments."""
        policy = keras.dtype_policies.get(dtype)
        return cls(standard_data_format(data_format), policy, **more)

    @property
    def channel_axis(self):
        return 3 if self.data_format == "channels_last" else 1

    def channels(self, x):
        return x.shape[self.channel_axis]

    def conv(self, x, filters, size, name, strides=1, padding="same"):
        return layers.Conv2D(
            filters, size, name=name, **self._conv(strides, padding)
        )(x)

    def aw_conv(self, x, filters, size, name, strides=1, padding="same"):
        return AWConv2D(
            filters,
            size,
            name=name,
            reduction=self.reduction,
            **self._conv(strides, padding),
        )(x)

    def _conv(self, strides, padding):
        return {
            "strides": strides,
            "padding": padding,
            "use_bias": False,
            "kernel_initializer": self.kernel_initializer,
            **self._format,
        }

    @property
    def _format(self):
        return {"data_format": self.data_format, "dtype": self.policy}

    def norm(self, x, name):
        return layers.BatchNormalization(
            axis=self.channel_axis,
            momentum=0.9,
            epsilon=self.epsilon,
            dtype=self.policy,
            name=name,
        )(x)

    def relu(self, x, name):
        return layers.Activation("relu", dtype=self.policy, name=name)(x)

    def add(self, tensors, name):
        return layers.Add(dtype=self.policy, name=name)(tensors)

    def concatenate(self, tensors, name):
        return layers.Concatenate(
            axis=self.channel_axis, dtype=self.policy, name=name
        )(tensors)

    def zero_pad(self, x, padding, name):
        return layers.ZeroPadding2D(padding, name=name, **self._format)(x)

    def max_pool(self, x, size, strides, name):
        return layers.MaxPooling2D(size, strides, name=name, **self._format)(x)

    def average_pool(self, x, size, strides, name):
        return layers.AveragePooling2D(
            size, strides, name=name, **self._format
        )(x)

    def global_pool(self, x, kind):
        layer = {
            "avg": layers.GlobalAveragePooling2D,
            "max": layers.GlobalMaxPooling2D,
        }[kind]
        return layer(name=f"{kind}_pool", **self._format)(x)

    def attention(self, x, kind, name):
        return attention_layer(
            kind, reduction=self.reduction, name=name, **self._format
        )(x)

    def identity_shortcut(self, x, filters, strides, name, centered=False):
        return IdentityShortcut(
            filters, strides, centered=centered, name=name, **self._format
        )(x)
