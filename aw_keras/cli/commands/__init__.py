"""The commands, one a module: see `aw_keras.cli.main`."""
