"""The model card of a released file, in the form that model hubs read."""

import dataclasses

import yaml

from aw_keras import home
from aw_keras.applications import datasets, get_entry
from zoo.publishing import table

#: Trainings of fewer epochs are called short.
_SHORT = 100

HEAD = "<!-- Written by `python -m zoo.pages`: changes here are lost. -->\n"

_CARD = """---
{front}---
{head}
# {architecture}, trained on {data}

{parameters:,} parameters, {bytes:,} bytes of float32.

| | top-1 on the test images of {data} |
|---|---|
| this file (seed {seed}) | {top1:.2f} % |
| all seeds ({seeds}) | {all_seeds} % |

{remarks}

## Use

{install}:
{hub}
```python
from aw_keras.applications import {architecture}, get_entry
from aw_keras.applications.{family} import decode_predictions

model = {architecture}(weights="{dataset}"{classes})
preprocessing = get_entry("{architecture}").preprocessing_of("{dataset}")
probabilities = model.predict(preprocessing(images))
names = decode_predictions(probabilities)
```

`images` are arrays `(samples, height, width, 3)` of red, green and blue from 0
to 255, of any size: the preprocessing makes {height} x {width} pixels of
them. A model that was saved whole, as `model.save("mine.keras")` does, is
loaded by `keras.saving.load_model` after `import aw_keras`, and not
without.{newer}

## Training

Recipe `{recipe}` (`zoo/recipes/{recipe}.yaml`), {epochs} epochs, {dtype},
Keras on {backend}, {hardware}. The seed was the lowest one that there was: no
run was chosen by its accuracy.

sha256 `{sha256}`

## Limits

The network tells the classes of its data set, in images of its kind, apart and
nothing else. Whatever is in the picture, it names one of them.
"""


_ON_THE_HUB = """
```python
import keras
import aw_keras  # tells Keras what is in the model

classifier = keras.saving.load_model("hf://{name}")
probabilities = classifier.predict(images)  # 0 to 255, of any size
names = [classifier.class_names[best] for best in probabilities.argmax(1)]
```

or `aw-keras predict hf://{name} photo.jpg`. `classifier.network` is the network
alone. The same weights, from the package or from `{file.name}` here:
"""


_NEWER = """

There is a newer file, which `weights="{file.dataset}"` stands for: this one is
loaded by its path, `aw_keras/weights/files/{file.name}`."""


def card(file, files, places, shared_as=None):
    """The card of one of the released files, as text.

    Args:
        file: `aw_keras.weights.ReleasedFile`.
        files: List of all of them, the oldest first.
        places: `zoo.publishing.table.Places`.
        shared_as: Name of the repository of the Hugging Face hub that the card
            is for, such as `"USER/NAME"`; `None` for the one in `zoo/cards/`.
    """
    entry = get_entry(file.architecture)
    (row,) = (
        row
        for row in table.read(places.table(file.dataset))
        if row.key == (file.recipe, file.data, file.architecture, file.seed)
    )
    newer = [
        other
        for other in files[files.index(file) + 1 :]
        if (other.architecture, other.dataset)
        == (file.architecture, file.dataset)
    ]
    classes = _classes(file)
    height, width, _ = entry.input_shape
    fields = dataclasses.asdict(file) | {
        **{n: table.escaped(getattr(file, n)) for n in ("data", "hardware")},
        "front": _front_matter(file),
        "head": "" if shared_as else HEAD,
        "hub": _ON_THE_HUB.format(name=shared_as, file=file)
        if shared_as
        else "",
        "family": entry.family,
        "seeds": ", ".join(map(str, file.seeds)),
        "all_seeds": table.show(file.top1_mean, file.top1_deviation),
        "remarks": description(row),
        "classes": "" if classes == entry.classes else f", classes={classes}",
        "height": height,
        "width": width,
        "install": _install(),
        "newer": _NEWER.format(file=file) if newer else "",
        "epochs": row.epochs,
        "dtype": row.dtype,
    }
    return _CARD.format(**fields)


def _install():
    """How the code below gets to work."""
    if requirement := home.requirement("tensorflow"):
        return f"`pip install '{requirement}'`, then"
    return "With `aw_keras` installed, from a checkout or its wheel"


def _classes(file):
    """Number of classes of the data set of a file."""
    known = datasets.find(file.dataset)
    return known.classes if known else get_entry(file.architecture).classes


def _front_matter(file):
    """What model hubs read, as YAML."""
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"type": file.dataset, "name": file.data, "split": "test"},
        "metrics": [
            {"type": "accuracy", "name": "top-1, %", "value": file.top1}
        ],
    }
    return yaml.safe_dump(
        {
            "library_name": "keras",
            "license": file.licence.lower(),
            "pipeline_tag": "image-classification",
            "tags": ["aw-keras", "attention", "image-classification"],
            "datasets": [file.dataset],
            "metrics": ["accuracy"],
            "model-index": [{"name": stem(file), "results": [result]}],
        },
        sort_keys=False,
    )


def description(row):
    """What to keep in mind with every figure of a recipe."""
    sentences = [f"{row.epochs} epochs."]
    if row.epochs < _SHORT:
        sentences = [
            f"A short recipe of {row.epochs} epochs: it compares networks and "
            "does not show how far they get."
        ]
    if "(JPEG)" in row.data:
        sentences.append(
            f"{table.escaped(row.data)} is the data set after a lossy "
            "compression, which costs some accuracy."
        )
    return "\n".join(sentences)


def stem(file):
    """Name of a file without its ending, which its card has too."""
    return file.name.removesuffix(".weights.h5")
