"""Makes a site of the repository, for MkDocs.

The pages of the site are files of the repository, in the same places, so that
links between them lead to the same page here and there. Examples in docstrings
become blocks of code.
"""

import pathlib
import re

import griffe
from mkdocs.structure.files import File

from aw_keras import home

#: What belongs to the site.
PATTERNS = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"),
    *("docs/*.md", "docs/*/*.md", "docs/*.png"),
    *("notebooks/*.ipynb", "benchmarks/README.md", "benchmarks/results/*.png"),
    *("zoo/*.md", "zoo/cards/*.md", "zoo/results/*.png", "zoo/recipes/*.yaml"),
)

_ROOT = pathlib.Path(__file__).parents[1]
_EXAMPLE = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.M | re.S)


def on_config(config):
    if address := home.address():
        config.repo_url = address
        config.repo_name = address.partition("://")[2]
    return config


def on_files(files, config):
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for pattern in PATTERNS:
        for path in sorted(_ROOT.glob(pattern)):
            name = path.relative_to(_ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


class Examples(griffe.Extension):
    """Fences the examples in docstrings, which Markdown takes for quotes."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(
                r"```pycon\n\g<0>\n```", obj.docstring.value
            )
