"""The argument MODEL: a registered network, a run or a file, opened."""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import sys
import zipfile
from typing import Any

from aw_keras import suffixes
from aw_keras.cli import catalogue
from aw_keras.suggestions import did_you_mean

_SUFFIX = ".keras"

#: How Keras begins the names of models on the Hugging Face hub.
_HUB = "hf://"

_MODEL = (
    "Expected the name of a network (see aw-keras list), the folder of a "
    f"finished training, or a file of Keras ({_SUFFIX}) or PyTorch. "
    "Received: MODEL="
)

#: What `--preprocessing` takes beside the names of data sets, with the fields
#: of that `Preprocessing`.
_RANGES = {
    "signed": {"mean": (127.5,) * 3, "deviation": (127.5,) * 3},
    "unit": {"deviation": (255.0,) * 3},
    "none": {},
}

#: What `--preprocessing` takes.
PREPROCESSINGS = (*catalogue.datasets(), *_RANGES)

DESCRIPTION = f"""\
MODEL is one of
  NAME            a network with its released weights (aw-keras list
                  --pretrained), or with yours (--weights PATH)
  LIBRARY/NAME    weights of others (aw-keras list --pretrained '*/*')
  hf://USER/NAME  a model that Keras has saved on the Hugging Face hub
  FOLDER          a training
  FILE            a model of Keras (.keras), or weights of PyTorch for a ResNet
                  of timm, torchvision, akamaster or chenyaofo

How images have to be preprocessed is known for weights that have a name, for
trainings and for an aw_keras.Classifier, and what is usual is done for files of
PyTorch; for others say --preprocessing, that of a data set:
{", ".join(catalogue.datasets())}; or signed (-1 to 1), unit (0 to 1), or none
(0 to 255 as they are, for a network that does it itself).
"""


@dataclasses.dataclass(frozen=True)
class Network:
    """A model and what is known about its images and classes.

    Attributes:
        model: `keras.Model`.
        weights: Where its weights come from, for people.
        kind: What the preprocessing is, for people: one of `PREPROCESSINGS`,
            or the weights that it is that of.
        preprocessing: `Preprocessing`.
        dataset: Name of the data set of its classes, if it is one of those
            that are known.
        names: Names of its classes, if it has them itself.
    """

    model: Any
    weights: str
    kind: str
    preprocessing: Any
    dataset: str | None
    names: tuple | None = None

    @property
    def served_preprocessing(self):
        """What an export does itself: `None` if the network does it."""
        return None if self.kind == "none" else self.preprocessing

    def class_names(self):
        """Names of the classes, or `None` if they are not known.

        Raises:
            ConnectionError: If Keras has to download them, and cannot.
        """
        from aw_keras.applications import datasets

        if self.names is not None:
            return self.names
        counts = [tensor.shape[-1] for tensor in self.model.outputs]
        known = datasets.DATASETS.get(self.dataset)
        if known is None or counts != [known.classes]:
            return None
        with _downloads():
            return datasets.class_names(self.dataset)


def _preprocessing(kind):
    """The `Preprocessing` of one of `PREPROCESSINGS`."""
    from aw_keras.applications.datasets import DATASETS
    from aw_keras.preprocessing import Preprocessing

    if kind in DATASETS:
        return DATASETS[kind].preprocessing
    return Preprocessing(**_RANGES[kind])


@contextlib.contextmanager
def _downloads():
    """Shows the progress of downloads only where someone can see it."""
    from keras import config

    shown = config.is_interactive_logging_enabled()
    if not sys.stderr.isatty():
        config.disable_interactive_logging()
    try:
        yield
    finally:
        if shown:
            config.enable_interactive_logging()


def add_model(parser):
    """Adds the argument of commands for which any weights will do."""
    parser.add_argument(
        "model", metavar="MODEL", help="name of a network, or a file"
    )


def add_arguments(parser):
    """Adds the arguments that `open_trained` reads."""
    add_model(parser)
    parser.add_argument(
        "--weights",
        metavar="NAME|PATH",
        help="for a name: released weights, or a file of Keras or PyTorch",
    )
    parser.add_argument(
        "--preprocessing",
        choices=PREPROCESSINGS,
        metavar="KIND",
        help="what images go through first (see above)",
    )


def open_any(source):
    """The network of an argument MODEL; that of a name has random weights."""
    if _is_model(source):
        return _bare(load(source))
    name = _known(source)["name"]
    from aw_keras.applications import create_model

    return create_model(name)


def with_weights(name, path):
    """The network of a name with the weights of a file."""
    name = _known(name)["name"]
    if not os.path.isfile(path):
        raise ValueError(
            f"Expected a file with the weights of {name}. Received: {path}, "
            "which is no file"
        )
    classes = _classes_in(path)
    from aw_keras.applications import create_model

    return create_model(name, weights=path, classes=classes)


def open_trained(options):
    """The `Network` of the arguments that `add_arguments` adds.

    Raises:
        ValueError: If there are no weights, or no preprocessing for them.
    """
    if _is_model(options.model):
        if options.weights:
            raise ValueError(
                "Expected --weights for the name of a network only. "
                f"Received: MODEL={options.model}, which has its own"
            )
        return _with_its_own(options)
    entry = _known(options.model)
    weights = options.weights or _released(entry)
    if weights in (*entry["weights"], *entry["published"]):
        model = _with_named(entry["name"], weights)
    else:
        _check_weights(weights, entry)
        _check_said(options, weights)
        model = with_weights(entry["name"], weights)
    return _network(options, model, weights)


