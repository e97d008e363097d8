"""Where the project lives: one address, that of `url` in `setup.cfg`.

It comes with the metadata of the installed package (`make venv` renews it).
Whatever names an address of the project asks here; there is none yet.
"""

import importlib.metadata

_DISTRIBUTION = "aw-keras"


def address():
    """The address of the repository, or `None`."""
    try:
        found = importlib.metadata.metadata(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None
    return found.get("Home-page")


def weights():
    """The address of the folder of the released files, or `None`."""
    home = address()
    return home and f"{home}/releases/download/weights"


def requirement(extras):
    """What `pip install` takes to get the package from there, or `None`.

    Args:
        extras: Names of extras, such as `"tensorflow,notebooks"`.
    """
    home = address()
    return home and f"{_DISTRIBUTION}[{extras}] @ git+{home}"
