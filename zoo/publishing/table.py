"""What was reached: one row for each run, in one CSV file for each data set.

Everything that is said about results is computed from these rows.
"""

import csv
import dataclasses
import io
import pathlib
import statistics
import typing

import zoo
from aw_keras.applications import datasets, list_models
from aw_keras.applications.variants import VARIANTS
from aw_keras.files import replace_text
from aw_keras.weights import manifest, store


@dataclasses.dataclass(frozen=True)
class Places:
    """Where results are kept.

    Attributes:
        zoo: `pathlib.Path` of the folder with `results/` and `cards/`.
        manifest: `pathlib.Path` of the list of released files.
        weights: `pathlib.Path` of the folder with these.
    """

    zoo: pathlib.Path = pathlib.Path(zoo.__file__).parent
    manifest: pathlib.Path = manifest.PATH
    weights: pathlib.Path = store.SHIPPED

    def table(self, dataset):
        return self.zoo / "results" / f"{dataset}.csv"

    def curve(self, dataset, row):
        name = f"{dataset}-{row.recipe}-{row.model}-{row.seed}.csv"
        return self.zoo / "results" / "curves" / name


@dataclasses.dataclass(frozen=True)
class Row:
    """One finished run.

    Attributes:
        model: Name of the network.
        variant: What distinguishes it from the plain network, such as `"AW"`.
        seed: Seed of the run.
        recipe: Name of the recipe.
        data: The form of the data set, such as `"CIFAR-10 (JPEG)"`.
        epochs: Number of epochs.
        parameters: Number of trainable parameters.
        multiply_adds: Number of multiply-adds of one image.
        top1: Accuracy on the test split, percent.
        top5: Share of the test images whose class is among the five most
            probable ones, percent.
        train_seconds: Time of the training.
        hardware: What it was trained on.
        backend: Keras backend.
        dtype: Dtype policy.
        commit: State of the code, empty where it is not known.
    """

    model: str
    variant: str
    seed: int
    recipe: str
    data: str
    epochs: int
    parameters: int
    multiply_adds: int
    top1: float
    top5: float
    train_seconds: int
    hardware: str
    backend: str
    dtype: str
    commit: str

    @property
    def key(self):
        """What there is one row for."""
        return self.recipe, self.data, self.model, self.seed


def label(data):
    """What a form of a data set is called.

    Example:

    >>> label("../data/cifar10-jpeg.tar.xz")
    'CIFAR-10 (JPEG)'

    Args:
        data: What `zoo.data.sources.load` takes.
    """
    return datasets.label(pathlib.PurePath(data).name.partition(".")[0])


def split_name(model):
    """Variant and plain network of a network.

    Example:

    >>> split_name("AWSEResNet20"), split_name("ResNet20")
    (('AWSE', 'ResNet20'), ('plain', 'ResNet20'))
    """
    for variant in sorted(VARIANTS, key=len, reverse=True):
        plain = model.removeprefix(variant)
        if variant and plain != model and plain in list_models():
            return variant, plain
    return "plain", model


_COLUMNS = [field.name for field in dataclasses.fields(Row)]


def files(places):
    """Paths of the files of rows, in order; detectors' have other columns."""
    for path in sorted((places.zoo / "results").glob("*.csv")):
        with open(path, encoding="utf-8") as file:
            if file.readline().strip().split(",") == _COLUMNS:
                yield path


def read(path):
    """The rows of a file, none if there is no file."""
    kinds = typing.get_type_hints(Row)
    return [
        Row(**{name: kinds[name](text) for name, text in row.items()})
        for row in read_dicts(path)
    ]


def write(path, rows):
    """Writes rows in a fixed order, replacing what was there at once."""
    order = {name: place for place, name in enumerate(list_models())}
    rows = sorted(
        rows,
        key=lambda row: (row.recipe, row.data, order[row.model], row.seed),
    )
    write_dicts(path, [dataclasses.asdict(row) for row in rows])


def write_dicts(path, rows):
    """Writes dicts of the same keys, replacing what was there at once.

    Returns:
        The text that was written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text.getvalue())
    return text.getvalue()


def read_dicts(path):
    """The rows of a CSV file as dicts of strings; none if there is no file.

    Args:
        path: `pathlib.Path`.
    """
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mean_and_deviation(values):
    """Mean and standard deviation, which is `None` for a single value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), deviation


def show(mean, deviation, digits=2):
    """Both as text, with so many digits behind the point.

    Example:

    >>> show(91.5, None), show(91.5, 0.25)
    ('91.50', '91.50 ± 0.25')
    """
    if deviation is None:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How two networks differ, over the seeds that both were trained with.

    Attributes:
        pairs: Number of seeds.
        mean: Mean difference, in points.
        deviation: Standard deviation of the differences, or `None`.
        p: Probability of as large a difference if there were none (paired
            t-test), or `None` for less than two different pairs.
    """

    pairs: int
    mean: float
    deviation: float | None
    p: float | None


def compare(figures, others):
    """Compares the figures of a network with those of another one.

    Args:
        figures: Dict from seed to figure.
        others: The same of the other one.

    Returns:
        A `Comparison`, or `None` if they have no seed in common.
    """
    differences = [
        figure - others[seed]
        for seed, figure in figures.items()
        if seed in others
    ]
    if not differences:
        return None
    mean, deviation = mean_and_deviation(differences)
    p = None
    if deviation:
        from scipy import stats

        p = float(stats.ttest_1samp(differences, 0).pvalue)
    return Comparison(len(differences), mean, deviation, p)


def show_comparison(found, digits=2):
    """A `Comparison`, or `None`, as text.

    Example:

    >>> show_comparison(Comparison(3, 0.25, 0.1, 0.0421))
    '+0.25 ± 0.10 (p = 0.042)'
    """
    if found is None:
        return ""
    sign = "+" if found.mean >= 0 else ""
    shown = sign + show(found.mean, found.deviation, digits)
    if found.pairs == 1:
        return f"{shown} (no test: one seed)"
    return shown if found.p is None else f"{shown} (p = {found.p:.2g})"


#: What begins something else than text in Markdown and HTML.
_SPECIAL = str.maketrans({c: f"&#{ord(c)};" for c in "&<>|[]`"})


def escaped(text):
    """Text of a run as it can stand in a page.

    Example:

    >>> escaped("2 x <b>|CPU|")
    '2 x &#60;b&#62;&#124;CPU&#124;'
    """
    return text.translate(_SPECIAL)


def markdown(header, lines):
    """A table; columns whose name ends in a colon are aligned to the right."""
    rules = ["---:" if name.endswith(":") else "---" for name in header]
    rows = [[name.rstrip(":") for name in header], rules, *lines]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
