"""Measures what 8 bits cost the released networks.

    python -m zoo.quantize --data DATA

Exports every network whose weights were trained on these data for LiteRT, in
float32 and in int8, runs both on the test split, and writes accuracy and size
of each to `zoo/results/int8.csv`. The ranges of the activations are measured in
a few images of the training split.
"""

import argparse
import pathlib
import tempfile

import numpy as np
import rich.progress

from aw_keras import export
from aw_keras.command import one_line_errors
from zoo.data import sources
from zoo.publishing import table
from zoo.publishing.check import network_of, trained_on
from zoo.training.measuring import measures

RESULTS = pathlib.Path(__file__).parent / "results" / "int8.csv"
PRECISIONS = ("float32", "int8")

_BATCH = 100


def quantize(network, dataset, preprocessing, images=200, seed=0):
    """Accuracy and size of a network in float32 and in 8 bits.

    Args:
        network: `keras.Model`, a classifier of normalised images.
        dataset: `zoo.data.dataset.Dataset` whose images have one size.
        preprocessing: `Preprocessing` of the network's images.
        images: Integer, number of training images to measure ranges in.
        seed: Integer, which chooses them.

    Returns:
        Dict from precision to a pair: accuracy on the test split, from 0 to 1,
        and size of the file in bytes.
    """
    order = np.random.default_rng(seed).permutation(len(dataset.x_train))
    chosen = dataset.x_train[np.sort(order[:images])]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            path = pathlib.Path(folder, precision)
            export(
                network,
                path,
                "litert",
                preprocessing=preprocessing,
                precision=precision,
                representative_data=chosen if precision == "int8" else None,
            )
            scores = run(path, dataset.x_test)
            top1 = measures(scores, dataset.y_test, dataset.class_names)["top1"]
            found[precision] = top1, path.stat().st_size
    return found


def run(path, images):
    """The only output of a LiteRT file for an array of images."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner()
    starts = range(0, len(images), _BATCH)
    scores = []
    for start in rich.progress.track(starts, path.name, transient=True):
        (batch,) = runner(images=images[start : start + _BATCH]).values()
        scores.append(batch)
    return np.concatenate(scores)


def _row(file, source, dataset):
    network, preprocessing = network_of(file, source, dataset)
    found = quantize(network, dataset, preprocessing)
    row = {"network": file.architecture, "data": file.data, "file": file.name}
    for precision, (top1, size) in found.items():
        row[f"{precision} top1"] = f"{100 * top1:.2f}"
        row[f"{precision} bytes"] = size
    return row


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.quantize",
        description="Measure what 8 bits cost the released networks.",
    )
    parser.add_argument(
        "--data", required=True, help="what zoo.data.sources.load takes"
    )
    source = parser.parse_args(arguments).data
    form = table.label(source)
    files = trained_on(form)
    if not files:
        parser.error(f"no weights were trained on {form}")
    dataset = sources.load(source)
    rows = [_row(file, source, dataset) for file in files]
    print(table.write_dicts(RESULTS, rows), end="")


if __name__ == "__main__":
    with one_line_errors("zoo.quantize"):
        main()
