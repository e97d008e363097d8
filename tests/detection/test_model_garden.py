"""The Model Garden's own test of its ResNet, on the backbone of this library.

What does not pass is what the page on detection lists.
"""

from tests.detection import requirements  # noqa: F401, I001 isort:skip

import pathlib
import re
import types
import unittest

import pytest
from official.vision.modeling.backbones import resnet_test

from aw_keras.detection import AWResNet

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "detection.md"

#: What the page says of a test, and how the test fails, by its arguments.
DIFFERENCES = {
    "network_creation.*128, 10,": ("depths 10 and 26", "`model_id`.*=10"),
    "network_creation.*128, 26,": ("depths 10 and 26", "`model_id`.*=26"),
    "network_creation.*128, 18,": ("4,352 parameters fewer", "11186112 != 111"),
    "network_creation.*128, 34,": ("4,352 parameters fewer", "21301696 != 213"),
    "resnet_rs": ("`depth_multiplier`", "depth_multiplier"),
    "serialize_deserialize": ("`depth_multiplier`", "depth_multiplier"),
}


class Plain(AWResNet):
    def __init__(self, *args, conv="plain", **kwargs):
        super().__init__(*args, conv=conv, **kwargs)


def test_of_the_model_garden(monkeypatch):
    if not PAGE.exists():
        pytest.skip("The pages are in a checkout only.")
    page = " ".join(PAGE.read_text("utf-8").split())
    resnet = types.SimpleNamespace(ResNet=Plain)
    monkeypatch.setattr(resnet_test, "resnet", resnet)
    monkeypatch.setattr("sys.argv", ["resnet_test"])  # They are parsed.
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    result = unittest.TestResult()
    load(resnet_test.ResNetTest).run(result)
    found = {}
    for test, trace in [*result.failures, *result.errors]:
        known = [
            reasons
            for pattern, reasons in DIFFERENCES.items()
            if re.search(pattern, test.id())
        ]
        assert known, f"{test.id()}: {trace}"
        ((described, expected),) = known
        assert described in page
        assert re.search(expected, trace), trace
        found[test.id()] = described
    passed = result.testsRun - len(found) - len(result.skipped)
    # Depths 50, 101 and 152, and three numbers of channels.
    assert (len(found), passed) == (9, 6)
