"""Measures every released file of weights again.

What `python -m zoo.evaluate --check --data DATA` does: the accuracy of each
file has to be that of the manifest, up to the rounding of other arithmetic.
"""

import keras

from aw_keras.weights import fetch, released
from zoo.data import sources
from zoo.data.preprocessing import preprocessing_for
from zoo.publishing import table
from zoo.recipe import Recipe
from zoo.training.measuring import evaluate
from zoo.training.network import build, on_pixels

#: Points by which a measured accuracy may differ from the published one.
_SAME_BACKEND, _OTHER_BACKEND = 0.05, 0.1


def check(source, files=None):
    """Compares the accuracy of released files with the published one.

    Args:
        source: What `zoo.data.sources.load` takes: the data that the files were
            trained on, in the same form.
        files: Sequence of `aw_keras.weights.ReleasedFile`; by default all
            that are released for these data.

    Returns:
        A list of triples: a file, its accuracy in percent, and whether that
        is the published one.

    Raises:
        ValueError: If there is no file to check, or one for other data.
    """
    form = table.label(source)
    if files is None:
        files = trained_on(form)
    if not files or any(file.data != form for file in files):
        known = sorted({file.data for file in files or released()})
        raise ValueError(
            f"Expected the data of released files, {', '.join(known)}. "
            f"Received: {source}, which is {form}"
        )
    dataset = sources.load(source)
    return [_checked(file, source, dataset) for file in files]


def trained_on(form):
    """The released files of networks that were trained on data of a form.

    Args:
        form: What `zoo.publishing.table.label` calls the data.
    """
    return [file for file in released() if file.data == form]


def network_of(file, source, dataset):
    """The network of a file, and the `Preprocessing` of its images."""
    recipe = Recipe(file.architecture, source, 1, dataset=file.dataset)
    network = build(recipe, dataset, weights=fetch(file))
    return network, preprocessing_for(recipe, dataset)


def _checked(file, source, dataset):
    network, preprocessing = network_of(file, source, dataset)
    model = on_pixels(network, preprocessing)
    top1 = 100 * evaluate(model, dataset, preprocessing)["top1"]
    same = file.backend == keras.backend.backend()
    allowed = _SAME_BACKEND if same else _OTHER_BACKEND
    # The published figure is rounded; so must the difference be.
    return file, top1, round(abs(top1 - file.top1), 6) <= allowed


def report(checked):
    """A table of what `check` found, one line a file."""
    return "\n".join(
        f"{'ok ' if good else 'NOT'} {file.name}: {top1:.2f} %, published "
        f"{file.top1:.2f} % on {file.data}"
        for file, top1, good in checked
    )
