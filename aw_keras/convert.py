"""From trained convolutions to AW-convolutions and back.

`to_aw` puts AW-convolutions in the place of the convolutions of any functional
or Sequential model without changing what it computes; `fold_attention` puts
plain convolutions with the mean attention in the place of AW-convolutions.
Both make a copy of the model that differs in some of its layers.
"""

import collections
import dataclasses
import fnmatch
from typing import Any

import keras
import numpy as np

from aw_keras.layers import AWConv2D, AWDepthwiseConv2D
from aw_keras.ops.convolution import convolution_geometry
from aw_keras.ops.validation import check_positive_integer

# Exact types: a subclass may compute something else with its kernel.
_ATTENTIONAL = {
    keras.layers.Conv2D: AWConv2D,
    keras.layers.DepthwiseConv2D: AWDepthwiseConv2D,
}
_PLAIN = {attentional: plain for plain, attentional in _ATTENTIONAL.items()}

# With a zero expansion the attention is 1/2, and K + A * K is 1.5 K.
_IDENTITY_SCALE = 1.5

_NAMES_IN_ERRORS = 10


def to_aw(model, where=None, *, reduction=16, implementation="auto", name=None):
    """Copies a model with AW-convolutions in the place of its convolutions.

    The copy computes what the model computes: the attention begins at 1/2
    everywhere, with `kernel = K / 1.5` and a zero expansion, so that
    `kernel + A * kernel` is the trained kernel `K`. The gradient of the
    expansion is not zero: fine-tuning starts from the trained network.

    `keras.layers.Conv2D` and `keras.layers.DepthwiseConv2D` are converted, in
    nested functional and Sequential models and in
    `keras.layers.TimeDistributed` too; a shared layer becomes one shared layer.
    Every other layer is copied with its weights: AW-convolutions that are there
    already, `SeparableConv2D`, `Conv2DTranspose`, `Conv1D`, subclasses of
    `Conv2D`, and custom layers and other wrappers with all that is in them.

    Layer names, arguments, frozen layers and the structure of inputs and
    outputs stay. Where a `ZeroPadding2D` pads for one convolution alone, as
    networks of PyTorch do, the AW-convolution does it itself, with
    `padding="symmetric"`: its attention is that of the image without zeros.
    An `Identity` has the place of the padding then. Regularizers and
    constraints of a kernel from now on act on `K / 1.5`. The given model is not
    changed and shares no variable with its copy, which is a `keras.Sequential`
    or a `keras.Model` and is not compiled.

    Args:
        model: A functional model or a built `keras.Sequential`, such as one of
            `keras.applications`.
        where: Which convolutions: `None` for all those with a kernel larger
            than 1x1, the network's first one included; a function of a layer
            that returns whether to convert it; or a pattern of layer names
            (`"conv3_*"`), or a list of patterns, as in `fnmatch`. A function
            and patterns choose among all convolutions, 1x1 included.
        reduction: Integer, reduction ratio of the attention.
        implementation: `"auto"`, or one of `aw_keras.ops.IMPLEMENTATIONS`.
        name: Name of the copy. Defaults to the model's.

    Returns:
        The copy.

    Raises:
        ValueError: If the model is subclassed or not built, if `where` or one
            of its patterns chooses no convolution, or if it chooses one in a
            nested subclassed model, with LoRA or with quantized weights.

    Example:

    >>> import numpy as np
    >>> from aw_keras import to_aw
    >>> model = keras.Sequential(
    ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="stem")]
    ... )
    >>> converted = to_aw(model)
    >>> type(converted.get_layer("stem")).__name__
    'AWConv2D'
    >>> images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    >>> expected = model.predict(images, verbose=0)
    >>> outputs = converted.predict(images, verbose=0)
    >>> np.allclose(outputs, expected, atol=1e-5)
    True

    Reference:
        [An Attention Module for Convolutional Neural Networks](
        https://arxiv.org/abs/2108.08205)
    """
    _check_graph(model)
    holders = _find(model, _ATTENTIONAL)
    chosen = _choose(list(holders), where)
    _check_convertible(chosen, holders)
    arguments = {
        "reduction": reduction,
        "implementation": implementation,
        "attention_expand_initializer": "zeros",
    }
    replacements = {}
    pads = _own_pads(model, chosen)
    for layer in chosen:
        cls = _ATTENTIONAL[type(layer)]
        config = layer.get_config()
        if pad := pads.get(layer):
            config["padding"] = "symmetric"
            nothing = keras.layers.Identity(
                # Keras saves no other form of a policy of this layer.
                name=pad.name,
                dtype=pad.dtype_policy.name,
            )
            replacements[pad] = _Replacement(nothing, {})
        weights = _weights(layer)
        kernel = weights["kernel"] / _IDENTITY_SCALE
        if cls is AWDepthwiseConv2D:
            kernel = kernel.reshape(*layer.kernel_size, 1, -1)
        replacements[layer] = _Replacement(
            cls(**config, **arguments),
            {**weights, "kernel": kernel},
        )
    return _rebuild(model, replacements, name or model.name)


