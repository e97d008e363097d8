"""What the README shows is what a reader sees: its code runs and prints it."""

import contextlib
import io
import pathlib
import re

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
