"""The speed of training: measured in processes, and the table of it."""

import pytest

from tests.zoo.published import empty_places
from zoo import throughput

COMMAND = [
    *("zoo/recipes/digits.yaml", "--set", "batch_size=4"),
    *("jit_compile=false", "--models", "ResNet20", "--seconds", "0.5"),
]


def test_two_processes(tmp_path, capsys):
    places = empty_places(tmp_path)
    throughput.main([*COMMAND, "--processes", "2", "--threads", "1"], places)
    said, speed, *_ = capsys.readouterr().out.split()
    assert said == "ResNet20:" and 1 < float(speed) < 100_000
    assert throughput.read(places) == []


def test_table(tmp_path, monkeypatch):
    places = empty_places(tmp_path)
    speeds = iter([[10.0, 20.4], [7.0, 8.0], [50.0]])
    monkeypatch.setattr(throughput, "_together", lambda *_: next(speeds))
    throughput.main([*COMMAND, "--write", "--processes", "2"], places)
    (line,) = throughput.read(places)
    assert (line["images_per_second"], line["compiled"]) == ("30", "False")
    # The same again replaces it, other circumstances do not.
    throughput.main([*COMMAND, "--write", "--processes", "2"], places)
    throughput.main([*COMMAND, "--write"], places)
    found = {
        line["processes"]: line["images_per_second"]
        for line in throughput.read(places)
    }
    assert found == {"1": "50", "2": "15"}


def test_wrong_setting():
    with pytest.raises(SystemExit, match="zoo.throughput: .*Received: epoch"):
        throughput.main([*COMMAND, "--set", "epoch=1"])
