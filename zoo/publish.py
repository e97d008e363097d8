"""Publishes finished runs: results, learning curves, weights, and their pages.

    python -m zoo.publish runs/cifar10_short-ResNet20-0 ...
    python -m zoo.publish awresnet20-cifar10-64d1284c --to hf://USER/NAME

Each run becomes a row of `zoo/results/<dataset>.csv` and a file of
`zoo/results/curves/`. The first time that a network is published with a recipe,
the weights of the lowest seed among its runs go into the package
(`aw_keras/weights/files/`) and into the manifest: chosen without a look at the
accuracy, so that the figure of the file is no better than it will be elsewhere.
Further seeds change the mean and the deviation in the manifest, never the file.

Publishing a run again changes nothing; publishing another result under the
same name is refused, and so is what is not finished.

With `--to` a released file, by its name or a run of its network, goes to the
Hugging Face hub as a model, with its card. `hf auth login` or the environment
variable `HF_TOKEN` says who you are.
"""

import argparse
import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
import re
import shutil
import tempfile

from aw_keras import Classifier
from aw_keras.applications import create_model
from aw_keras.command import refuse
from aw_keras.files import replace_text, replacing
from aw_keras.weights import manifest, pytorch
from zoo import pages
from zoo.publishing import model_card, sharing, table
from zoo.recipe import Recipe
from zoo.run import Run, to_json

#: Of the learning curves, what is worth keeping.
_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")

_LICENCE = "Apache-2.0"

_RECIPES = pathlib.Path(__file__).parent / "recipes"

#: In what runs of a recipe may differ: what is trained on what, which is in the
#: table, and what only decides how fast.
_FREE = {
    *("name", "model", "data", "seed"),
    *("jit_compile", "steps_per_execution", "distribute"),
}


@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished run, and its row.

    Attributes:
        run: `zoo.run.Run`.
        dataset: Name of the data set.
        row: `zoo.publishing.table.Row`.
        curve: Text of the learning curve, as CSV.
    """

    run: Run
    dataset: str
    row: table.Row
    curve: str


def read_run(folder):
    """Reads the folder of a run.

    Args:
        folder: Path of what `zoo.train` wrote.

    Returns:
        A `Finished`.

    Raises:
        ValueError: If the run is not finished, or was not trained as the
            recipe says whose name it has.
    """
    run = Run(folder)
    metrics = run.metrics
    _check_metrics(run, metrics)
    _check_recipe(run, metrics)
    log = run.log
    if len(log) != metrics["epochs"] or not run.model.is_file():
        raise ValueError(
            f"Expected a finished run. Received: {folder} with {len(log)} of "
            f"{metrics['epochs']} epochs in its log"
            + ("" if run.model.is_file() else f", without {run.model.name}")
        )
    try:
        curve = _shortened(log)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a log with finite {', '.join(_COLUMNS)}. "
            f"Received: {folder} ({error})"
        ) from error
    return Finished(run, metrics["dataset"], _row(metrics), curve)


def publish(runs, places=None):
    """Publishes runs, all or none.

    Args:
        runs: List of `Finished`.
        places: `zoo.publishing.table.Places`; by default those of this
            checkout.

    Raises:
        ValueError: If there is another result of the same network, recipe,
            data and seed, or if weights do not fit their network.
        OSError: If something cannot be written.

    Nothing is changed then.
    """
    places = places or table.Places()
    tables = {
        dataset: _merged(places.table(dataset), [run.row for run in group])
        for dataset, group in _grouped(runs, lambda run: run.dataset)
    }
    files = manifest.read(places.manifest)
    trained = [(run, _trained(run)) for run in _first(runs, files)]
    with _all_or_nothing(places):
        files += [_stored(*pair, places) for pair in trained]
        files = [_with_statistics(file, tables) for file in files]
        for run in runs:
            path = places.curve(run.dataset, run.row)
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, run.curve)
        for dataset, rows in tables.items():
            table.write(places.table(dataset), rows)
        entries = [dataclasses.asdict(file) for file in files]
        replace_text(places.manifest, to_json(entries))
        pages.write(places)


@contextlib.contextmanager
def _all_or_nothing(places):
    """Puts everything that is published back if an error occurs inside.

    Files are replaced, never changed: a second name keeps what there was, and
    takes no space, which a disk may lack.
    """
    with tempfile.TemporaryDirectory(dir=places.zoo, prefix=".before-") as kept:
        before = {}
        for number, path in enumerate(_published(places)):
            before[path] = pathlib.Path(kept, str(number))
            _copy(path, before[path])
        try:
            yield
        except BaseException:
            for path in _published(places):
                if path not in before:
                    path.unlink()
            for path, copy in before.items():
                shutil.move(copy, path)
            raise


def _copy(path, other):
    """Gives a file a second name; on another disk, a copy has to do."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copy2(path, other)