def fold_attention(model, data, *, batch_size=32):
    """Copies a model with plain convolutions for its AW-convolutions.

    Every attention map is replaced by its mean over the samples of `data`
    (over all calls, for a layer that is called more than once): a convolution
    with the kernel `K + mean(A) * K`. That is the same network where the
    attention does not depend on the sample, as after `to_aw`; how far the
    outputs move otherwise is in the report.

    A strided convolution with symmetric padding, which Keras has not, becomes
    a `keras.Sequential` of its name: a `ZeroPadding2D` and the convolution.

    The model runs twice over the data, batch by batch, and eagerly once. The
    given model is not changed and shares no variable with its copy, which is
    not compiled.

    Args:
        model: A functional model or a built `keras.Sequential` with `AWConv2D`
            or `AWDepthwiseConv2D` layers, also in nested models and
            `keras.layers.TimeDistributed`. Subclasses of the two are left as
            they are.
        data: What the model takes: an array, or for several inputs a list or
            dict of arrays; or a finite iterable of batches of such
            (`keras.utils.PyDataset`, `tf.data.Dataset`, a generator, ...). A
            batch that is a tuple is `(inputs, targets, ...)`. The batches of
            an iterable that can be read only once are kept in memory.
        batch_size: Integer, samples per batch of arrays.

    Returns:
        `(plain_model, report)`, a model and a `FoldReport`.

    Raises:
        ValueError: If the model is subclassed or not built, if it has no
            AW-convolution, or one in a nested subclassed model or with LoRA,
            if the data do not fit or have no samples, or if an attention map
            is not finite on them.

    Example:

    >>> import numpy as np
    >>> from aw_keras import AWConv2D, fold_attention
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), AWConv2D(4, 3)])
    >>> images = np.random.default_rng(0).normal(size=(6, 8, 8, 3))
    >>> plain, report = fold_attention(model, images)
    >>> type(plain.layers[0]).__name__, report.samples
    ('Conv2D', 6)
    """
    layers = attentional_layers(model)
    batches = Batches(model, data, batch_size)
    moments = attention_moments(model, layers, batches)
    plain = fold_layers(model, moments)
    folded = [
        FoldedLayer(
            layer.name,
            float(attention.mean.mean()),
            float(np.sqrt(attention.variance.mean())),
        )
        for layer, attention in moments.items()
    ]
    return plain, FoldReport(tuple(folded), **_movement(model, plain, batches))


@dataclasses.dataclass(frozen=True)
class FoldedLayer:
    """What `fold_attention` replaced by its mean in one layer.

    Attributes:
        name: Name of the layer.
        mean: Mean of the attention over samples and elements of the kernel.
        deviation: Standard deviation of the attention over samples, as the
            root mean square over the elements of the kernel.
    """

    name: str
    mean: float
    deviation: float


