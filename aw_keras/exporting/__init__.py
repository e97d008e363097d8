"""Models as files that run without this library: see `export`."""

from aw_keras.exporting.export import export

__all__ = ["export"]
