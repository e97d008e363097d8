"""Writes the pages on results: table, learning curves and model cards.

    python -m zoo.pages [--check]

All of it is made from `zoo/results/` and the manifest of released files. With
`--check` nothing is written: what is not up to date is listed, and the command
fails.
"""

import argparse
import hashlib
import itertools
import re
import statistics
import sys

from aw_keras.applications import datasets
from aw_keras.files import replace_text, replacing
from aw_keras.weights import manifest
from zoo.publishing import model_card, table
from zoo.studies import attention, bccd_card

_README = """{head}
# Results

What the networks of this library reached when they were trained with the
recipes of `zoo/recipes/`. One table compares networks that were trained alike;
`results/` has a row and a learning curve for each run. Accuracies are those of
the test split after the last epoch: nothing was chosen by them. The mean over
the seeds is followed by the standard deviation. The difference to the plain
network pairs the runs of equal seeds; `p` is that of a paired t-test.

The papers' figures are for the original images and the papers' own schedules of
about 200 epochs, and no yardstick for other ones.

`weights="<data set>"` loads the newest file of a network, always that of the
lowest seed. Its card says which accuracy that one has.
{studies}
    python -m zoo.publish RUN...               # adds finished runs
    python -m zoo.evaluate --check --data DATA # measures every file again
{sections}"""

_STUDIES = (
    (
        attention,
        """
[The study]({path}) compares attention branches of AW-ResNet-20.
""",
        "study.md",
    ),
    (
        bccd_card,
        """
[Detection of blood cells]({path}) compares backbones of Faster R-CNN.
""",
        "cards/bccd.md",
    ),
)

_SECTION = """
## {data}, recipe `{recipe}`

{description}

{table}

![Learning curves]({figure})
"""


def texts(places):
    """The pages as they should be.

    Args:
        places: `zoo.publishing.table.Places`.

    Returns:
        A dict from `pathlib.Path` to text.
    """
    files = manifest.read(places.manifest)
    pages = {
        places.zoo / "cards" / f"{model_card.stem(file)}.md": model_card.card(
            file, files, places
        )
        for file in files
    }
    written = "".join(
        _section(dataset, rows, files, places)
        for dataset, rows in sections(places)
    )
    studies = []
    for module, sentence, path in _STUDIES:
        study = module.page(places, model_card.HEAD)
        if study is not None:
            pages[places.zoo / path] = study
            studies.append(sentence.format(path=path))
    readme = _README.format(
        head=model_card.HEAD,
        studies="".join(studies),
        sections=written or "\nNothing has been published yet.\n",
    )
    return {places.zoo / "README.md": readme, **pages}


def figures(places):
    """The pictures of learning curves that there should be.

    Args:
        places: `zoo.publishing.table.Places`.

    Returns:
        A dict from `pathlib.Path` to pairs of what is drawn and its hash.
    """
    found = {}
    for dataset, rows in sections(places):
        curves = {row: places.curve(dataset, row) for row in rows}
        digest = hashlib.sha256()
        for row, path in curves.items():
            digest.update(f"{row.model} {row.seed}\n".encode())
            digest.update(path.read_bytes())
        found[_figure(rows[0], places)] = curves, digest.hexdigest()
    return found


