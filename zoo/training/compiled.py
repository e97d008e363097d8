"""Training steps that PyTorch compiles whole, the gradient included.

Keras on PyTorch runs a layer at a time: its batch normalisation alone passes
over the activations eight times. Here the step of a model, from a batch to the
gradients, is traced once into one graph of tensor operations, which PyTorch's
compiler fuses; whatever a layer does is in it, gradients of its own too.
"""

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree


class CompiledModel(keras.Model):
    """A functional model that PyTorch compiles for batches of one size.

    Batches of other sizes, such as the last one of a test split, run layer by
    layer. The first step takes a minute or more, unless PyTorch finds what it
    compiled before in its cache.

    Raises:
        ValueError: At `compile`, if the optimizer scales the loss, or a layer
            adds to it or draws random numbers, none of which is in the graph.
    """

    def compile(self, *args, jit_compile=True, **kwargs):
        super().compile(*args, jit_compile=False, **kwargs)
        scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        draws = any("seed_generator" in v.path for v in self.variables)
        if scales or draws or self.losses:
            raise ValueError(
                "Expected an optimizer that does not scale the loss, and no "
                "layers with losses or random numbers of their own, to compile "
                f"for PyTorch. Received: optimizer={self.optimizer.name}, "
                f"losses={self.losses}, random numbers={draws}"
            )
        self._compiled_step = _Compiled(self._loss_and_gradients)
        self._compiled_call = _Compiled(self._call_for_test)

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        loss, y_pred, updates, gradients = self._compiled_step(
            x, y, *self._values()
        )
        for variable, value in zip(self.non_trainable_variables, updates):
            variable.assign(value)
        self.optimizer.apply(gradients, self.trainable_variables)
        self._loss_tracker.update_state(loss, sample_weight=len(x))
        return self.compute_metrics(x, y, y_pred)

    def test_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        if self._compiled_call.shape in (None, x.shape):
            y_pred = self._compiled_call(x, *self._values())
        else:
            y_pred = self(x, training=False)
        loss = self.compute_loss(x, y, y_pred, training=False)
        self._loss_tracker.update_state(loss, sample_weight=len(x))
        return self.compute_metrics(x, y, y_pred)

    def _values(self):
        return (
            [variable.value for variable in self.trainable_variables],
            [variable.value for variable in self.non_trainable_variables],
        )

    def _loss_and_gradients(self, x, y, trainable, others):
        trainable = [value.detach().requires_grad_() for value in trainable]
        with torch.enable_grad():
            y_pred, updates = self.stateless_call(
                trainable, others, x, training=True
            )
            loss = self.compute_loss(x, y, y_pred)
            gradients = torch.autograd.grad(loss, trainable)
        return loss, y_pred, updates, gradients

    def _call_for_test(self, x, trainable, others):
        return self.stateless_call(trainable, others, x, training=False)[0]


class _Compiled:
    """A function of tensors that is compiled when it is first called.

    Attributes:
        shape: Shape of the first argument, `None` before that.
    """

    def __init__(self, function):
        self.function = function
        self.shape = None

    def __call__(self, *arguments):
        leaves, structure = pytree.tree_flatten(arguments)
        with torch.no_grad():
            if self.shape is None:
                self._compile(leaves, structure)
            results = self.compiled(*leaves)
        return pytree.tree_unflatten(results, self.structure)

    def _compile(self, leaves, structure):
        def flat(*leaves):
            results = self.function(*pytree.tree_unflatten(leaves, structure))
            results, self.structure = pytree.tree_flatten(results)
            return results

        traced = make_fx(
            flat, tracing_mode="fake", _allow_non_fake_inputs=True
        )(*leaves)
        self.compiled = torch._inductor.compile(
            traced,
            leaves,
            # Layers have channels last already. Left to choose, the compiler
            # puts the axis before the last one last between convolutions.
            {"layout_optimization": False},
        )
        self.shape = leaves[0].shape
