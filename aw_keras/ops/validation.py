"""Checks at the door: arguments and shapes that the operations accept."""

from keras import config, ops, utils


def pair(name, value):
    """Two positive integers from one or two, or a ValueError."""
    values = (value, value) if isinstance(value, int) else value
    try:
        first, second = (int(v) for v in values)
        positive = first > 0 and second > 0
    except (TypeError, ValueError):
        positive = False
    if not positive:
        raise ValueError(
            f"Expected `{name}` to be a positive integer or a pair of them. "
            f"Received: {name}={value}"
        )
    return first, second


def check_positive_integer(name, value):
    """Raise a ValueError unless `value` is a positive integer."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(
            f"Expected `{name}` to be a positive integer. "
            f"Received: {name}={value}"
        )


def standard_data_format(data_format):
    """`data_format`, or Keras' default for `None`; others are refused."""
    if data_format is None:
        return config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            "Expected `data_format` to be 'channels_last' or "
            f"'channels_first'. Received: data_format={data_format}"
        )
    return data_format


def require_rank(name, tensor, rank):
    shape = getattr(tensor, "shape", None)
    if shape is None or len(shape) != rank:
        raise ValueError(
            f"Expected `{name}` to be a tensor of rank {rank}. "
            f"Received: {name}.shape={shape}"
        )


def channels_last(x, data_format):
    """`x` in channels-last layout."""
    if data_format == "channels_last":
        return x
    return ops.transpose(x, (0, 2, 3, 1))


def input_channels(x, data_format):
    """Number of channels of `x`; an unknown number is a ValueError."""
    channels = x.shape[-1 if data_format == "channels_last" else 1]
    if channels is None:
        raise ValueError(
            "Expected the channel axis of the input to be defined. "
            f"Received: x.shape={x.shape}, data_format={data_format}"
        )
    return channels


def check_attention_shapes(
    x, reduce_kernel, reduce_bias, expand_kernel, expand_bias, data_format
):
    """Raise a ValueError unless the attention weights fit `x`."""
    require_rank("x", x, 4)
    require_rank("reduce_kernel", reduce_kernel, 2)
    require_rank("reduce_bias", reduce_bias, 1)
    require_rank("expand_kernel", expand_kernel, 3)
    require_rank("expand_bias", expand_bias, 2)
    channels = input_channels(x, data_format)
    if utils.is_keras_tensor(x) and None in x.shape[1:]:
        raise ValueError(
            "Expected the height and width of a symbolic input to be known; "
            "`aw_keras.layers.AWConv2D` takes unknown ones. "
            f"Received: x.shape={x.shape}"
        )
    units = reduce_kernel.shape[1]
    per_group, kernel_channels, _ = expand_kernel.shape
    fits = (
        reduce_kernel.shape[0] == channels
        and tuple(reduce_bias.shape) == (units,)
        and tuple(expand_bias.shape) == tuple(expand_kernel.shape[1:])
        and units % per_group == 0
        and kernel_channels % (units // per_group) == 0
    )
    if not fits:
        raise ValueError(
            "Expected reduce_kernel (C1, M), reduce_bias (M,), expand_kernel "
            "(M / G, Ck, C2) and expand_bias (Ck, C2), where C1 is the number "
            "of input channels and G divides Ck. Received: "
            f"x.shape={x.shape}, "
            f"reduce_kernel.shape={reduce_kernel.shape}, "
            f"reduce_bias.shape={reduce_bias.shape}, "
            f"expand_kernel.shape={expand_kernel.shape}, "
            f"expand_bias.shape={expand_bias.shape}"
        )


def check_convolution(x, kernel_shape, geometry, data_format):
    """Raise a ValueError unless kernels `(h, w, Ck, C2)` can convolve `x`."""
    require_rank("x", x, 4)
    channels = input_channels(x, data_format)
    kernel_channels, filters = kernel_shape[2:]
    if kernel_channels is None or filters is None:
        raise ValueError(
            "Expected kernels with a defined shape. "
            f"Received: kernel shape={tuple(kernel_shape)}"
        )
    if channels != kernel_channels * geometry.groups:
        raise ValueError(
            "Expected the input to have groups * Ck channels for kernels "
            f"(h, w, Ck, C2). Received: x.shape={x.shape}, "
            f"kernel shape={tuple(kernel_shape)}, groups={geometry.groups}, "
            f"data_format={data_format}"
        )
    if filters % geometry.groups:
        raise ValueError(
            "Expected the number of filters to be divisible by groups. "
            f"Received: filters={filters}, groups={geometry.groups}"
        )
    axes = slice(1, 3) if data_format == "channels_last" else slice(2, 4)
    for extent, reach in zip(x.shape[axes], geometry.reach):
        least = reach if geometry.padding == "valid" else 1
        if isinstance(extent, int) and extent < least:
            raise ValueError(
                f"Expected the input's height and width to be at least {least}"
                f" for padding={geometry.padding}. Received: x.shape={x.shape},"
                f" kernel_size={geometry.kernel_size}, "
                f"dilation_rate={geometry.dilation_rate}"
            )
