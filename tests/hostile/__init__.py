"""What nobody should do to the library, but somebody will.

Hostile tests of one module stand beside its other tests: damaged, linked and
misfitting files of weights in `tests/weights`, downloads that are cut or
forged there too, poisoned samples of single operations and their gradients in
`tests/ops`, arguments out of range in `tests/layers`, unreadable archives and
images in `tests/zoo`, wrong files on the command line in `tests/cli`, and
artifacts that must not replace other files in `tests/exporting`. Here is what
goes through many modules at once, or lasts.
"""
