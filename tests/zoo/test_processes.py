"""Trainings that are killed, and trainings on several devices.

All end at the weights of one that ran undisturbed on one device.
"""

import json
import random
import socket
import time

import pytest

from tests.zoo import tiny

# With larger steps, differences of rounding would grow from one to the next.
SETTINGS = ["epochs=12", "learning_rate=0.02"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run under JAX."""
    out = tmp_path_factory.mktemp("undisturbed")
    tiny.finish(tiny.start(out, *SETTINGS))
    return out


def test_killed_runs_end_the_same(undisturbed, tmp_path):
    """Twice, at random moments after a new checkpoint has appeared."""
    for _ in range(2):
        seen = set(tmp_path.glob("checkpoints/*.npz"))
        process = tiny.start(tmp_path, *SETTINGS)
        while process.poll() is None:
            if set(tmp_path.glob("checkpoints/*.npz")) - seen:
                time.sleep(random.uniform(0, 0.3))
                process.kill()
                process.wait()
            time.sleep(0.01)
        process.stdout.close()
    tiny.finish(tiny.start(tmp_path, *SETTINGS))
    tiny.assert_same_end(tmp_path, undisturbed)
    log = (tmp_path / "log.csv").read_text().splitlines()
    assert len(log) == 13


def test_two_devices_of_jax(undisturbed, tmp_path):
    flags = "--xla_force_host_platform_device_count=2"
    tiny.finish(
        tiny.start(
            tmp_path, *SETTINGS, "distribute=data_parallel", XLA_FLAGS=flags
        )
    )
    tiny.assert_same_end(tmp_path, undisturbed)


def test_two_workers_of_tensorflow(tmp_path):
    workers = [f"localhost:{port}" for port in free_ports(2)]
    alone = tiny.start(tmp_path / "alone", backend="tensorflow")
    tiny.finish(alone)
    tiny.finish(
        *[
            tiny.start(
                tmp_path / "two",
                "distribute=multi_worker",
                backend="tensorflow",
                TF_CONFIG=json.dumps(
                    {
                        "cluster": {"worker": workers},
                        "task": {"type": "worker", "index": index},
                    }
                ),
            )
            for index in range(2)
        ]
    )
    tiny.assert_same_end(tmp_path / "two", tmp_path / "alone")
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["distribute"] == "multi_worker"


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports
