"""What commands take and how they show results to people."""

import argparse
import os
import pathlib
import sys


def print_table(title, columns, rows):
    """Prints a table.

    Args:
        title: Text above it.
        columns: Names of the columns; one that begins with `>` is aligned to
            the right.
        rows: Lists of values; `None` is shown as nothing.
    """
    from rich import console as consoles
    from rich.table import Table

    table = Table(show_header=any(columns))
    for name in columns:
        table.add_column(
            name.lstrip(">"),
            justify="right" if name.startswith(">") else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    # Brackets in names of files are no markup.
    console = consoles.Console(markup=False, highlight=False)
    console.print(title, style="bold")
    console.print(table)


def print_facts(title, facts):
    """Prints a dict as a table of two columns."""
    print_table(title, ("", ""), facts.items())


def track(items, description):
    """The items of a list, with progress shown where someone can see it."""
    if len(items) < 2 or not sys.stderr.isatty():
        return items
    from rich import console as consoles
    from rich import progress

    console = consoles.Console(stderr=True)
    return progress.track(items, description, console=console, transient=True)


def positive_integer(text):
    """The type of an argument, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"expected a positive integer, received {text}"
        )
    return int(text)


def add_force(parser):
    """Adds the argument that `check_target` takes."""
    parser.add_argument(
        "--force", action="store_true", help="replace a file that is there"
    )


def check_target(path, force, is_ours=None):
    """Refuses a path to write a file to where it would do harm.

    Args:
        path: Path of a file.
        force: Whether any file may be replaced.
        is_ours: Function of a `pathlib.Path`: whether the file there is one
            that the command wrote, which may always be replaced.

    Raises:
        ValueError: If there is another file or a folder, or no folder for it.
    """
    path = pathlib.Path(path)
    replaceable = path.is_file() and (force or (is_ours and is_ours(path)))
    if os.path.lexists(path) and not replaceable:
        hint = "; --force replaces it" if path.is_file() else ""
        raise ValueError(
            "Expected a path of nothing that would be lost. Received: "
            f"{path}, which exists{hint}"
        )
    check_folder(path)


def check_folder(path):
    """Refuses a path to write to whose folder does not exist."""
    folder = pathlib.Path(path).absolute().parent
    if not folder.is_dir():
        raise ValueError(
            f"Expected a path in a folder that exists. Received: {path}"
        )
