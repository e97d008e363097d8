"""What decides the result of a training: a recipe, read from a YAML file.

One file describes a data set and a schedule; the networks are variations of it
(`--set model=AWResNet20`). Whatever is set must be a field of `Recipe` and of
its type: a misspelt key is an error, not a default.
"""

import contextlib
import dataclasses
import difflib
import pathlib
import types
import typing

import yaml

from aw_keras.applications import get_entry


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A training, to the last detail.

    Example:

    >>> recipe = Recipe(model="ResNet20", data="digits", epochs=2)
    >>> recipe.dataset, recipe.batch_size
    ('digits', 128)

    Attributes:
        model: Name of a network of `aw_keras.applications`.
        data: What `zoo.data.sources.load` takes.
        epochs: Number of epochs in all.
        name: Name of the recipe: that of its file.
        dataset: What the data are called in results. Those that
            `aw_keras.applications.datasets` knows, such as `"cifar10"`, are
            normalised as it says; others by the statistics of the training
            split. Defaults to the name of `data`.
        image_size: `None` for images that all have one size and fit in
            memory; else the height and width in pixels that images of any
            size are cropped and resized to as they are read.
        limit: Number of random images to use of each split, `None` for all.
        holdout: Number of training images that are measured on in the place of
            the test split, and not trained on; 0 for none, or a fifth of each
            class if there is no test split.
        skip_bad: Whether files that cannot be read as images are left out.
        weights: What a fine-tuning begins with: a name or path that the
            network takes, or the folder of a run, of the same network. Images
            go through the preprocessing that is known of it. `None` begins
            with random weights.
        adapt: Whether the classifier of `weights` may be one of other classes,
            and begins anew then.
        frozen_stages: Number of stages, the stem being the first, that keep
            the weights and statistics they begin with; as many as there are
            leave the classifier alone to train.
        batch_size: Number of images of a step, over all devices. Those that
            an epoch's last whole batch leaves over are left out.
        learning_rate: Learning rate after the warm-up.
        attention_rate: Factor of the learning rate of the weights that an
            AW-convolution computes its attention from.
        head_rate: Factor of the learning rate of the classifier.
        schedule: `"steps"`, a tenth of it after each of the `milestones`; or
            `"cosine"`, linear warm-up and then half a cosine down to zero.
        milestones: Epochs after which `"steps"` divides by ten.
        warmup_epochs: Length of the warm-up of `"cosine"`, in epochs.
        optimizer: `"sgd"`, stochastic gradient descent; or `"adamw"`.
        momentum: Momentum of the stochastic gradient descent.
        nesterov: Whether it is Nesterov's.
        weight_decay: Weight decay in the usual sense: the learning rate
            multiplies it and, of `"sgd"`, the momentum. Biases, normalisations
            and the attention branches of AW-convolutions are spared.
        clip_norm: The norm that the gradient of all weights together is
            clipped to; 0 for any.
        cross_entropy: `"categorical"`, the cross-entropy of the classes; or
            `"binary"`, the mean cross-entropy of each class against all
            others.
        crop_padding: Pixels by which a random crop moves an image at most.
        flip: Whether every second image is mirrored.
        rand_augment: Magnitude of RandAugment from 0, for none, to 1.
        mixup: Parameter of the beta distribution of mixup, 0 for none.
        cutmix: Parameter of the beta distribution of CutMix, 0 for none.
        random_erasing: Probability that a rectangle of an image is replaced by
            noise.
        drop_path: Probability that a sample skips the residual branch of the
            last block; the blocks before it have less, down to 0
            (stochastic depth, arXiv 1603.09382).
        label_smoothing: Probability that is spread over all classes.
        ema: Momentum of the moving average of the weights, which is measured
            after every epoch and replaces them at the end; 0 for none.
        seed: Decides weights, order and augmentation.
        dtype: Dtype policy of the network, such as `"mixed_bfloat16"`.
        jit_compile: Whether to compile the whole step, by XLA or PyTorch's
            compiler; `"auto"` leaves it to Keras.
        steps_per_execution: Steps between two looks at the clock; the largest
            divisor of an epoch's steps up to it is taken.
        distribute: `None` for one device; `"mirrored"`, `"multi_worker"` or
            `"tpu"` for a strategy of TensorFlow; `"data_parallel"` for all
            devices that JAX sees.

    Raises:
        ValueError: If a value is not one of these.
    """

    model: str
    data: str
    epochs: int
    name: str = "custom"
    dataset: str | None = None
    image_size: int | None = None
    limit: int | None = None
    holdout: int = 0
    skip_bad: bool = False
    weights: str | None = None
    adapt: bool = False
    frozen_stages: int = 0
    batch_size: int = 128
    learning_rate: float = 0.1
    attention_rate: float = 1.0
    head_rate: float = 1.0
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    warmup_epochs: float = 0.0
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    clip_norm: float = 0.0
    cross_entropy: str = "categorical"
    crop_padding: int = 0
    flip: bool = False
    rand_augment: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    random_erasing: float = 0.0
    drop_path: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    seed: int = 0
    dtype: str = "float32"
    jit_compile: bool | str = "auto"
    steps_per_execution: int = 1
    distribute: str | None = None

    def __post_init__(self):
        for field, kind in typing.get_type_hints(type(self)).items():
            typed = _typed(field, getattr(self, field), kind)
            object.__setattr__(self, field, typed)
        if self.dataset is None:
            name = pathlib.PurePath(self.data).name.partition(".")[0]
            object.__setattr__(self, "dataset", name)
        object.__setattr__(self, "model", get_entry(self.model).name)
        for field in ("name", "dataset"):
            value = getattr(self, field)
            _check(field, self, is_name(value), "the name of a file, no path")
        for field, choices in _CHOICES.items():
            _check(field, self, getattr(self, field) in choices, choices)
        for field, (low, high) in _RANGES.items():
            value = getattr(self, field)
            fits = value is None or low <= value <= high
            _check(field, self, fits, f"from {low} to {high}")
        steps = self.schedule == "steps"
        _check("milestones", self, steps == bool(self.milestones), "steps only")
        _check("warmup_epochs", self, not (steps and self.warmup_epochs), "0")
        fine_tuned = self.weights is not None
        _check("frozen_stages", self, fine_tuned or not self.frozen_stages, "0")
        _check("adapt", self, fine_tuned or not self.adapt, "false")

    @property
    def run_name(self):
        """What a folder of a run of this recipe is called."""
        return f"{self.name}-{self.model}-{self.seed}"

    @classmethod
    def from_file(cls, path, settings=()):
        """Reads a recipe.

        Args:
            path: Path of a YAML file that maps fields to values.
            settings: Strings `"field=value"` that override the file's, with
                values in YAML.

        Returns:
            A `Recipe` that is named like the file.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no such file, or a setting no such string.
        """
        path = pathlib.Path(path)
        content = _yaml(path.read_text(), path)
        if not isinstance(content, dict):
            raise ValueError(
                "Expected a YAML file that maps fields to values. "
                f"Received: {path}"
            )
        for setting in settings:
            field, equals, value = setting.partition("=")
            if not equals:
                raise ValueError(
                    f"Expected settings like seed=1. Received: {setting}"
                )
            content[field.strip()] = _yaml(value, setting)
        return cls.from_dict({"name": path.stem, **content})

    @classmethod
    def from_dict(cls, values):
        """The recipe with these fields, which must exist."""
        known = [field.name for field in dataclasses.fields(cls)]
        for field in values:
            if field not in known:
                close = difflib.get_close_matches(str(field), known) or known
                raise ValueError(
                    "Expected the fields of a recipe, such as "
                    f"{', '.join(close)}. Received: {field}={values[field]}"
                )
        for field in ("model", "data", "epochs"):
            if field not in values:
                raise ValueError(
                    f"Expected a recipe with a value of `{field}`. "
                    f"Received: {', '.join(values) or 'nothing'}"
                )
        return cls(**values)


def is_name(text):
    """Whether a text is the name of a file that stays in its folder."""
    return (
        bool(text)
        and text.isprintable()
        and pathlib.PurePath(text).name == text
        and not text.startswith(".")
        and "\\" not in text
    )


_CHOICES = {
    "schedule": ("steps", "cosine"),
    "optimizer": ("sgd", "adamw"),
    "cross_entropy": ("categorical", "binary"),
    "dtype": ("float32", "mixed_bfloat16", "mixed_float16"),
    "jit_compile": ("auto", True, False),
    "distribute": (None, "mirrored", "multi_worker", "tpu", "data_parallel"),
}

_MANY = 2**31 - 1
_RANGES = {
    **dict.fromkeys(
        ("epochs", "batch_size", "limit", "image_size", "steps_per_execution"),
        (1, _MANY),
    ),
    **dict.fromkeys(
        (
            *("crop_padding", "holdout", "seed", "warmup_epochs"),
            *("frozen_stages", "clip_norm"),
        ),
        (0, _MANY),
    ),
    **dict.fromkeys(
        ("momentum", "ema", "label_smoothing", "drop_path"),
        (0, 0.99999),
    ),
    **dict.fromkeys(
        ("rand_augment", "random_erasing", "weight_decay"),
        (0, 1),
    ),
    **dict.fromkeys(
        ("learning_rate", "attention_rate", "head_rate", "mixup", "cutmix"),
        (0, 1000),
    ),
}


def _check(field, recipe, fits, expected):
    if not fits:
        raise ValueError(
            f"Expected `{field}` of the recipe to be {expected}. "
            f"Received: {field}={getattr(recipe, field)}"
        )


def _yaml(text, source):
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"Expected YAML. Received: {source} ({error})") from (
            error
        )


def _typed(field, value, annotation):
    """`value` as one of the types that an annotation allows."""
    union = isinstance(annotation, types.UnionType)
    for kind in typing.get_args(annotation) if union else (annotation,):
        if isinstance(value, bool) != (kind is bool):
            continue
        if typing.get_origin(kind) is tuple:
            if isinstance(value, (list, tuple)):
                return tuple(_typed(field, item, int) for item in value)
        elif isinstance(value, kind):
            return value
        elif kind is float and isinstance(value, (int, str)):
            # YAML takes 1e-4, which has no point, for a string.
            with contextlib.suppress(ValueError):
                return float(value)
    expected = annotation if union else annotation.__name__
    raise ValueError(
        f"Expected `{field}` of the recipe to be {expected}. "
        f"Received: {field}={value!r}"
    )