def stale(places):
    """Paths of pages that are not as they should be, or should not be."""
    expected, drawn = texts(places), figures(places)
    wrong = [
        path
        for path, text in expected.items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    wrong += [
        path
        for path, (_, digest) in drawn.items()
        if not path.exists() or _digest_in(path) != digest
    ]
    return sorted([*wrong, *_orphans(places, {*expected, *drawn})])


def write(places):
    """Writes the pages that are not as they should be."""
    expected, drawn = texts(places), figures(places)
    for path in stale(places):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path in expected:
            replace_text(path, expected[path])
        elif path in drawn:
            _draw(path, *drawn[path])
        else:
            path.unlink()


def _orphans(places, expected):
    """What was written here once; others write cards and pictures, too."""
    cards = (places.zoo / "cards").glob("*.md")
    pictures = (places.zoo / "results").glob("*.png")
    found = [
        *(p for p in cards if p.read_text("utf-8").startswith(model_card.HEAD)),
        *(path for path in pictures if _digest_in(path)),
    ]
    return [path for path in found if path not in expected]


def sections(places):
    """Pairs of data set and rows that were trained alike."""
    for path in table.files(places):
        for _, rows in itertools.groupby(
            table.read(path), lambda row: (row.recipe, row.data)
        ):
            yield path.stem, list(rows)


def _section(dataset, rows, files, places):
    networks = {
        model: list(group)
        for model, group in itertools.groupby(rows, lambda row: row.model)
    }
    data, recipe = table.escaped(rows[0].data), rows[0].recipe
    header = (
        *("network", "parameters:", "multiply-adds:", "seeds:"),
        *(f"{data} top-1, %:", "to plain, points:", f"{data} top-5, %:"),
        *("paper, original images, %:", "training", "weights"),
    )
    lines = [_line(dataset, model, networks, files) for model in networks]
    return _SECTION.format(
        data=data,
        recipe=recipe,
        description=model_card.description(rows[0]),
        table=table.markdown(header, lines),
        figure=_figure(rows[0], places).relative_to(places.zoo).as_posix(),
    )


def _line(dataset, model, networks, files):
    rows = networks[model]
    _, plain = table.split_name(model)
    known = datasets.find(dataset)
    published = known.published.get(model) if known else None
    return [
        model,
        f"{rows[0].parameters:,}",
        f"{rows[0].multiply_adds / 1e6:.1f} M",
        len(rows),
        mean([row.top1 for row in rows]),
        "" if plain == model else difference(rows, networks.get(plain, ())),
        mean([row.top5 for row in rows]),
        "" if published is None else f"{published:.2f}",
        _training(rows),
        _links(rows[0], files),
    ]


def mean(values):
    return table.show(*table.mean_and_deviation(values))


def difference(rows, others):
    by_seed = ({row.seed: row.top1 for row in own} for own in (rows, others))
    return table.show_comparison(table.compare(*by_seed))


def _training(rows):
    minutes = statistics.fmean(row.train_seconds for row in rows) / 60
    places = sorted({f"{row.backend}, {row.hardware}" for row in rows})
    return f"{minutes:.0f} min on {table.escaped('; '.join(places))}"


def _links(row, files):
    return ", ".join(
        f"[card](cards/{model_card.stem(file)}.md)"
        for file in files
        if (file.recipe, file.data, file.architecture) == row.key[:3]
    )


def _figure(row, places):
    name = re.sub("[^a-z0-9]+", "-", row.data.lower()).strip("-")
    return places.zoo / "results" / f"{name}-{row.recipe}.png"


def _draw(path, curves, digest):
    """Draws accuracy over epochs: a line a network, a band over its seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for model, rows in itertools.groupby(curves, lambda row: row.model):
        lines = [_accuracies(curves[row]) for row in rows]
        epochs = range(1, len(lines[0]) + 1)
        by_epoch = list(zip(*lines))
        mean = [statistics.fmean(values) for values in by_epoch]
        (line,) = axis.plot(epochs, mean, label=f"{model} ({len(lines)})")
        axis.fill_between(
            epochs,
            [min(values) for values in by_epoch],
            [max(values) for values in by_epoch],
            color=line.get_color(),
            alpha=0.2,
            linewidth=0,
        )
    row = next(iter(curves))
    axis.set(
        title=f"{row.data}, recipe {row.recipe}",
        xlabel="epoch",
        ylabel="top-1 on the test images, %",
    )
    axis.grid(alpha=0.3)
    axis.legend(title="network (seeds)")
    with replacing(path) as new:
        figure.savefig(new, dpi=120, metadata={"Curves": digest})


def _accuracies(path):
    rows = table.read_dicts(path)
    return [100 * float(row["val_accuracy"]) for row in rows]


def _digest_in(path):
    """Hash of what a picture was drawn from."""
    import PIL.Image

    with PIL.Image.open(path) as picture:
        return picture.info.get("Curves")


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m zoo.pages", description="Write the pages on results."
    )
    parser.add_argument(
        "--check", action="store_true", help="fail if they are not up to date"
    )
    places = table.Places()
    if not parser.parse_args(arguments).check:
        write(places)
    elif wrong := stale(places):
        sys.exit(
            "Not up to date, run python -m zoo.pages:\n"
            + "\n".join(map(str, wrong))
        )


if __name__ == "__main__":
    main()
