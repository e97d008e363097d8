"""Suggestions for misspelt names."""

import pytest

from aw_keras.suggestions import did_you_mean


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("rbc", "; did you mean RBC?"),
        ("trian", "; did you mean train?"),
        ("RBC", ""),
        ("platelet", "; did you mean Platelets?"),
        ("?", ""),
        (3, ""),
    ],
)
def test_did_you_mean(name, question):
    assert did_you_mean(name, ("RBC", "WBC", "Platelets", "train")) == question
