"""What the benchmark scripts share: their options, targets and record."""

import argparse
import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks import backends, measure, report, worker

DTYPES = (
    "float32",
    "bfloat16",
    "float16",
    "mixed_bfloat16",
    "mixed_float16",
)
PACKAGES = ("keras", "numpy", "tensorflow", "jax", "jaxlib", "torch")


class Target(NamedTuple):
    """A backend, the way it runs a model, and the device it runs on."""

    backend: str
    mode: str
    device: str
    device_kind: str

    def __str__(self):
        return f"{self.backend} {self.mode}, {self.device}"

    def record(self):
        """Returns the fields and their text as a dictionary."""
        return {"target": str(self), **self._asdict()}


def parser(description):
    """Returns an argument parser with the options that all scripts have."""
    options = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    options.add_argument(
        "--backends",
        nargs="+",
        choices=list(backends.MODES),
        default=backends.installed(),
        help="backends to measure",
    )
    options.add_argument(
        "--modes",
        nargs="+",
        choices=sorted({m for modes in backends.MODES.values() for m in modes}),
        help="ways to run a model, all by default",
    )
    options.add_argument(
        "--device",
        choices=("cpu", "gpu", "tpu"),
        help="device to measure, every one that is found by default",
    )
    options.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="dtype policy of the layers",
    )
    options.add_argument(
        "--repetitions",
        type=int,
        default=measure.ROUNDS,
        help="rounds in which every contender is timed once",
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--out",
        type=Path,
        default=worker.ROOT / "benchmarks" / "results",
        help="folder of the JSON file and the chart",
    )
    options.add_argument(
        "--quick",
        action="store_true",
        help="two rounds of single calls, to see that everything runs",
    )
    return options


def comparison_parser(description):
    """Returns the parser of a script that can also measure memory."""
    options = parser(description)
    options.add_argument(
        "--implementations",
        nargs="+",
        default=[],
        metavar="NAME",
        help="implementations to compare with the automatic choice",
    )
    options.add_argument(
        "--memory",
        action="store_true",
        help="measure the peak memory of a training step instead of time",
    )
    return options


def effort(arguments):
    """Returns how long to measure, as `measure.interleave` takes it."""
    if arguments.quick:
        return {"rounds": 2, "sample_seconds": 0.0}
    return {
        "rounds": arguments.repetitions,
        "sample_seconds": measure.SAMPLE_SECONDS,
    }


def progress(text):
    """Says on the error stream what is measured now."""
    print(text, file=sys.stderr, flush=True)


def targets(arguments):
    """Yields every `Target` that was asked for and is there."""
    for backend in arguments.backends:
        devices = worker.call("benchmarks.worker:devices", backend)
        for device, kind in devices.items():
            for mode in backends.MODES[backend]:
                if arguments.device in (None, device) and (
                    arguments.modes is None or mode in arguments.modes
                ):
                    target = Target(backend, mode, device, kind)
                    progress(target)
                    yield target


def compare_times(benchmark, arguments, contenders, in_mean=(), **settings):
    """Times contenders on every target; prints, saves and draws the ratios.

    They run in the script's `measure_times`, which takes `mode`, `dtype`,
    `seed`, `effort`, `contenders` and `settings`, and returns a list of rows.

    Args:
        benchmark: Name of the script.
        arguments: The parsed options.
        contenders: Names, `REFERENCE` first.
        in_mean: Labels of the rows that geometric means are taken over.
        **settings: The same for every target.

    Returns:
        List of the paths written.
    """
    results = []
    for target in targets(arguments):
        rows = worker.call(
            f"benchmarks.{benchmark}:measure_times",
            target.backend,
            target.device,
            mode=target.mode,
            dtype=arguments.dtype,
            seed=arguments.seed,
            effort=effort(arguments),
            contenders=contenders,
            **settings,
        )
        report.print_ratios(f"{target}, {arguments.dtype}", rows, in_mean)
        means = report.direction_means(rows, in_mean)
        results.append(
            {**target.record(), "rows": rows, "geometric_means": means}
        )
    title = f"{benchmark}, {arguments.dtype}"
    return report.save(
        record(benchmark, arguments, results),
        arguments.out / file_name(benchmark, arguments, results),
        lambda path: report.draw_ratios(path, title, results),
    )


def compare_memory(benchmark, arguments, contenders, cases, **settings):
    """Measures peak memory on every target; prints and saves it.

    Each contender runs in a process of its own, in the script's
    `measure_memory`, which takes `mode`, `device`, `dtype`, `seed`,
    `contender`, a case's settings and `settings`.

    Args:
        benchmark: Name of the script.
        arguments: The parsed options.
        contenders: Names, `REFERENCE` first.
        cases: Dictionary of label to settings of one comparison.
        **settings: The same for every comparison.

    Returns:
        List of the paths written.
    """
    results = []
    for target in targets(arguments):
        for label, case in cases.items():
            records = {
                contender: worker.call(
                    f"benchmarks.{benchmark}:measure_memory",
                    target.backend,
                    target.device,
                    mode=target.mode,
                    device=target.device,
                    dtype=arguments.dtype,
                    seed=arguments.seed,
                    contender=contender,
                    **case,
                    **settings,
                )
                for contender in contenders
            }
            results.append(
                {**target.record(), "label": label, "contenders": records}
            )
    report.print_memory(
        f"peak memory of a training step, {arguments.dtype}", results
    )
    return report.save(
        record(benchmark, arguments, results),
        arguments.out / file_name(f"{benchmark}-memory", arguments, results),
    )


def file_name(benchmark, arguments, results):
    """Returns a name that tells measurements of one machine apart."""
    devices = dict.fromkeys(result["device"] for result in results)
    return "-".join([benchmark, *devices, arguments.dtype])


def record(benchmark, arguments, results):
    """Returns everything needed to read and to repeat a measurement.

    Args:
        benchmark: Name of the script.
        arguments: The parsed options.
        results: List with a dictionary for each target.
    """
    return {
        "benchmark": benchmark,
        "command": shlex.join(
            ["python", "-m", f"benchmarks.{benchmark}", *sys.argv[1:]]
        ),
        "date": datetime.datetime.now(datetime.UTC).isoformat(
            timespec="seconds"
        ),
        "seed": arguments.seed,
        "dtype": arguments.dtype,
        "effort": effort(arguments),
        "machine": machine(),
        "versions": versions(),
        "results": results,
    }


def machine():
    """Returns processor, cores that may be used, and operating system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def versions():
    """Returns the versions of the packages that matter and are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
