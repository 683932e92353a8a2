from dataclasses import replace

import pytest

import fbp
from fbp import InputError
from fbp.config import CNN, MLP, RNN, Config, Data, Optimizer, Sweep, Train, Transformer
from fbp.sweep import check_gradient, load_problem

CONFIG = Config(
    name="demo",
    data=Data("digits"),
    network=MLP((8,)),
    optimizer=Optimizer("sgd"),
    train=Train(steps=10, batch_size=16, evaluate_every=5),
    sweep=Sweep((0.1,), 1),
)


def test_score_is_the_metric_unless_another_is_chosen():
    assert load_problem(CONFIG).metric_name == "accuracy"
    assert load_problem(replace(CONFIG, data=Data("diabetes"))).metric_name == "r2"
    train = replace(CONFIG.train, metric="loss")
    assert load_problem(replace(CONFIG, train=train)).metric_name == "loss"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": replace(CONFIG.train, metric="r2")}, "train.metric is r2, but digits is a clas"),
        ({"train": replace(CONFIG.train, batch_size=5000)}, "batch_size is 5000, but digits has"),
        ({"data": Data("digitz")}, "no data set is called 'digitz'"),
        ({"network": CNN((4,), ())}, r"shape \[64\]: set data.image = true"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(changes, message):
    with pytest.raises(InputError, match=message):
        load_problem(replace(CONFIG, **changes))


@pytest.mark.parametrize(
    "network",
    [
        MLP((8,)),
        CNN((4,), (8,)),
        RNN((4,)),
        pytest.param(Transformer(width=8, depth=1, heads=2), marks=pytest.mark.slow),
    ],
    ids=lambda n: type(n).__name__,
)
def test_gradient_of_every_network_agrees_with_jax(network):
    config = replace(CONFIG, network=network, data=Data("digits", image=True))
    agreement = check_gradient(load_problem(config))
    assert agreement.max_ulps <= 16, agreement


def test_wrong_gradient_stops_the_run(monkeypatch):
    import jax

    def wrong(fun):
        return lambda *args: jax.tree.map(lambda g: 1.01 * g, fbp.grad(fun)(*args))

    monkeypatch.setattr("fbp.verify.agreement.grad", wrong)
    with pytest.raises(InputError, match=r"gradient is wrong, nothing was trained: .* at params\["):
        check_gradient(load_problem(CONFIG))
