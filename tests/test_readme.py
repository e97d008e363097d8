"""What the README shows is what a reader sees: its code runs and prints it."""

import contextlib
import csv
import io
import pathlib
import re

from aw_keras.applications import get_entry

GOLDEN = pathlib.Path(__file__).parent / "applications" / "networks.csv"
README = pathlib.Path(__file__).parents[1] / "README.md"


def test_examples_print_what_is_shown():
    examples = re.findall(
        r"```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", README.read_text(), re.S
    )
    assert len(examples) == README.read_text().count("```python")
    for code, shown in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, {})
        lines = [line.strip() for line in shown.splitlines()]
        assert printed.getvalue().splitlines() == lines


def test_costs_of_networks_are_those_that_are_tested():
    rows = re.findall(
        r"^\| (\w+) \| ([\d,]+) \| (.*?) \| ([\d,.]+) M \|$",
        README.read_text(),
        re.M,
    )
    with open(GOLDEN, newline="") as file:
        golden = {row["name"]: row for row in csv.DictReader(file)}
    assert len(rows) >= 9
    for name, parameters, published, multiply_adds in rows:
        millions = int(golden[name]["multiply_adds"]) / 1e6
        assert parameters == f"{int(golden[name]['parameters']):,}"
        assert published == (get_entry(name).published_parameters or "")
        assert multiply_adds == f"{millions:,.1f}"
