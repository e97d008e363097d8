"""Writes what is made from files in the READMEs, docs/ and the notebooks.

    python -m docs.tables [--check]

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`, where NAME
is a function in `TABLES`; `docs.notebooks` has what notebooks begin with. With
`--check` nothing is written: files that are not up to date are listed, and the
command fails.
"""

import argparse
import csv
import itertools
import json
import pathlib
import re
import sys

from aw_keras import home
from aw_keras.applications import get_entry
from docs import measurements, notebooks, peers
from zoo import pages, quantize, throughput
from zoo.publishing import model_card, table
from zoo.recipe import Recipe
from zoo.studies import bccd_card

ROOT = pathlib.Path(__file__).parents[1]
#: The pages that the tests run, and those with tables.
PAGES = (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
WITH_TABLES = (*PAGES, ROOT / "benchmarks" / "README.md")

_MARKED = re.compile(
    r"(?<=<!-- generated: )(\w+) -->\n.*?(?=^<!-- end -->)", re.M | re.S
)
#: Parameters and multiply-adds of every network, which the tests count again.
_COSTS = ROOT / "tests" / "applications" / "networks.csv"
_SHORTLIST = (
    *("ResNet20", "AWResNet20", "SEResNet20", "CBAMResNet20"),
    *("ResNet50", "AWResNet50", "SEResNet50", "CBAMResNet50"),
    *("ResNet101", "AWResNet101"),
)


def clone():
    """How to get a checkout, and all that it needs."""
    address = home.address() or "<this repository>"
    return f"```sh\ngit clone {address} aw_keras && cd aw_keras\nmake venv\n```"


def results():
    """What the published runs reached: a table for each recipe."""
    parts = [_results(rows) for _, rows in pages.sections(table.Places())]
    return "\n\n".join(parts) or "No run has been published yet."


def _results(rows):
    networks = {
        model: list(group)
        for model, group in itertools.groupby(rows, lambda row: row.model)
    }
    lines = []
    for model, runs in networks.items():
        _, plain = table.split_name(model)
        others = () if plain == model else networks.get(plain, ())
        lines.append(
            (
                model,
                f"{runs[0].parameters:,}",
                f"{runs[0].multiply_adds / 1e6:.1f} M",
                len(runs),
                pages.mean([run.top1 for run in runs]),
                pages.difference(runs, others),
            )
        )
    header = (
        *("network", "parameters:", "multiply-adds:", "seeds:"),
        *(f"{rows[0].data} top-1, %:", "to plain, points:"),
    )
    return "\n\n".join(
        (
            f"**{rows[0].data}, recipe `{rows[0].recipe}`.** "
            f"{model_card.description(rows[0])}",
            table.markdown(header, lines),
        )
    )


def training_speed():
    """Images a second of `zoo.train`."""
    lines = throughput.read(table.Places())
    if not lines:
        return "Not measured yet."
    compiled = {"True": "whole step", "False": "no", "auto": "Keras' choice"}
    return table.markdown(
        (
            *("network", "backend", "dtype", "compiled"),
            *("processes:", "threads of each:", "images/s:", "hardware"),
        ),
        [
            (
                *(line["model"], line["backend"], line["dtype"]),
                *(compiled[line["compiled"]], line["processes"]),
                *(line["threads"], line["images_per_second"]),
                line["hardware"],
            )
            for line in lines
        ],
    )


def detection():
    """What the study on blood cells measured."""
    study = bccd_card.overall(table.Places())
    return study or "The study has not been finished yet."


def costs():
    """Parameters and multiply-adds of all networks."""
    return _costs(_golden())


def main_costs():
    """Those of some networks."""
    return _costs(_SHORTLIST)


def _golden():
    with open(_COSTS, newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def _costs(names):
    rows = _golden()
    return table.markdown(
        ("network", "parameters:", "published:", "multiply-adds:"),
        [
            (
                name,
                f"{int(rows[name]['parameters']):,}",
                get_entry(name).published_parameters or "",
                f"{int(rows[name]['multiply_adds']) / 1e6:,.1f} M",
            )
            for name in names
        ],
    )


def layer_speed():
    """Ratios of AW-convolution to plain convolution."""
    return "\n\n".join(
        _speed(
            record,
            [
                {
                    direction: means["aw"]
                    for direction, means in result["geometric_means"].items()
                }
                for result in record["results"]
            ],
        )
        for record in _records("awconv-?pu-*.json")
    )


def network_speed():
    """Ratios of networks with AW-convolution to plain ones."""
    return _step_speed("networks-?pu-*.json")


def detection_speed():
    """Ratios of detectors with AW-convolution to plain ones."""
    return _step_speed("detection-?pu-*.json")


def _step_speed(pattern):
    return "\n\n".join(
        _speed(
            record,
            [
                {
                    f"{row['label']}, {row['direction']}": row["contenders"][
                        "aw"
                    ]["ratio"]
                    for row in result["rows"]
                }
                for result in record["results"]
            ],
        )
        for record in _records(pattern)
    )


def _records(pattern):
    paths = sorted(measurements.RESULTS.glob(pattern))
    return [json.loads(path.read_text()) for path in paths]


def _speed(record, columns):
    """A column for each backend, and where they were measured."""
    machine = record["machine"]
    targets = [
        f"{result['target'].partition(',')[0]}:" for result in record["results"]
    ]
    lines = [
        (name, *(f"{column[name]:.2f}" for column in columns))
        for name in columns[0]
    ]
    device = record["results"][0]["device_kind"]
    where = machine["processor"] if device == "cpu" else device
    cores = f", {machine['cores']} cores" if device == "cpu" else ""
    return (
        f"{table.markdown(('', *targets), lines)}\n\n"
        f"{where}{cores}, {record['dtype']}: `{record['command']}`"
    )


def int8():
    """What 8 bits cost in LiteRT."""
    rows = table.read_dicts(quantize.RESULTS)
    lines = [
        (
            row["network"],
            row["data"],
            *(row[f"{precision} top1"] for precision in quantize.PRECISIONS),
            *(
                f"{int(row[f'{precision} bytes']) / 1e6:.2f} MB"
                for precision in quantize.PRECISIONS
            ),
        )
        for row in rows
    ]
    header = (
        *("network", "data", "float32 top-1, %:", "int8 top-1, %:"),
        *("float32 file:", "int8 file:"),
    )
    return table.markdown(header, lines)


def recipes():
    """What `zoo.train` takes."""
    lines = []
    for path in sorted(ROOT.glob("zoo/recipes/*.yaml")):
        recipe = Recipe.from_file(path)
        name = f"[{recipe.name}](../{path.relative_to(ROOT).as_posix()})"
        lines.append(
            (
                *(name, recipe.data, recipe.epochs, recipe.batch_size),
                f"{recipe.schedule}, {recipe.learning_rate:g}",
            )
        )
    header = ("recipe", "data", "epochs:", "batch:", "learning rate")
    return table.markdown(header, lines)


TABLES = {
    function.__name__: function
    for function in (
        *(clone, results, detection, costs, main_costs),
        *(layer_speed, network_speed, detection_speed, training_speed),
        *(recipes, int8, peers.pretrained),
        *measurements.TABLES,
    )
}


def filled(text):
    """A page with its tables as they should be."""
    return _MARKED.sub(
        lambda match: f"{match[1]} -->\n\n{TABLES[match[1]]()}\n\n", text
    )


def stale():
    """Paths of what is not up to date, with what should be in the files."""
    found = {page: filled(page.read_text("utf-8")) for page in WITH_TABLES}
    for path in sorted(notebooks.FOLDER.glob("*.ipynb")):
        found[path] = notebooks.filled(path.read_text("utf-8"), path.stem)
    return {
        path: text
        for path, text in found.items()
        if path.read_text("utf-8") != text
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m docs.tables", description="Write tables into pages."
    )
    parser.add_argument(
        "--check", action="store_true", help="fail if they are not up to date"
    )
    check = parser.parse_args(arguments).check
    wrong = stale()
    if check and wrong:
        sys.exit(
            "Not up to date, run python -m docs.tables:\n"
            + "\n".join(map(str, wrong))
        )
    for path, text in wrong.items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
