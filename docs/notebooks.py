"""The cells of the notebooks that say where the project lives.

The first one has the badge of Colab, which opens notebooks of GitHub alone; the
second one installs the package where it is missing. Both follow from the
address in `setup.cfg`, and do without as long as there is none.
"""

import json
import pathlib
import re

from aw_keras import home

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"

_COLAB = "https://colab.research.google.com"
_BADGE = re.compile(r"\[!\[Open in Colab\].*\n\n")
_GITHUB = "https://github.com/"
_EXTRAS = {"04_detection": "tensorflow,detection,notebooks"}

_INSTALL = """\
import importlib.util

if importlib.util.find_spec("aw_keras") is None:
    {remedy}"""


def filled(text, name):
    """A notebook with these cells as they should be.

    Args:
        text: Content of the file.
        name: Its name, without the ending.
    """
    notebook = json.loads(text)
    first, install = notebook["cells"][:2]
    first["source"] = _lines(_with_badge("".join(first["source"]), name))
    install["source"] = _lines(_installing(name))
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _with_badge(source, name):
    title, _, rest = _BADGE.sub("", source).partition("\n\n")
    address = home.address() or ""
    if not address.startswith(_GITHUB):
        return f"{title}\n\n{rest}"
    page = address.removeprefix(_GITHUB)
    badge = (
        f"[![Open in Colab]({_COLAB}/assets/colab-badge.svg)]"
        f"({_COLAB}/github/{page}/blob/main/notebooks/{name}.ipynb)"
    )
    return f"{title}\n\n{badge}\n\n{rest}"


def _installing(name):
    extras = _EXTRAS.get(name, "tensorflow,notebooks")
    if requirement := home.requirement(extras):
        return _INSTALL.format(remedy=f'%pip install --quiet "{requirement}"')
    return _INSTALL.format(
        remedy="raise ImportError(\n"
        '        "Expected aw_keras to be installed. In a checkout: "\n'
        f"        \"pip install '.[{extras}]'\"\n"
        "    )"
    )


def _lines(source):
    return source.splitlines(keepends=True)
