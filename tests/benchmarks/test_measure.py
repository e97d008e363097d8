"""The arithmetic of timing: ratios, means, rounds, and giving up."""

import numpy as np
import pytest

from benchmarks.measure import (
    GIVE_UP_RATIO,
    Step,
    Timing,
    geometric_mean,
    interleave,
    resident_growth,
    row,
)


class Workshop:
    """Steps that take as long as they are told to, by a clock of their own."""

    def __init__(self, **seconds):
        self.now = 0.0
        self.order = []
        self.steps = {name: self._step(name, s) for name, s in seconds.items()}

    def _step(self, name, seconds):
        def launch():
            self.order.append(name)
            self.now += seconds

        return Step(launch, wait=lambda results: None)

    def clock(self):
        return self.now


def test_geometric_mean():
    assert geometric_mean([1, 2, 4]) == pytest.approx(2)
    assert geometric_mean([0.5, 2]) == pytest.approx(1)


def test_ratio_is_the_median_within_rounds():
    # The machine was ten times slower in the second round. The medians' own
    # ratio would be 20 / 10.
    timing = Timing(seconds=[2, 30, 20], reference=[1, 10, 10])
    record = timing.record()
    assert record["ratio"] == 2
    assert record["ratio_range"] == [2, 3]
    assert record["ms"] == 20_000
    timing = Timing(seconds=[2, 40, 3], reference=[1, 10, 1])
    assert timing.record()["ratio"] == 3


def test_rounds_must_match():
    with pytest.raises(ValueError):
        Timing(seconds=[1.0, 2.0], reference=[1.0]).record()


def test_every_round_runs_everyone_and_starts_with_another():
    workshop = Workshop(plain=1.0, aw=2.0)
    timings, _ = interleave(
        workshop.steps, rounds=3, sample_seconds=0, clock=workshop.clock
    )
    measured = workshop.order[4:]
    assert measured == ["plain", "aw", "aw", "plain", "plain", "aw"]
    assert timings["aw"].seconds == [2.0] * 3
    assert timings["aw"].record()["ratio"] == 2


def test_short_steps_are_repeated():
    workshop = Workshop(plain=0.003, aw=0.05)
    interleave(
        workshop.steps, rounds=1, sample_seconds=0.02, clock=workshop.clock
    )
    assert workshop.order[4:] == ["plain"] * 7 + ["aw"]


def test_gives_up_on_a_slow_peer():
    workshop = Workshop(plain=1.0, aw=30.0, slow=26.0, bearable=24.0)
    timings, _ = interleave(
        workshop.steps, rounds=3, sample_seconds=0, clock=workshop.clock
    )
    assert GIVE_UP_RATIO == 25
    gave_up = {name for name, timing in timings.items() if timing.gave_up}
    assert gave_up == {"slow"}
    assert list(timings) == ["plain", "aw", "slow", "bearable"]
    assert timings["slow"].record()["ratio"] == 26
    assert timings["slow"].record()["rounds"] == 1
    assert workshop.order.count("slow") == 2
    assert workshop.order.count("aw") == 5


def test_compiling_does_not_count_as_slow():
    workshop = Workshop(plain=1.0, aw=1.0)
    durations = iter([1000.0, 2.0, 2.0])

    def launch():
        workshop.now += next(durations)

    steps = {**workshop.steps, "peer": Step(launch, wait=lambda results: None)}
    timings, _ = interleave(
        steps, rounds=1, sample_seconds=0, clock=workshop.clock
    )
    assert timings["peer"].seconds == [2.0]
    assert not timings["peer"].gave_up


def test_a_peer_may_be_unable_to_run():
    def refuse():
        raise NotImplementedError("no such gradient")

    workshop = Workshop(plain=1.0, aw=1.0)
    refusing = Step(refuse, wait=lambda results: None)
    timings, unable = interleave(
        {**workshop.steps, "peer": refusing}, rounds=1, clock=workshop.clock
    )
    assert list(timings) == ["plain", "aw"]
    assert unable == {"peer": "no such gradient"}
    with pytest.raises(NotImplementedError):
        interleave({**workshop.steps, "aw": refusing}, clock=workshop.clock)


def test_row_holds_everyones_record():
    workshop = Workshop(plain=0.001, aw=0.001)
    effort = {"rounds": 2, "clock": workshop.clock}
    measured = row("small", "forward", workshop.steps, effort)
    assert measured["label"] == "small"
    assert measured["direction"] == "forward"
    assert measured["contenders"]["aw"]["ratio"] == pytest.approx(1)


def test_resident_growth_sees_what_a_step_fills_and_frees():
    size = 64 * 2**20

    def launch():
        np.ones(size, "uint8")

    growth = resident_growth(Step(launch, wait=lambda results: None))
    assert size * 0.9 < growth < size * 1.5
