"""What commands that train share: arguments, signals, processes."""

import os
import signal
import subprocess
import sys

#: What limits the threads of NumPy, PyTorch and TensorFlow.
_THREADS = (
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TORCHINDUCTOR_COMPILE_THREADS",
)

#: Says to a process that it is one of several.
_WORKER = "AW_KERAS_WORKER"


def add_recipe_arguments(parser, optional=False):
    """Adds a recipe and what differs from it to an `ArgumentParser`."""
    parser.add_argument(
        "recipe",
        nargs="?" if optional else None,
        help="YAML file, see zoo/recipes/",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="what differs from the file: the fields of zoo.recipe.Recipe",
    )


class Signals:
    """Says whether the process was asked to end; a second time ends it."""

    def __init__(self):
        self.received = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def __call__(self):
        return self.received is not None

    def _receive(self, number, frame):
        self.received = number
        signal.signal(number, signal.SIG_DFL)


def add_process_arguments(parser):
    """Adds how many processes share the work to an `ArgumentParser`."""
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        help="processes that share the work",
    )
    parser.add_argument(
        "--threads",
        type=int,
        help="threads of each process, under TensorFlow and PyTorch",
    )


def limited(threads):
    """The environment of a process of so many threads, `None` for any."""
    limits = {} if threads is None else dict.fromkeys(_THREADS, str(threads))
    return {**os.environ, **limits}


def command(module):
    """The command of this process again."""
    return [sys.executable, "-m", module, *sys.argv[1:]]


def is_worker():
    """Whether this process was started by `shared`."""
    return bool(os.environ.get(_WORKER))


def shared(options, module):
    """Runs the command of this process in several others, if it asks for it.

    Args:
        options: What `add_process_arguments` has parsed.
        module: Name of the module that is the command.

    Returns:
        The exit code of the command; `None` if this process is to do the work.
    """
    alone = options.processes == 1 and options.threads is None
    if alone or is_worker():
        return None
    environment = limited(options.threads) | {_WORKER: "1"}
    workers = [
        subprocess.Popen(command(module), env=environment)
        for _ in range(options.processes)
    ]

    def forward(number, frame):
        for worker in workers:
            worker.send_signal(number)

    # Ctrl-C reaches all processes of a terminal by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, forward)
    return max(worker.wait() for worker in workers)
