"""Trainings of the tests in this process: a small network for any other."""

import pytest

from tests.zoo import tiny
from zoo.training import network


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setattr(network, "create_model", tiny.create_model)
