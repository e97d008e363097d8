"""Interleaved timing, the statistics over it, and peak memory of a process.

A ratio of two medians taken at different times says as much about the
machine's other work as about the code. So every round runs each contender
once, one after the other, and a ratio is the median over rounds of the ratio
within a round.
"""

import ctypes
import gc
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFERENCE = "plain"
SUBJECT = "aw"
GIVE_UP_RATIO = 25.0
SAMPLE_SECONDS = 0.02
ROUNDS = 9


@dataclass
class Step:
    """One thing to measure.

    Attributes:
        launch: Starts the work once and returns a handle to its results.
        wait: Blocks until the results behind a handle are there.
        prepare: Loads and compiles what can be loaded and compiled without
            allocating what the work needs; called before memory is measured.
        temporary_bytes: What the compiler says the work needs besides its
            inputs and outputs, where it says so.
    """

    launch: Callable[[], Any]
    wait: Callable[[Any], Any]
    prepare: Callable[[], Any] = lambda: None
    temporary_bytes: int | None = None

    def __call__(self, count=1):
        """Launches `count` times, then blocks once."""
        for _ in range(count):
            results = self.launch()
        self.wait(results)


@dataclass
class Timing:
    """Seconds a call of one contender, one entry a round.

    Attributes:
        seconds: One entry a round; a single one if `gave_up`.
        reference: The reference's seconds in the same rounds.
        gave_up: Whether the contender was so slow that it was run only once.
    """

    seconds: list[float]
    reference: list[float]
    gave_up: bool = False

    def record(self):
        """Returns the timing as a dictionary for JSON, in milliseconds."""
        ratios = [
            a / b for a, b in zip(self.seconds, self.reference, strict=True)
        ]
        return {
            "ms": 1e3 * statistics.median(self.seconds),
            "ratio": statistics.median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
            "rounds": len(ratios),
            "gave_up": self.gave_up,
        }


def geometric_mean(values):
    """Returns the geometric mean of positive numbers."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def interleave(
    steps,
    rounds=ROUNDS,
    sample_seconds=SAMPLE_SECONDS,
    reference=REFERENCE,
    clock=time.perf_counter,
):
    """Times several steps in turn.

    Each step is run once to warm up and once to find out how many calls make
    a sample of `sample_seconds`. A peer, which is neither the reference nor
    the subject, that then takes more than `GIVE_UP_RATIO` times as long as
    the reference is not run again. A peer may also be unable to run: some
    backends have no gradient of a grouped convolution for some dtypes.

    Args:
        steps: Dictionary of name to `Step`, `reference` among the names.
        rounds: How often each step is sampled.
        sample_seconds: Calls are repeated until a sample is this long.
        reference: Name of the step that the others are compared with.
        clock: Function that returns seconds.

    Returns:
        Dictionary of name to `Timing`, and dictionary of name to the error
        for those that are unable to run.
    """

    def sample(name, count):
        start = clock()
        steps[name](count)
        return (clock() - start) / count

    first, unable = {}, {}
    for name in steps:
        try:
            first[name] = sample(name, 1)
        except Exception as error:
            if name in (reference, SUBJECT):
                raise
            unable[name] = str(error)
            continue
        # The first call may have compiled, the second is the measurement.
        first[name] = min(first[name], sample(name, 1))
    timings = {
        name: Timing([seconds], [first[reference]], gave_up=True)
        for name, seconds in first.items()
        if name not in (reference, SUBJECT)
        and seconds > GIVE_UP_RATIO * first[reference]
    }
    names = [name for name in first if name not in timings]
    counts = {
        name: max(1, math.ceil(sample_seconds / first[name])) for name in names
    }
    seconds = {name: [] for name in names}
    for turn in range(rounds):
        # A new starting point each round, so that nobody always runs behind
        # the contender that fills the caches.
        first_index = turn % len(names)
        for name in names[first_index:] + names[:first_index]:
            seconds[name].append(sample(name, counts[name]))
    for name in names:
        timings[name] = Timing(seconds[name], seconds[reference])
    return {name: timings[name] for name in first}, unable


def row(label, direction, steps, effort):
    """Times steps and returns the result as a row of a table.

    Args:
        label: What is measured.
        direction: Which part of it is.
        steps: Dictionary of contender to `Step`.
        effort: Keyword arguments of `interleave`.

    Returns:
        Dictionary with `label`, `direction`, `contenders`, which are records
        of `Timing`, and `unable`, as `interleave` returns it.
    """
    timings, unable = interleave(steps, **effort)
    return {
        "label": label,
        "direction": direction,
        "contenders": {name: t.record() for name, t in timings.items()},
        "unable": unable,
    }


def resident_bytes(field):
    """Returns `VmRSS` or `VmHWM` of this process (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return 1024 * int(value.split()[0])
    raise ValueError(
        f"Expected a field of /proc/self/status. Received: field={field}"
    )


def settle_memory():
    """Gives freed memory back, so that it is not mistaken for memory in use."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def resident_growth(step):
    """Returns how far a `Step` raises this process's resident bytes (Linux).

    The process is measured before its first full step and again over a second
    step. The memory that compiling takes for a while is thus left out, and a
    pool that the first step filled and kept is left in.
    """
    step.prepare()
    settle_memory()
    before = resident_bytes("VmRSS")
    step()
    settle_memory()
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to VmRSS
    step()
    return resident_bytes("VmHWM") - before
