"""From arguments to a command, and from its result to text and an exit code.

A command is a module: its docstring is its description, with `DESCRIPTION` if
it has one, `EXAMPLES` end its help, `add_arguments` declares what it takes,
`run` returns a result that JSON can hold, and `show` prints that for people.
Its `exit_code`, if it has one, makes the exit code from the result.

What imports a framework is imported in `run`, once the arguments are known to
be good: nobody waits for TensorFlow to be told of a misspelt option.
"""

import argparse
import contextlib
import importlib
import json
import os
import sys
import textwrap

import aw_keras
from aw_keras.cli.quiet import quiet_frameworks
from aw_keras.command import DONE, REFUSED, one_line_errors

COMMANDS = (
    "list",
    "summary",
    "predict",
    "explain",
    "convert",
    "export",
    "benchmark",
    "doctor",
)

_EPILOG = """\
exit codes:
  0  done
  1  `doctor` has found a problem
  2  a wrong argument, file, name or image, or no connection: one line says
     what to do

examples:
  aw-keras list 'aw*50' --pretrained
  aw-keras predict AWResNet50 cat.jpg
  aw-keras export AWResNet50 model.onnx
"""


def main(arguments=None):
    """Runs a command.

    Args:
        arguments: List of strings; `None` for those of the process.

    Returns:
        The exit code.

    Raises:
        SystemExit: With an exit code, if the command could not do its work.
    """
    with one_line_errors("aw-keras"):
        options = _parser().parse_args(arguments)
    with one_line_errors(f"aw-keras {options.name}"), quiet_frameworks():
        # Downloads and frameworks print; the result has stdout for itself.
        with contextlib.redirect_stdout(sys.stderr):
            result = options.command.run(options)
        _print(result, options)
        return getattr(options.command, "exit_code", _done)(result)


def _print(result, options):
    try:
        if options.json:
            print(json.dumps(result, indent=2))
        else:
            options.command.show(result)
        sys.stdout.flush()
    except BrokenPipeError:
        # What reads has seen enough, as in `aw-keras list | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _done(result):
    return DONE


class _Parser(argparse.ArgumentParser):
    """Keeps to one line where arguments are wrong."""

    def error(self, message):
        self.exit(REFUSED, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser():
    parser = _Parser(
        prog="aw-keras",
        description="Convolutional networks with attention for Keras 3.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        *("-V", "--version"), action="version", version=aw_keras.__version__
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = importlib.import_module(f"aw_keras.cli.commands.{name}")
        summary = command.__doc__.partition(".")[0]
        subparser = commands.add_parser(
            name,
            help=summary[0].lower() + summary[1:],
            description=_description(command),
            epilog=f"examples:\n{textwrap.indent(command.EXAMPLES, '  ')}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.add_argument(
            "--json", action="store_true", help="print the result as JSON"
        )
        subparser.set_defaults(command=command, name=name)
    return parser


def _description(command):
    more = getattr(command, "DESCRIPTION", "")
    return f"{command.__doc__}\n{more}".strip()
