import inspect
from pathlib import Path

import pytest

from fbp import InputError
from fbp.config import (
    CNN,
    FLAGS,
    MLP,
    OPTIMIZERS,
    RNN,
    Config,
    Data,
    GridSearch,
    Halving,
    LogGrid,
    Optimizer,
    RandomSearch,
    Range,
    Sweep,
    Train,
    Transformer,
)
from fbp.train.optimizer import factory_of


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_one_of_optax_with_those_hyperparameters(name):
    assert set(OPTIMIZERS[name]) <= set(inspect.signature(factory_of(name)).parameters)


def test_grid_is_log_spaced_from_low_to_high():
    assert LogGrid(1e-4, 100.0, 7).values == (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)


def test_rates_are_the_list_or_the_grid():
    assert Sweep((0.1, 0.2), 1).learning_rates == (0.1, 0.2)
    assert Sweep(LogGrid(0.1, 10.0, 3), 1).learning_rates == (0.1, 1.0, 10.0)


def config(optimizer, sweep):
    return Config("demo", Data("digits"), MLP((4,)), optimizer, Train(1, 1, 1), sweep)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sweep((0.1, -0.1), 1), r"learning_rate\[1\]: must be positive, got -0.1"),
        (lambda: Sweep((0.0,), 1), r"learning_rate\[0\]: must be positive, got 0.0"),
        (lambda: Sweep((float("nan"),), 1), r"learning_rate\[0\]: must be positive, got nan"),
        (lambda: Sweep((float("inf"),), 1), r"learning_rate\[0\]: must be positive, got inf"),
        (lambda: Sweep((), 1), r"learning_rate: must be at least one number, got \[\]"),
        (lambda: Sweep((0.1, 0.1), 1), "learning_rate: must be without repetition"),
        (lambda: Sweep((0.1,), 0), "seeds: must be at least 1, got 0"),
        (lambda: Sweep((0.1,), 1, batch_size=0), "batch_size: must be at least 1, got 0"),
        (lambda: Sweep((0.1,), 1, divergence_factor=1.0), "divergence_factor: must be larger than"),
        (lambda: Sweep((0.1,), 1, {"momentum": ()}), "hyperparameters.momentum: must be at least"),
        (lambda: Sweep((0.1,), 1, {"b1": (-1.0,)}), r"hyperparameters.b1\[0\]: must be not neg"),
        (lambda: LogGrid(0.0, 1.0, 3), "low: must be a positive number, got 0.0"),
        (lambda: LogGrid(1.0, 0.1, 3), "high: must be a number larger than low, got 0.1"),
        (lambda: LogGrid(0.1, 1.0, 1), "count: must be at least 2, got 1"),
        (lambda: Train(0, 1, 1), "steps: must be at least 1, got 0"),
        (lambda: Train(1, -3, 1), "batch_size: must be at least 1, got -3"),
        (lambda: Train(1, 1, 0), "evaluate_every: must be at least 1, got 0"),
        (lambda: Train(5, 1, 1, warmup_steps=5), "warmup_steps: must be from 0 to less than steps"),
        (lambda: Train(5, 1, 1, "one_cycle", 2), "warmup_steps: must be 0 with one_cycle, got 2"),
        (lambda: Range(0.0, 1.0), "low: must be positive, or 0 on a linear scale, got 0.0"),
        (lambda: Range(1.0, 1.0), "high: must be a number larger than low, got 1.0"),
        (lambda: RandomSearch(0), "trials: must be at least 1, got 0"),
        (lambda: Halving(eta=1), "eta: must be at least 2, got 1"),
        (lambda: Halving(trials=0), "trials: must be at least 1, got 0"),
        (lambda: Train(1, 1, 1, clip_norm=0.0), "clip_norm: must be positive, got 0.0"),
        (lambda: Optimizer("adamm"), "name: unknown value 'adamm': did you mean adam"),
        (lambda: Optimizer("sgd", {"b1": 0.9}), "hyperparameters.b1: unknown value 'b1': Valid: m"),
        (lambda: Optimizer("sgd", {"momentum": -0.1}), "hyperparameters.momentum: must be a numb"),
        (lambda: Optimizer("sgd", {"momentum": True}), "hyperparameters.momentum: must be a numb"),
        (lambda: Optimizer("sgd", {"nesterov": 1.0}), "hyperparameters.nesterov: must be true or"),
        (lambda: MLP((8, 0)), r"widths\[1\]: must be at least 1, got 0"),
        (lambda: CNN((0,), ()), r"channels\[0\]: must be at least 1, got 0"),
        (lambda: RNN(()), r"widths: must be at least one width, got \[\]"),
        (lambda: Transformer(30, 1, 4), "heads: must be a divisor of width, got 4"),
    ],
)
def test_value_out_of_range_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_range_is_of_a_search_that_draws():
    drawn = Sweep(Range(0.1, 1.0), 1, search=RandomSearch(3))
    assert drawn.learning_rates == (0.1, 1.0)
    Sweep(Range(0.1, 1.0), 1, search=Halving(trials=3))
    for search in (GridSearch(), Halving()):
        with pytest.raises(InputError, match=r"learning_rate: a range without count has no values"):
            Sweep(Range(0.1, 1.0), 1, search=search)


def test_swept_hyperparameter_is_a_number_of_the_optimizer():
    with pytest.raises(InputError, match=r"sweep.hyperparameters.momentun: .*mean momentum"):
        config(Optimizer("sgd"), Sweep((0.1,), 1, {"momentun": (0.9,)}))
    with pytest.raises(InputError, match=r"sweep.hyperparameters.nesterov: unknown value"):
        config(Optimizer("sgd"), Sweep((0.1,), 1, {"nesterov": (1.0,)}))


def test_hyperparameter_is_either_fixed_or_swept():
    with pytest.raises(InputError, match=r"momentum: also in optimizer.hyperparameters"):
        config(Optimizer("sgd", {"momentum": 0.9}), Sweep((0.1,), 1, {"momentum": (0.5,)}))


def test_flags_are_booleans_in_optax():
    for name, keys in OPTIMIZERS.items():
        parameters = inspect.signature(factory_of(name)).parameters
        for key in keys:
            assert isinstance(parameters[key].default, bool) == (key in FLAGS), (name, key)


def test_every_committed_config_says_how_to_run_it():
    paths = sorted(Path("configs").glob("*.toml"))
    assert paths
    for path in paths:
        head = path.read_text().split("\n\n")[0]
        assert f"fbp sweep {path}" in head, path
