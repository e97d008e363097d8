"""What networks there are, and what is known about each."""

import dataclasses
import fnmatch
import types
from collections.abc import Callable, Mapping

from aw_keras.choices import check_choice
from aw_keras.preprocessing import Preprocessing
from aw_keras.suggestions import did_you_mean
from aw_keras.weights import manifest

_entries = {}


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is known about a network.

    Attributes:
        name: Name of the function that instantiates it.
        factory: That function.
        family: Name of the module in `aw_keras.applications` that has it.
        input_shape: Default shape of an image, channels last.
        classes: Default number of classes.
        preprocessing: `Preprocessing` of its images, of which
            `preprocess_input` does the second half; see `preprocessing_of`.
        licence: SPDX identifier of the licence of the code.
        papers: Addresses of the papers that describe it.
        published_parameters: Number of parameters that the papers state, as
            text with their precision, such as `"25.56 M"`, or `None`.
        weights: Names that its argument `weights` takes beside paths.
        results: Maps a data set to the accuracy, from 0 to 1, that networks
            trained by this project reached, the mean over their seeds.
    """

    name: str
    factory: Callable
    family: str
    input_shape: tuple[int, int, int]
    classes: int
    preprocessing: Preprocessing
    papers: tuple[str, ...]
    licence: str = "Apache-2.0"
    published_parameters: str | None = None
    weights: tuple[str, ...] = ()
    results: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: types.MappingProxyType({})
    )

    def preprocessing_of(self, weights):
        """What images go through for released weights.

        Example:

        >>> from aw_keras.applications import get_entry
        >>> entry = get_entry("ResNet50")
        >>> entry.preprocessing_of("imagenet").channels
        'BGR'
        >>> entry.preprocessing_of("timm/resnet50.a1_in1k").interpolation
        'bicubic'

        Args:
            weights: One of `weights`, or a name of `aw_keras.weights.published`
                of this network.

        Returns:
            The `Preprocessing` that is known of the file; where it is not,
            and for weights of `keras.applications`, that of the network.

        Raises:
            ValueError: If there are no such weights.
        """
        file = manifest.named(weights, self.name)
        if file is None:
            check_choice("weights", weights, self.weights)
            return self.preprocessing
        return file.preprocessing or self.preprocessing


def register(entry):
    """Adds an entry; returns its factory."""
    if entry.name.lower() in _entries:
        raise ValueError(
            "Expected a name that is not taken, whatever its case. "
            f"Received: name={entry.name}"
        )
    _entries[entry.name.lower()] = entry
    return entry.factory


def list_models(pattern="*", pretrained=False):
    """Names of the networks.

    Example:

    >>> from aw_keras.applications import list_models
    >>> list_models("AWResNet5*")
    ['AWResNet56', 'AWResNet50']

    Args:
        pattern: Shell-style pattern of names, in any case.
        pretrained: Whether to list only those that have weights to download,
            or a pattern of names of weights that they must have, of others
            too: `"timm/*"`. `aw_keras.weights.published` has what is known
            about these.

    Returns:
        A list of names, those of a family together.
    """
    return [
        entry.name
        for key, entry in _entries.items()
        if fnmatch.fnmatchcase(key, pattern.lower())
        and _has_weights(entry, pretrained)
    ]


def _has_weights(entry, pretrained):
    if isinstance(pretrained, bool):
        return bool(entry.weights) or not pretrained
    return bool(fnmatch.filter(entry.weights, pretrained)) or bool(
        manifest.published(pretrained, entry.name)
    )


def create_model(name, /, **kwargs):
    """Instantiates a network by its name.

    Example:

    >>> from aw_keras.applications import create_model
    >>> create_model("AWResNet20", classes=100).output_shape
    (None, 100)

    Args:
        name: One of `list_models()`, in any case.
        **kwargs: Arguments of the network's function, `name` of the model too.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If there is no such network.
    """
    return get_entry(name).factory(**kwargs)


def get_entry(name):
    """What is known about a network.

    Example:

    >>> from aw_keras.applications import get_entry
    >>> get_entry("SEResNet50").published_parameters
    '28.09 M'

    Args:
        name: One of `list_models()`, in any case.

    Returns:
        An `Entry`.

    Raises:
        ValueError: If there is no such network.
    """
    key = str(name).lower()
    if key not in _entries:
        raise ValueError(
            "Expected `name` to be one of `list_models()`. Received: "
            f"name={name}" + did_you_mean(name, list_models())
        )
    return _entries[key]
