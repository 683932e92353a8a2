import numpy as np

from fbp.config import LogGrid, Range
from fbp.sweep.sampling import sample_settings

RATES = {"learning_rate": Range(1e-4, 1.0)}


def test_draws_are_in_the_range_and_even_on_its_scale():
    values = np.array([s["learning_rate"] for s in sample_settings(RATES, 400, seed=3)])
    assert values.min() >= 1e-4
    assert values.max() <= 1.0
    counts, _ = np.histogram(np.log10(values), bins=4, range=(-4, 0))
    np.testing.assert_allclose(counts, 100, atol=5)
    linear = [s["m"] for s in sample_settings({"m": Range(0.0, 2.0, "linear")}, 400, seed=3)]
    counts, _ = np.histogram(linear, bins=4, range=(0, 2))
    np.testing.assert_allclose(counts, 100, atol=5)


def test_values_of_a_list_are_drawn_equally_often():
    drawn = [
        s["momentum"] for s in sample_settings({**RATES, "momentum": (0.0, 0.5, 0.9)}, 300, seed=1)
    ]
    assert {value: abs(drawn.count(value) - 100) <= 3 for value in set(drawn)} == {
        0.0: True,
        0.5: True,
        0.9: True,
    }
    assert {s["x"] for s in sample_settings({"x": LogGrid(1.0, 100.0, 3)}, 60, 0)} == {
        1.0,
        10.0,
        100.0,
    }


def test_more_draws_begin_with_the_same_ones_and_another_seed_with_others():
    assert sample_settings(RATES, 20, seed=0)[:5] == sample_settings(RATES, 5, seed=0)
    assert sample_settings(RATES, 5, seed=1) != sample_settings(RATES, 5, seed=0)
