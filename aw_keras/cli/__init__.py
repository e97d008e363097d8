"""The command `aw-keras`: see `aw-keras --help`."""

from aw_keras.cli.main import main

__all__ = ["main"]
