"""Keeps what frameworks log for programmers away from people.

Whoever sets `TF_CPP_MIN_LOG_LEVEL` says what they want to see, and sees it.
"""

import contextlib
import logging
import os
import re
import signal
import sys
import time

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_NO_ERRORS = ("0", "1")  # Levels that show warnings, too.

#: Parts of TensorFlow and XLA log whatever the level. Errors go through.
_CHATTER = re.compile(
    rb"[IW]\d{4} \d\d:|\d{4}-\d\d-\d\d \S+ [IW] |INFO: |"
    rb"WARNING: All log messages before absl|To enable the following instr"
)


@contextlib.contextmanager
def quiet_frameworks():
    """Hides information and warnings of frameworks, in Python and below."""
    wanted = os.environ.get(_LEVEL)
    before = logging.root.manager.disable
    with contextlib.ExitStack() as stack:
        if wanted is None:
            os.environ[_LEVEL] = "3"
            stack.callback(os.environ.pop, _LEVEL, None)
            # A process forks safely before it has threads only.
            if hasattr(os, "fork"):
                stack.enter_context(_filtered())
        if wanted not in _NO_ERRORS:
            logging.disable(logging.WARNING)
            stack.callback(logging.disable, before)
        yield


@contextlib.contextmanager
def _filtered():
    """Stderr without chatter for all but Python, which has it as it is.

    The filter is another process: what is said of the end of this one arrives.
    """
    source, sink = os.pipe()
    child = os.fork()
    if not child:
        os.close(sink)
        _filter(source)
    os.close(source)
    original = os.dup(2)
    os.dup2(sink, 2)
    os.close(sink)
    stream = open(
        original, "w", 1, sys.stderr.encoding, "backslashreplace", closefd=False
    )
    try:
        with stream, contextlib.redirect_stderr(stream):
            yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        _wait_for(child)


def _wait_for(child):
    """Waits until the filter has written what it has, for a second at most.

    Other processes that a framework has started may still write to it.
    """
    for _ in range(100):
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return
        time.sleep(0.01)


def _filter(source):
    """Copies lines to stderr, until nobody writes any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(source, "rb") as lines:
        for line in lines:
            if not _CHATTER.match(line):
                os.write(2, line)
    os._exit(0)