@dataclasses.dataclass(frozen=True)
class FoldReport:
    """How far `fold_attention` moved a model; `str` gives a table.

    Attributes:
        layers: A `FoldedLayer` for every layer that was folded.
        samples: Number of samples in the data.
        max_difference: Largest absolute difference between an output of the
            folded model and the model's, over all outputs and samples.
        relative_difference: Euclidean norm of all the differences, divided by
            that of the model's outputs.
    """

    layers: tuple[FoldedLayer, ...]
    samples: int
    max_difference: float
    relative_difference: float

    def __str__(self):
        width = max(len("layer"), *(len(layer.name) for layer in self.layers))
        return "\n".join(
            [
                f"{'layer':{width}}  mean attention  deviation over samples",
                *(
                    f"{layer.name:{width}}  {layer.mean:14.4f}  "
                    f"{layer.deviation:22.4f}"
                    for layer in self.layers
                ),
                f"outputs over {self.samples} samples: "
                f"max difference {self.max_difference:.3g}, "
                f"relative difference {self.relative_difference:.3g}",
            ]
        )


_ATTENTION_ARGUMENTS = (
    "reduction",
    "attention_expand_initializer",
    "implementation",
)


def attentional_layers(model):
    """The AW-convolutions of a model, those that can be folded, in order.

    Raises:
        ValueError: As `fold_attention` does, about `model`.
    """
    _check_graph(model)
    holders = _find(model, _PLAIN)
    if not holders:
        raise ValueError(
            "Expected `model` to have AWConv2D or AWDepthwiseConv2D layers. "
            f"Received: model={model.name}"
        )
    _check_convertible(holders, holders)
    return list(holders)


def fold_layers(model, moments):
    """A copy of a model with plain convolutions for some AW-convolutions.

    Args:
        model: As for `fold_attention`.
        moments: Those of the layers to fold, of `attention_moments`.
    """
    replacements = {}
    for layer, attention in moments.items():
        weights = _weights(layer)
        kernel = weights["kernel"] * (1 + attention.mean)
        if isinstance(layer, AWDepthwiseConv2D):
            kernel = kernel.reshape(
                *layer.kernel_size, -1, layer.depth_multiplier
            )
        config = layer.get_config()
        for argument in _ATTENTION_ARGUMENTS:
            del config[argument]
        replacements[layer] = _Replacement(
            _plain(_PLAIN[type(layer)], config), {**weights, "kernel": kernel}
        )
    return _rebuild(model, replacements, model.name)


def _plain(cls, config):
    """A convolution of Keras, which knows no symmetric padding."""
    if config["padding"] != "symmetric":
        return cls(**config)
    if max(config["strides"]) == 1:
        return cls(**{**config, "padding": "same"})
    convolution = cls(**{**config, "padding": "valid"})
    pad = keras.layers.ZeroPadding2D(
        _symmetric_pads(convolution),
        data_format=config["data_format"],
        dtype=config["dtype"],
        name=f"{config['name']}_pad",
    )
    return keras.Sequential([pad, convolution], name=config["name"])


def _is_graph(layer):
    """Whether it is a model whose layers and their calls are known."""
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and isinstance(layer, keras.Function)
    )


def _check_graph(model):
    if not _is_graph(model):
        raise ValueError(
            "Expected `model` to be a functional or Sequential Keras model; "
            "the calls of a subclassed model cannot be read. "
            f"Received: model={model}"
        )
    if not model.built:
        raise ValueError(
            "Expected `model` to be built: give it an `Input` or call it on "
            f"data first. Received: model={model.name}"
        )


def _leaves(layer):
    """The layers that do the work, in the order of the graph."""
    if type(layer) is keras.layers.TimeDistributed:
        yield from _leaves(layer.layer)
    elif _is_graph(layer):
        for inner in layer.layers:
            yield from _leaves(inner)
    else:
        yield layer


def _find(model, types):
    """The layers of the given types, each with the leaf that holds it."""
    holders = {}
    for leaf in _leaves(model):
        is_subclassed = isinstance(leaf, keras.Model)
        for layer in leaf._flatten_layers() if is_subclassed else [leaf]:
            if type(layer) in types:
                holders[layer] = leaf
    return holders


