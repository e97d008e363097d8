"""What the README and the pages of docs/ show is what a reader sees.

A page is one session: its blocks of Python share their names, and all that it
runs shares a folder. What is printed is compared with the block `text` below,
or with what follows a command; `...` stands for anything there, and decimal
fractions, which are measured, for each other. What stands below a comment
`<!-- needs: MODULE -->` runs, to the end of the page, where that is installed.
"""

import configparser
import contextlib
import doctest
import importlib.util
import io
import json
import pathlib
import re
import shlex
import subprocess

import pytest
from markdown_it import MarkdownIt

from aw_keras.cli import main
from aw_keras.layers import attention_registry
from aw_keras.weights import published
from docs import tables
from tests.hub import sharing

ROOT = tables.ROOT
_NEEDS = re.compile(r"<!-- needs: (\w+) -->")
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def is_installed(module):
    return importlib.util.find_spec(module) is not None


def blocks(page):
    """Pairs of the language and the content of the blocks that run."""
    able = True
    for token in MarkdownIt().parse(page.read_text("utf-8")):
        if needs := _NEEDS.match(token.content):
            able = is_installed(needs[1])
        assert token.type != "code_block", "an indented block has no language"
        if token.type == "fence" and (able or token.info == "sh"):
            yield token.info, token.content


def run_python(code, names):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


def run_command(line):
    """What `aw-keras` prints, on either stream."""
    printed = io.StringIO()
    program, *arguments = shlex.split(line)
    assert program == "aw-keras"
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(io.StringIO()) as errors,
        contextlib.suppress(SystemExit),
    ):
        main(arguments)
    return printed.getvalue() or errors.getvalue()


def check_command(line):
    """That a command of another program could run in a checkout."""
    match shlex.split(line, comments=True):
        case ["git", "clone", *_] | ["cd", _]:
            pass
        case ["make", *arguments]:
            subprocess.run(
                ["make", "--dry-run", *arguments],
                cwd=ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        case ["pip", "install", *requirements]:
            check_extras(requirements[-1])
        case ["python", "-m", module, *arguments]:
            source = pathlib.Path(ROOT, *module.split(".")).with_suffix(".py")
            text = source.read_text("utf-8")
            for argument in arguments:
                if argument.startswith("--"):
                    assert argument.partition("=")[0] in text
                if argument.startswith("zoo/"):
                    assert (ROOT / argument).exists()
        case _:
            pytest.fail(f"Nobody knows whether this runs: {line}")


def check_extras(requirement):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (extras,) = re.findall(r"\[(.+)\]", requirement)
    assert set(extras.split(",")) <= set(setup["options.extras_require"])


def assert_printed(printed, shown):
    printed, shown = map(without_measurements, (printed, shown))
    checker = doctest.OutputChecker()
    example = doctest.Example("", shown)
    assert checker.check_output(shown, printed, _FLAGS), (
        checker.output_difference(example, printed, _FLAGS)
    )


def without_measurements(text):
    """The text without decimals and the widths of tables that follow them."""
    return re.sub(r"[+-]?\d+\.\d+", "#.#", re.sub(r"([━─])+", r"\1", text))


#: Before the examples of docstrings, in this process, have added theirs.
ATTENTIONS = dict(attention_registry._FACTORIES)


@pytest.fixture
def session(page, tmp_path, monkeypatch):
    """A folder with the project's zoo, 80 columns, and no other attentions.

    A page about the Hugging Face hub has one of its own.
    """
    monkeypatch.setattr(attention_registry, "_FACTORIES", dict(ATTENTIONS))
    (tmp_path / "zoo").symlink_to(ROOT / "zoo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    if "hf://" in page.read_text("utf-8") and is_installed("huggingface_hub"):
        with sharing(tmp_path / "hub"):
            yield
    else:
        yield


# The one about photos of one's own needs some: see test_your_own_data.py.
PAGES = [page for page in tables.PAGES if page.stem != "your_own_data"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run_and_print_what_is_shown(page, session):
    names, printed = {}, ""
    for language, content in blocks(page):
        # What is printed has to be shown.
        assert language == "text" or not printed
        if language == "python":
            printed = run_python(content, names)
        elif language == "text":
            assert_printed(printed, content)
            printed = ""
        elif language == "console":
            for part in re.split(r"^\$ ", content, flags=re.M)[1:]:
                line, _, shown = part.partition("\n")
                assert_printed(run_command(line), shown)
        elif language == "sh":
            for line in content.splitlines():
                check_command(line)
        else:
            assert language in ("bibtex", "yaml")
    assert not printed


def test_tables_are_up_to_date():
    """If not: `python -m docs.tables`."""
    assert not tables.stale()


def test_every_table_is_on_a_page():
    texts = [page.read_text("utf-8") for page in tables.WITH_TABLES]
    for name in tables.TABLES:
        assert any(f"<!-- generated: {name} -->" in text for text in texts)


def test_pages_say_what_loading_a_model_takes():
    cards = sorted(ROOT.glob("zoo/cards/*cifar10*.md"))
    assert cards
    for page in (ROOT / "README.md", ROOT / "docs/weights.md", *cards):
        text = page.read_text("utf-8")
        assert "keras.saving.load_model" in text and "import aw_keras" in text


def test_names_of_weights_are_known():
    """Nobody downloads to test a page, so that their names are looked up."""
    known = {file.name for file in published()}
    for page in tables.PAGES:
        found = re.findall(
            r"\b(?:timm|torchvision|akamaster|chenyaofo)/[\w.]*\w(?![\w*])",
            page.read_text("utf-8"),
        )
        assert {*found} <= known, page


def test_page_and_notebook_agree_on_empty_boxes():
    notebook = json.loads((ROOT / "notebooks/04_detection.ipynb").read_text())
    told = "".join(line for c in notebook["cells"] for line in c["source"])
    page = (ROOT / "docs/detection.md").read_text("utf-8")
    for text in (told, page):
        assert "two boxes of BCCD are empty, one in `train` and one in" in (
            " ".join(text.split())
        )


def test_links_lead_somewhere():
    for page in tables.PAGES:
        for link in re.findall(r"\]\(\s*([^)\s]+)\)", page.read_text("utf-8")):
            if not link.startswith(("https:", "#")):
                assert (page.parent / link.partition("#")[0]).exists(), link
