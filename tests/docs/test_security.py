"""Every promise of the page on security has a test that attacks it."""

import ast
import re

import pytest

from docs import tables

PAGE = tables.ROOT / "docs" / "security.md"
HOSTILE = tables.ROOT / "tests" / "hostile"

#: Promises that tests elsewhere are about.
ELSEWHERE = (
    "Only formats for photos are decoded",  # tests/test_image_files.py
    "Only a file with the expected hash",  # tests/weights/test_download.py
)


def promises():
    """The items of the part on what is checked."""
    text = PAGE.read_text("utf-8")
    part = re.search("(?s)## What is checked\n(.*?)\n## ", text)[1]
    return re.findall("(?ms)^- (.*?)(?=\n- |\n\n|\\Z)", part)


def test_there_are_promises():
    assert len(promises()) > 20


@pytest.mark.parametrize("promise", promises())
def test_a_promise_names_its_tests(promise):
    named = re.findall(r"`(\w+)::(test_\w+)`", promise)
    assert named or promise.startswith(ELSEWHERE)
    for module, function in named:
        tree = ast.parse((HOSTILE / f"test_{module}.py").read_text("utf-8"))
        names = {getattr(node, "name", None) for node in tree.body}
        assert function in names, f"{module}::{function}"