def _choose(layers, where):
    """Those of the convolutions that the argument `where` means."""
    if where is None:
        chosen = [layer for layer in layers if max(layer.kernel_size) > 1]
    elif callable(where):
        chosen = [layer for layer in layers if where(layer)]
    else:
        patterns = [where] if isinstance(where, str) else where
        chosen = _matching(layers, patterns)
    if not chosen:
        raise ValueError(
            "Expected `where` to choose at least one Conv2D or "
            f"DepthwiseConv2D layer. Received: where={where}, "
            f"convolutions={_some_names(layers)}"
        )
    return chosen


def _matching(layers, patterns):
    if not isinstance(patterns, (list, tuple, set)) or not all(
        isinstance(pattern, str) for pattern in patterns
    ):
        raise ValueError(
            "Expected `where` to be `None`, a function of a layer, a pattern "
            f"of layer names or a list of them. Received: where={patterns}"
        )
    for pattern in patterns:
        if not fnmatch.filter((layer.name for layer in layers), pattern):
            raise ValueError(
                "Expected every pattern of `where` to match the name of a "
                "Conv2D or DepthwiseConv2D layer. "
                f"Received: where={pattern!r}, "
                f"convolutions={_some_names(layers)}"
            )
    return [
        layer
        for layer in layers
        if any(fnmatch.fnmatch(layer.name, pattern) for pattern in patterns)
    ]


def _own_pads(model, convolutions):
    """Layers that pad for one of the convolutions alone, and symmetrically.

    Returns:
        A dict from such convolutions to their `ZeroPadding2D`.
    """
    graphs = dict.fromkeys(_graphs(model))
    nodes = [
        node
        for graph in graphs
        for depth in graph._nodes_by_depth.values()
        for node in depth
    ]
    calls = collections.Counter(node.operation for node in nodes)
    users = collections.Counter(
        id(tensor) for node in nodes for tensor in node.input_tensors
    )
    for graph in graphs:
        users.update(map(id, graph.outputs))
    found = {}
    for node in nodes:
        layer = node.operation
        if layer not in convolutions or calls[layer] > 1:
            continue
        tensor = node.input_tensors[0]
        pad = tensor._keras_history.operation
        if (
            type(pad) is keras.layers.ZeroPadding2D
            and calls[pad] == users[id(tensor)] == 1
            and layer.padding == "valid"
            and layer.data_format == pad.data_format
            and pad.padding == _symmetric_pads(layer)
        ):
            found[layer] = pad
    return found


def _symmetric_pads(layer):
    geometry = convolution_geometry(
        layer.kernel_size,
        layer.strides,
        "symmetric",
        layer.dilation_rate,
        groups=1,
    )
    return geometry.pads(size=(0, 0))


def _graphs(model):
    """The graphs of a model and of the models in it."""
    yield model._functional if isinstance(model, keras.Sequential) else model
    for layer in model.layers:
        if _is_graph(layer):
            yield from _graphs(layer)


def _some_names(layers):
    names = [layer.name for layer in layers]
    more = ["..."] if len(names) > _NAMES_IN_ERRORS else []
    return names[:_NAMES_IN_ERRORS] + more


def _check_convertible(layers, holders):
    for layer in layers:
        if holders[layer] is not layer:
            raise ValueError(
                "Expected convolutions in functional or Sequential models; a "
                "subclassed model cannot be converted. "
                f"Received: layer={layer.name} in model={holders[layer].name} "
                f"of class {type(holders[layer]).__name__}"
            )
        if getattr(layer, "lora_enabled", False):
            raise ValueError(
                "Expected a convolution without LoRA: save and load the "
                "weights to merge it. "
                f"Received: layer={layer.name}, lora_rank={layer.lora_rank}"
            )
        if layer.quantization_mode is not None:
            raise ValueError(
                "Expected a convolution without quantization. Received: "
                f"layer={layer.name}, mode={layer.quantization_mode}"
            )


@dataclasses.dataclass(frozen=True)
class _Replacement:
    """A new layer, and values for those of its weights that have the names."""

    layer: keras.Layer
    weights: dict[str, Any]


def _weights(layer):
    """The weights of a layer by name, as float64 arrays."""
    return {
        variable.name: keras.ops.convert_to_numpy(variable).astype("float64")
        for variable in layer.weights
    }


