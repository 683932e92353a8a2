"""What less memory costs is told by source line, and adds up."""

import jax
import jax.numpy as jnp
import pytest

from fbp.autodiff.memory.trade_off import trade_off

pytestmark = pytest.mark.optimized  # memory is that of programs as users have them

WEIGHTS = [0.1 * w for w in jax.random.normal(jax.random.key(0), (12, 32, 32))]
X = jnp.ones((64, 32))


def loss(ws):
    x = X
    for w in ws:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


@pytest.fixture(scope="module")
def choices():
    return list(trade_off(loss, WEIGHTS))


def test_the_first_choice_computes_nothing_again_and_others_take_more_work(choices):
    assert choices[0].scheme == "nothing is computed again"
    assert (choices[0].work, choices[0].again) == (1.0, {})
    works = [choice.work for choice in choices]
    assert works == sorted(works)
    assert min(choice.temporary for choice in choices) < 0.7 * choices[0].temporary


def test_what_is_computed_again_is_the_product_of_the_layers_and_explains_the_work(choices):
    for choice in choices[1:]:
        line, share = next(iter(choice.again.items()))
        assert line.endswith("(loss)")
        assert __file__ in line
        assert share == max(choice.again.values())
        assert sum(choice.again.values()) == pytest.approx(choice.work - 1, rel=0.1)
