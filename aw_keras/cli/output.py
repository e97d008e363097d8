"""How commands show results to people."""

import pathlib
import sys

import rich.console
import rich.progress
import rich.table


def print_table(title, columns, rows):
    """Prints a table.

    Args:
        title: Text above it.
        columns: Names of the columns; one that begins with `>` is aligned to
            the right.
        rows: Lists of values; `None` is shown as nothing.
    """
    table = rich.table.Table(show_header=any(columns))
    for name in columns:
        table.add_column(
            name.lstrip(">"),
            justify="right" if name.startswith(">") else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    # Brackets in names of files are no markup.
    console = rich.console.Console(markup=False, highlight=False)
    console.print(title, style="bold")
    console.print(table)


def print_facts(title, facts):
    """Prints a dict as a table of two columns."""
    print_table(title, ("", ""), facts.items())


def track(items, description):
    """The items of a list, with progress shown where someone can see it."""
    if len(items) < 2 or not sys.stderr.isatty():
        return items
    console = rich.console.Console(stderr=True)
    return rich.progress.track(
        items, description, console=console, transient=True
    )


def check_folder(path):
    """Refuses a path to write to whose folder does not exist."""
    folder = pathlib.Path(path).absolute().parent
    if not folder.is_dir():
        raise ValueError(
            f"Expected a path in a folder that exists. Received: {path}"
        )