def _rebuild(model, replacements, name):
    """A copy of a model, with its weights and some layers replaced.

    Args:
        model: A functional or Sequential model.
        replacements: Dict from layers of the model to `_Replacement`s.
        name: Name of the copy.
    """
    copies = {layer: new.layer for layer, new in replacements.items()}

    def copy_of(layer):
        if layer not in copies:
            copies[layer] = copy(layer, layer.name)
        return copies[layer]

    def copy(layer, name):
        if isinstance(layer, keras.Sequential):
            return _copy_sequential(layer, name, copy_of)
        if _is_graph(layer):
            # Without the class and the compilation, which clone_model would
            # have to serialize.
            graph = keras.Model(layer.input, layer.output, name=name)
            return keras.models.clone_model(
                graph,
                input_tensors=keras.tree.map_structure(
                    _copy_input, layer.input
                ),
                clone_function=copy_of,
            )
        if type(layer) is keras.layers.TimeDistributed:
            config = {**layer.get_config(), "layer": copy_of(layer.layer)}
            return keras.layers.TimeDistributed(**config)
        if type(layer) is keras.layers.Lambda:
            return _copy_lambda(layer)
        _check_config(layer)
        return type(layer).from_config(layer.get_config())

    copies[model] = copy(model, name)
    # The outermost first: a model's flag overrides those of its layers.
    for layer, new in reversed(copies.items()):
        if isinstance(layer, keras.Layer) and new.trainable != layer.trainable:
            new.trainable = layer.trainable
    for leaf in dict.fromkeys(_leaves(model)):
        if leaf in replacements:
            _assign(copies[leaf], replacements[leaf].weights)
        elif leaf in copies:
            _copy_weights(leaf, copies[leaf])
    return copies[model]


def _copy_sequential(model, name, copy_of):
    layers = [copy_of(layer) for layer in model.layers]
    return keras.Sequential([_copy_input(model.inputs[0]), *layers], name=name)


def _copy_input(tensor):
    layer = tensor._keras_history.operation
    return type(layer).from_config(layer.get_config()).output


def _check_config(layer):
    # Without a `get_config` of its own, the arguments of a subclassed model
    # would silently be the defaults in its copy.
    if (
        isinstance(layer, keras.Model)
        and type(layer).get_config is keras.Model.get_config
    ):
        raise ValueError(
            "Expected a nested subclassed model to implement `get_config`. "
            f"Received: model={layer.name} of class {type(layer).__name__}"
        )


def _copy_lambda(layer):
    # The function itself: Keras refuses to deserialize a Python lambda.
    return keras.layers.Lambda(
        layer.function,
        output_shape=layer._output_shape,
        mask=layer.mask,
        arguments=layer.arguments,
        name=layer.name,
        dtype=layer.dtype_policy,
    )


def _assign(layer, weights):
    for variable in layer.weights:
        if variable.name in weights:
            variable.assign(weights[variable.name])


def _copy_weights(layer, new):
    new.set_weights(layer.get_weights())
    if hasattr(new, "finalize_state"):
        # Normalization and its like keep what follows from their weights.
        new.finalize_state()


class _Moments:
    """Mean and variance of arrays, one at a time, in float64."""

    def __init__(self):
        self.count = 0
        self.total = 0.0
        self.squares = 0.0

    def add(self, array):
        array = np.asarray(array, "float64")
        self.count += 1
        self.total += array
        self.squares += np.square(array)

    @property
    def mean(self):
        return self.total / self.count

    @property
    def variance(self):
        return np.maximum(self.squares / self.count - self.mean**2, 0)


def record_attention(model, receivers, batches):
    """Runs a model, and gives away the attention maps of its layers.

    Args:
        model: As for `fold_attention`.
        receivers: Dict from `attentional_layers` to functions, each of which
            is called with the map of every sample, an array.
        batches: `Batches`.
    """
    recorder = _rebuild(
        model,
        {
            layer: _Replacement(_recording(layer, receive), _weights(layer))
            for layer, receive in receivers.items()
        },
        model.name,
    )
    recorder.compile(run_eagerly=True)
    for inputs in batches:
        recorder.predict_on_batch(inputs)