def _published(places):
    """Paths of all files that publishing may write."""
    folders = [places.zoo / name for name in ("results", "cards")]
    for folder in (*folders, places.weights):
        yield from (path for path in folder.rglob("*") if path.is_file())
    for path in (places.zoo / "README.md", places.manifest):
        if path.is_file():
            yield path


_SHARES = ("top1", "top5", "ece")
_POSITIVE = ("epochs", "parameters", "multiply_adds")
_NAME = re.compile(r"[\w+-][\w.+-]*", re.ASCII)


def _check_metrics(run, metrics):
    """Refuses what no training writes, and what pages could not show."""

    def check(name, fits, expected):
        try:
            fits = fits(metrics[name])
        except (KeyError, TypeError):
            fits = False
        if not fits:
            raise ValueError(
                f"Expected `{name}` of {run.folder}/metrics.json to be "
                f"{expected}. Received: {name}={metrics.get(name)!r:.99}"
            )

    for name in _SHARES:
        check(name, lambda x: 0 <= x <= 1, "from 0 to 1")
    for name in ("loss", "train_seconds"):
        check(name, lambda x: 0 <= x < math.inf, "finite and not negative")
    for name in _POSITIVE:
        check(name, lambda x: type(x) is int and x > 0, "a positive integer")
    check("seed", lambda x: type(x) is int and x >= 0, "a whole number")
    for name in ("recipe", "dataset", "model", "backend", "dtype"):
        check(name, _NAME.fullmatch, "a name of letters, digits, . + - and _")
    for name in ("data", "hardware"):
        check(name, lambda x: len(x) < 300 and x.isprintable(), "a short text")
    check("commit", lambda x: x is None or _NAME.fullmatch(x), "a name or null")


def _check_recipe(run, metrics):
    """Refuses what differs from the recipe in more than `_FREE`."""
    path = _RECIPES / f"{metrics['recipe']}.yaml"
    wanted = dataclasses.asdict(Recipe.from_file(path))
    settings = {name: metrics[name] for name in wanted if name in metrics}
    found = dataclasses.asdict(Recipe.from_dict(settings))
    differences = [
        f"{name}={found[name]} (there {name}={value})"
        for name, value in wanted.items()
        if name not in _FREE and found[name] != value
    ]
    if differences:
        raise ValueError(
            f"Expected a run of the recipe {path}. Received: {run.folder} with "
            f"{', '.join(differences)}"
        )


def _row(metrics):
    variant, _ = table.split_name(metrics["model"])
    same = ("model", "seed", "recipe", "epochs", "parameters", "multiply_adds")
    return table.Row(
        **{name: metrics[name] for name in same},
        **{name: metrics[name] for name in ("hardware", "backend", "dtype")},
        variant=variant,
        data=table.label(metrics["data"]),
        top1=round(100 * metrics["top1"], 2),
        top5=round(100 * metrics["top5"], 2),
        train_seconds=round(metrics["train_seconds"]),
        commit=metrics["commit"] or "",
    )


def _shortened(log):
    """A learning curve in five digits."""
    lines = [
        ",".join(f"{_finite(row[name]):.5g}" for name in _COLUMNS)
        for row in log
    ]
    return "\n".join([",".join(_COLUMNS), *lines]) + "\n"


def _finite(text):
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} in the log")
    return number


def _grouped(runs, key):
    return itertools.groupby(sorted(runs, key=key), key)


def _merged(path, rows):
    """The rows of a file and new ones, which must not contradict them."""
    merged = {row.key: row for row in table.read(path)}
    for row in rows:
        known = merged.setdefault(row.key, row)
        if known != row:
            raise ValueError(
                "Expected a run that is not in the table, or the same one. "
                f"Received: {row}, in {path.name} there is {known}. Another "
                "way to train needs another name of the recipe"
            )
    return list(merged.values())


