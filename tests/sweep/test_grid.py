import numpy as np

from fbp.config import LogGrid, Sweep
from fbp.sweep.grid import grid_of, trials_of


def test_every_setting_is_trained_with_every_seed_once():
    sweep = Sweep((0.1, 1.0), 3, {"momentum": (0.0, 0.9), "b1": (0.5,)})
    trials = trials_of(sweep)
    assert [trial.number for trial in trials] == list(range(12))
    assert len({(trial.seed, *trial.hyperparameters.values()) for trial in trials}) == 12
    assert all(set(t.hyperparameters) == {"learning_rate", "momentum", "b1"} for t in trials)


def test_arrays_are_in_the_trials_order():
    trials = trials_of(Sweep(LogGrid(0.01, 1.0, 3), 2, {"momentum": (0.0, 0.9)}))
    grid = grid_of(trials)
    np.testing.assert_array_equal(grid.seed, [trial.seed for trial in trials])
    for name, values in grid.hyperparameters.items():
        expected = np.float32([trial.hyperparameters[name] for trial in trials])
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == np.float32