def attention_moments(model, layers, batches):
    """Moments of the attention maps of the layers over all samples."""
    moments = {layer: _Moments() for layer in layers}
    receivers = {layer: moments[layer].add for layer in layers}
    record_attention(model, receivers, batches)
    for layer in layers:
        if not moments[layer].count:
            raise ValueError(
                "Expected `data` to have at least one sample. "
                "Received: no samples"
            )
        if not np.isfinite(moments[layer].total).all():
            raise ValueError(
                "Expected `data` and `model` to give finite attention maps. "
                f"Received: layer={layer.name} with infinity or NaN"
            )
    return moments


def _recording(layer, receive):
    """A layer like the given one that gives its attention maps away."""

    class Recording(type(layer)):
        def call(self, inputs):
            maps = keras.ops.convert_to_numpy(self.kernel_attention(inputs))
            for sample in maps:
                receive(sample)
            return super().call(inputs)

    return Recording.from_config(layer.get_config())


def _movement(model, plain, batches):
    """The fields of a `FoldReport` that are about the outputs."""
    samples, largest, difference, norm = 0, 0.0, 0.0, 0.0
    for inputs in batches:
        samples += _size(inputs)
        outputs = zip(_outputs(plain, inputs), _outputs(model, inputs))
        for actual, expected in outputs:
            largest = max(largest, np.max(np.abs(actual - expected), initial=0))
            difference += np.sum(np.square(actual - expected))
            norm += np.sum(np.square(expected))
    return {
        "samples": samples,
        "max_difference": float(largest),
        "relative_difference": float(
            np.sqrt(difference / norm) if difference else 0.0
        ),
    }


def _outputs(model, inputs):
    outputs = keras.tree.flatten(model.predict_on_batch(inputs))
    return [np.asarray(output, "float64") for output in outputs]


class Batches:
    """The inputs in `data`, as NumPy arrays; can be iterated over twice."""

    def __init__(self, model, data, batch_size):
        check_positive_integer("batch_size", batch_size)
        self.inputs = model.inputs
        if all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(data)):
            self.batches = _slices(self._checked(data), batch_size)
        elif isinstance(data, keras.utils.PyDataset):
            self.batches = _Items(data)
        elif hasattr(data, "__iter__") and not isinstance(data, (str, dict)):
            self.batches = list(data) if iter(data) is data else data
        else:
            raise ValueError(
                "Expected `data` to be arrays or an iterable of batches of "
                f"arrays. Received: data={data}"
            )

    def __iter__(self):
        return (inputs for inputs, _ in self.with_targets())

    def with_targets(self):
        """Pairs of the inputs and a list of what comes after them."""
        for batch in self.batches:
            inputs, *rest = batch if isinstance(batch, tuple) else (batch,)
            inputs = self._checked(inputs)
            if _size(inputs):
                yield inputs, rest

    def _checked(self, inputs):
        inputs = keras.tree.map_structure(_to_numpy, inputs)
        shapes = [array.shape for array in keras.tree.flatten(inputs)]
        sizes = {shape[:1] for shape in shapes}
        if len(shapes) != len(self.inputs) or len(sizes) > 1 or () in sizes:
            raise ValueError(
                "Expected `data` to have one array for each of the model's "
                "inputs, all with the same number of samples; a list of "
                "batches has to be passed as `iter(batches)`. Received: "
                f"shapes={shapes} for {len(self.inputs)} inputs"
            )
        return inputs


def _slices(arrays, size):
    return [
        (keras.tree.map_structure(lambda a, i=i: a[i : i + size], arrays),)
        for i in range(0, _size(arrays), size)
    ]


class _Items:
    """Iterates over a `PyDataset`, which need not stop by itself."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        return (self.dataset[i] for i in range(len(self.dataset)))


def _size(arrays):
    return len(keras.tree.flatten(arrays)[0])


def _to_numpy(array):
    if keras.ops.is_tensor(array):
        return keras.ops.convert_to_numpy(array)
    return np.asarray(array)
