import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from fbp import nn

X = np.linspace(-4, 4, 24).reshape(4, 6)

FORMULAS = {
    nn.relu: lambda x: np.maximum(x, 0),
    nn.gelu: lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    nn.silu: lambda x: x * special.expit(x),
    nn.elu: lambda x: np.where(x > 0, x, np.expm1(x)),
    nn.softplus: lambda x: np.log1p(np.exp(x)),
    nn.tanh: np.tanh,
    nn.sigmoid: special.expit,
    nn.softmax: lambda x: special.softmax(x, axis=-1),
}


@pytest.mark.parametrize("make", FORMULAS, ids=lambda make: make.__name__)
def test_activations_are_their_formulas(make):
    y = make().apply({}, jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(y, FORMULAS[make](X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", FORMULAS, ids=lambda make: make.__name__)
def test_activations_are_named_as_their_makers(make):
    assert make().name == make.__name__