def _first(runs, files):
    """The runs of the lowest seeds of what no file is of yet."""
    for _, group in _grouped(runs, lambda run: (run.dataset, run.row.key[:3])):
        first = min(group, key=lambda run: run.row.seed)
        if not any(_is_of(file, first) for file in files):
            yield first


def _is_of(file, run):
    """Whether a file is of the network, recipe and data of a run."""
    of_file = file.recipe, file.data, file.architecture, file.dataset
    return of_file == (*run.row.key[:3], run.dataset)


def _trained(run):
    """The `Classifier` of a run, with the network that a user has by name."""
    found = run.run.classifier()
    network = create_model(
        run.row.model,
        classes=found.output_shape[-1],
        weights=run.run.model,
        dtype="float32",
        data_format="channels_last",
    )
    built, wanted = map(pytorch.built_arguments, (found.network, network))
    if built != wanted:
        raise ValueError(
            f"Expected a network that was built with {wanted}, which a file "
            f"of weights does not say. Received: {run.run.folder} with {built}"
        )
    return Classifier(network, found.preprocessing)


def _stored(run, classifier, places):
    """Puts the weights of a run where released files are."""
    row, folder = run.row, places.weights
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        # The name says what is in it.
        made = pathlib.Path(scratch, "model.weights.h5")
        classifier.network.save_weights(made)
        sha256, size = manifest.sha256_of(made), made.stat().st_size
        name = f"{row.model.lower()}-{run.dataset}-{sha256[:8]}.weights.h5"
        with replacing(folder / name) as new:
            shutil.copyfile(made, new)
    return manifest.ReleasedFile(
        architecture=row.model,
        dataset=run.dataset,
        url=name,
        sha256=sha256,
        bytes=size,
        parameters=row.parameters,
        recipe=row.recipe,
        seed=row.seed,
        top1=row.top1,
        seeds=(row.seed,),
        top1_mean=row.top1,
        top1_deviation=None,
        data=row.data,
        licence=_LICENCE,
        backend=row.backend,
        hardware=row.hardware,
        preprocessing=classifier.preprocessing,
    )


def _with_statistics(file, tables):
    """A file whose figures are those of all seeds that are in the tables."""
    top1 = {
        row.seed: row.top1
        for row in tables.get(file.dataset, ())
        if row.key[:3] == (file.recipe, file.data, file.architecture)
    }
    if not top1:
        return file
    mean, deviation = table.mean_and_deviation(top1.values())
    return dataclasses.replace(
        file,
        seeds=tuple(sorted(top1)),
        top1_mean=round(mean, 2),
        top1_deviation=deviation if deviation is None else round(deviation, 2),
    )


def share(name, address, places=None):
    """Uploads a released file to the Hugging Face hub.

    Args:
        name: Name of the file, without its ending, or the folder of a run of
            its network, which is published first.
        address: `"hf://USER/NAME"`.
        places: As for `publish`.

    Returns:
        The address of the commit.

    Raises:
        ImportError: If huggingface_hub is not installed.
        OSError: If the hub does not take it.
        ValueError: If the run cannot be published, or there is no such file.
    """
    sharing.repository(address)
    places = places or table.Places()
    if Run(name).is_finished:
        run = read_run(name)
        publish([run], places)
        wanted = run.row.key[:3]
    else:
        wanted = name
    files = manifest.read(places.manifest)
    for file in files:
        key = file.recipe, file.data, file.architecture
        if wanted in (key, model_card.stem(file)):
            return sharing.share(file, address, places)
    raise ValueError(
        "Expected the folder of a finished run, or the name of a released file,"
        f" {', '.join(map(model_card.stem, files))}. Received: {name}"
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.publish", description="Publish finished runs."
    )
    parser.add_argument("runs", nargs="+", help="folders of runs")
    parser.add_argument(
        "--to",
        metavar="hf://USER/NAME",
        help="upload the released file of one run, or of that name, to there",
    )
    options = parser.parse_args(arguments)
    try:
        if options.to:
            if len(options.runs) != 1:
                raise ValueError(
                    "Expected one run or released file for --to. "
                    f"Received: {', '.join(options.runs)}"
                )
            print(share(*options.runs, options.to))
            return
        publish([read_run(folder) for folder in options.runs])
    except (ImportError, KeyError, OSError, ValueError) as error:
        refuse("zoo.publish", error)
    for file in manifest.read():
        print(f"{file.name}: {file.top1:.2f} %, seeds {list(file.seeds)}")


if __name__ == "__main__":
    main()
