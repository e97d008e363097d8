"""How every program of this project ends.

What a user can mend, an argument, a file, a missing package, is one line on
stderr and the exit code 2, which is that of argparse. Scripts can tell it from
1, a problem that a program was asked to look for.
"""

import contextlib
import sys
import textwrap

DONE, PROBLEM, REFUSED, INTERRUPTED = 0, 1, 2, 130

_LONGEST_MESSAGE = 500  # characters: some errors list every layer


def refuse(program, error):
    """Ends the process because of what a user can mend.

    Args:
        program: What the line begins with, such as `"aw-keras predict"`.
        error: Exception, or text, that says what is wrong.

    Raises:
        SystemExit: With the line as its text and the exit code.
    """
    end = SystemExit(complain(program, error))
    end.code = REFUSED
    raise end


def complain(program, error):
    """Writes the line of `refuse`, returns it, and goes on."""
    message = textwrap.shorten(str(error), _LONGEST_MESSAGE)
    line = f"{program}: {message}"
    print(line, file=sys.stderr)
    return line


@contextlib.contextmanager
def one_line_errors(program):
    """Refuses what raises an ImportError, an OSError or a ValueError.

    Args:
        program: As for `refuse`.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (ImportError, OSError, ValueError) as error:
        refuse(program, error)
