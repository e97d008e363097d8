"""Where a result comes from: the state of the code, the processor."""

import os
import pathlib
import subprocess

from benchmarks.session import machine


def commit():
    """The state of the code, or `None` where it is no checkout."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=pathlib.Path(__file__).parent,
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def processor():
    """The processor in words, such as `"AMD EPYC, 2 cores"`."""
    found = machine()
    threads = int(os.environ.get("OMP_NUM_THREADS") or found["cores"])
    cores = min(threads, found["cores"])
    return f"{found['processor']}, {cores} core{'s' if cores > 1 else ''}"
