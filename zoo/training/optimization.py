"""How a recipe trains: optimizer, learning rate, loss."""

import math

import keras

from aw_keras.weights.loading import CLASSIFIER

#: What the path of the weights of the classifier has in it.
HEAD = f"{CLASSIFIER}/"

#: What the names of the weights begin with that kernel attention is computed
#: from.
ATTENTION = "attention_"

#: Parts of the names of weights that weight decay spares. No normalisation
#: would give attention back what it takes.
SPARED = ("bias", "beta", "gamma", ATTENTION)


class _Rates:
    """Learning rates that differ by a factor, for parts of a network."""

    def __init__(self, *args, rates, **kwargs):
        super().__init__(*args, **kwargs)
        self.rates = rates

    def update_step(self, gradient, variable, learning_rate):
        if self.rates:
            learning_rate = self._rate_of(variable) * learning_rate
        super().update_step(gradient, variable, learning_rate)

    def _rate_of(self, variable):
        # TensorFlow's own variables, which it passes, do not know their path.
        place = self._get_variable_index(variable)
        path = self._trainable_variables[place].path
        rates = [rate for part, rate in self.rates.items() if part in path]
        return math.prod(rates)


class SGD(_Rates, keras.optimizers.SGD):
    """Gradient descent at several learning rates.

    Args:
        *args: Arguments of `keras.optimizers.SGD`.
        rates: Dict from a part of the path of weights to the factor of their
            learning rate.
        **kwargs: Arguments of `keras.optimizers.SGD`.
    """


class AdamW(_Rates, keras.optimizers.AdamW):
    """AdamW at several learning rates; arguments as those of `SGD` here."""


def compile_for(model, recipe, steps, spared=SPARED):
    """Compiles a model of logits for a recipe.

    Args:
        model: `keras.Model`.
        recipe: `Recipe`.
        steps: Integer, number of steps of an epoch.
        spared: Parts of the names of weights that weight decay spares.
    """
    optimizer = _optimizer(recipe, steps)
    optimizer.exclude_from_weight_decay(var_names=[*spared])
    if recipe.dtype == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer,
        _loss(recipe),
        metrics=["accuracy"],
        jit_compile=recipe.jit_compile,
        steps_per_execution=largest_divisor(steps, recipe.steps_per_execution),
    )


def _optimizer(recipe, steps):
    rates = {f"/{ATTENTION}": recipe.attention_rate, HEAD: recipe.head_rate}
    common = {
        "learning_rate": learning_rate(recipe, steps),
        "global_clipnorm": recipe.clip_norm or None,
        "use_ema": recipe.ema > 0,
        "ema_momentum": recipe.ema,
        "rates": {part: rate for part, rate in rates.items() if rate != 1},
    }
    if recipe.optimizer == "adamw":
        return AdamW(
            beta_1=recipe.momentum, weight_decay=recipe.weight_decay, **common
        )
    return SGD(
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        # Keras decouples the weight decay from the momentum, which would
        # else multiply it by 1 / (1 - momentum).
        weight_decay=recipe.weight_decay / (1 - recipe.momentum) or None,
        **common,
    )


def _loss(recipe):
    if recipe.cross_entropy == "categorical":
        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        )

    def binary(labels, logits):
        # Keras' own smoothing would move every label towards 1/2.
        rest = recipe.label_smoothing / labels.shape[-1]
        labels = labels * (1 - recipe.label_smoothing) + rest
        return keras.losses.binary_crossentropy(
            labels, logits, from_logits=True
        )

    return binary


def learning_rate(recipe, steps):
    """The learning rate of a recipe, a function of the step."""
    schedules = keras.optimizers.schedules
    if recipe.schedule == "steps":
        return schedules.PiecewiseConstantDecay(
            [epoch * steps for epoch in recipe.milestones],
            [
                recipe.learning_rate * 0.1**passed
                for passed in range(len(recipe.milestones) + 1)
            ],
        )
    warmup = round(recipe.warmup_epochs * steps)
    rest = max(recipe.epochs * steps - warmup, 1)
    if not warmup:
        return schedules.CosineDecay(recipe.learning_rate, rest)
    return schedules.CosineDecay(
        0.0, rest, warmup_target=recipe.learning_rate, warmup_steps=warmup
    )


def largest_divisor(number, limit):
    """The largest divisor of a number up to a limit.

    Example:

    >>> largest_divisor(390, 32)
    30
    """
    return next(n for n in range(min(number, limit), 0, -1) if number % n == 0)