def _with_its_own(options):
    model = load(options.model)
    bare = _bare(model)
    if bare is model:
        if catalogue.owner(options.model) is None:
            _check_said(options, options.model)
        return _network(options, model, options.model)
    if options.preprocessing:
        raise ValueError(
            "Expected no --preprocessing for a model that has its own. "
            f"Received: MODEL={options.model}, "
            f"--preprocessing {options.preprocessing}"
        )
    return Network(
        bare,
        options.model,
        "its own",
        model.preprocessing,
        None,
        model.class_names,
    )


def _bare(model):
    """The network of normalised images in a model, which most are."""
    from aw_keras.classifier import Classifier

    return model.network if isinstance(model, Classifier) else model


def _with_named(name, weights):
    """The network of a name with weights of a name."""
    from aw_keras.applications import create_model, get_entry
    from aw_keras.applications.datasets import DATASETS
    from aw_keras.weights import manifest

    file = manifest.named(weights, name)
    known = DATASETS[file.dataset] if file else get_entry(name)
    with _downloads():
        return create_model(name, weights=weights, classes=known.classes)


def _network(options, model, weights):
    """A `Network`, with what is known of its weights unless told otherwise."""
    receipt = getattr(model, "weights_receipt", None)
    dataset = receipt and receipt.dataset
    if kind := options.preprocessing:
        preprocessing = _preprocessing(kind)
    else:
        preprocessing = receipt.preprocessing
        usual = suffixes.is_pytorch(weights)
        kind = f"usual for {dataset}" if usual else weights
    return Network(model, weights, kind, preprocessing, dataset or kind)


def _is_model(source):
    """Whether an argument is that of a model that comes with its weights."""
    return catalogue.find(source) is None and (
        catalogue.owner(source) is not None
        or source.startswith(_HUB)
        or source.endswith(_SUFFIX)
        or suffixes.is_pytorch(source)
        or os.sep in source
        or os.path.exists(source)
    )


def _known(name):
    found = catalogue.find(name)
    if found is None:
        names = [network["name"] for network in catalogue.networks()]
        raise ValueError(f"{_MODEL}{name}" + did_you_mean(name, names))
    return found


def load(path):
    """The model of a run or a file of Keras, not compiled, or of PyTorch.

    Also that of weights of others, by their name, or on the hub.
    """
    if network := catalogue.owner(path):
        return _with_named(network["name"], path)
    if path.startswith(_HUB):
        _begin_with_hub()
        what = "a model that Keras 3 has saved on the Hugging Face hub"
    else:
        path = _file_of(path)
        what = f"a {_SUFFIX} file written by Keras 3"
    if suffixes.is_pytorch(path):
        from aw_keras.applications import from_pytorch

        return from_pytorch(path)
    import keras

    import aw_keras.classifier
    import aw_keras.layers  # noqa: F401 - Keras has to know them.
    from aw_keras.weights import loading

    try:
        if not path.startswith(_HUB):
            loading.check(path)
        with _downloads():
            model = keras.saving.load_model(path, compile=False)
    # What Keras raises for damaged files depends on where the damage is.
    except Exception as error:
        raise ValueError(
            f"Expected {what}, with layers of "
            f"Keras and aw_keras only. Received: MODEL={path} "
            f"({type(error).__name__}: {error})"
        ) from error
    if broken := loading.not_finite(model):
        raise ValueError(
            "Expected finite weights. Received: "
            f"MODEL={path}, where {', '.join(broken)} has infinity or NaN"
        )
    return model


def _begin_with_hub():
    """Checks that models there can be read; see `_downloads`."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ImportError(
            "Expected huggingface_hub to be installed, for models on the "
            "Hugging Face hub: pip install 'aw-keras[hub]'"
        )
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()


def _file_of(path):
    """The path of a file that can be one of a model."""
    if os.path.isdir(path):
        found = os.path.join(path, suffixes.MODEL_FILE)
        if not os.path.exists(found):
            raise ValueError(
                f"{_MODEL}{path}, a folder without {suffixes.MODEL_FILE}"
            )
        path = found
    if not os.path.isfile(path):
        known = [name for n in catalogue.networks() for name in n["published"]]
        raise ValueError(
            f"{_MODEL}{path}, which is no file" + did_you_mean(path, known)
        )
    if suffixes.is_pytorch(path):
        return path
    if pathlib.Path(path).suffix != _SUFFIX or not zipfile.is_zipfile(path):
        raise ValueError(
            f"Expected a file that `model.save('name{_SUFFIX}')` has written. "
            f"Received: MODEL={path}"
        )
    return path


def _check_said(options, weights):
    if options.preprocessing is None and not suffixes.is_pytorch(weights):
        raise ValueError(
            "Expected --preprocessing, one of "
            f"{', '.join(PREPROCESSINGS)}: what images went through in "
            f"training is not known. Received: weights={weights}"
        )


def _released(entry):
    if not entry["weights"]:
        others = ", ".join(
            network["name"]
            for network in catalogue.networks()
            if network["weights"]
        )
        raise ValueError(
            "Expected --weights PATH, because no weights were released for "
            "this network, or one of "
            f"{others}. Received: MODEL={entry['name']}"
        )
    return entry["weights"][0]


def _check_weights(weights, entry):
    if not os.path.isfile(weights):
        known = " or ".join([*entry["weights"], "a file of weights"])
        raise ValueError(
            f"Expected --weights to be {known} for {entry['name']}. "
            f"Received: --weights {weights}"
            + did_you_mean(weights, [*entry["weights"], *entry["published"]])
        )


def _classes_in(path):
    """The number of classes that a file of weights is for."""
    from aw_keras.weights import loading

    shapes = loading.shapes(path).get(loading.CLASSIFIER)
    if not shapes:
        raise ValueError(
            f"Expected weights with the classifier `{loading.CLASSIFIER}`. "
            f"Received: weights={path}"
        )
    return max(shapes.values(), key=len)[-1]
