"""The card of the study on blood cells, from a table of runs."""

import pytest

from zoo.publishing import table
from zoo.studies import bccd_card


@pytest.fixture
def places(tmp_path):
    return table.Places(zoo=tmp_path)


def write(places, *runs):
    rows = [
        {
            "backbone": backbone,
            "seed": seed,
            "steps": 500,
            "AP": precision,
            "AP50": 2 * precision,
            "AP RBC": precision,
            "parameters": 12_340_000,
            "seconds": seconds,
            "hardware": "a machine",
        }
        for backbone, seed, precision, seconds in runs
    ]
    table.write_dicts(bccd_card.path(places), rows)


def test_without_a_table(places):
    assert bccd_card.page(places, "") is None


def test_networks_are_compared_with_the_plain_one(places):
    write(
        places,
        ("plain", 1, 40.0, 120),
        ("AW", 1, 42.0, None),
        ("SE", 1, 39.0, 300),
        ("plain", 2, 45.0, 60),
        ("AW", 2, 46.0, 180),
    )
    page = bccd_card.page(places, "head")
    assert page.startswith("head\n# ")
    assert "500 steps" in page and "the seeds 1, 2 is" in page
    # The median of those that were not interrupted.
    assert "A run took 2 minutes (median) on a machine." in page
    assert "| plain | 12.34 M | 42.5 ± 3.5 |  | 85.0 ± 7.1 |  |" in page
    # Differences of 2 and 1 points: t = 3.
    assert (
        "| AW | 12.34 M | 44.0 ± 2.8 | +1.5 ± 0.7 (p = 0.2) "
        "| 88.0 ± 5.7 | +3.0 ± 1.4 (p = 0.2) |"
    ) in page
    assert "| SE | 12.34 M | 39.0 | -1.0 (no test: one seed) |" in page
    assert "| AW | 44.0 ± 2.8 |" in page  # By class.


def test_runs_that_were_interrupted_have_no_time(places):
    write(places, ("plain", 1, 40.0, None))
    assert "none was timed" in bccd_card.page(places, "")
