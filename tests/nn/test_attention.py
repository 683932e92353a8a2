import numpy as np
import pytest
from scipy.special import softmax

from fbp import nn
from tests.support.networks import KEY, draw, run


def attention(params, x, heads, causal):
    """By loops over examples and heads."""
    p = params
    batch, time, features = x.shape
    d = features // heads
    mixed = np.empty((batch, time, features))
    for b in range(batch):
        q, k, v = np.split(x[b] @ p["qkv_kernel"] + p["qkv_bias"], 3, axis=-1)
        for h in range(heads):
            part = slice(h * d, (h + 1) * d)
            scores = q[:, part] @ k[:, part].T / np.sqrt(d)
            if causal:
                scores = np.where(np.tri(time, dtype=bool), scores, -np.inf)
            mixed[b, :, part] = softmax(scores, axis=-1) @ v[:, part]
    return mixed @ p["out_kernel"] + p["out_bias"]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 6])
def test_attention_is_its_formula(heads, causal):
    layer = nn.multi_head_attention(heads, causal=causal)
    params, x = draw(layer, (2, 5, 6))
    expected = attention(params, x, heads, causal)
    np.testing.assert_allclose(run(layer, params, x), expected, rtol=1e-4, atol=1e-5)


def test_causal_attention_does_not_see_what_follows():
    layer = nn.multi_head_attention(2, causal=True)
    params, x = draw(layer, (1, 5, 6))
    change = np.float32([0, 0, 0, 1, 1]).reshape(1, 5, 1)
    before, after = (run(layer, params, x + by) for by in (change * 0, change))
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert np.all(before[:, 3:] != after[:, 3:])


def test_attention_without_positions_knows_no_order():
    layer = nn.multi_head_attention(2)
    params, x = draw(layer, (1, 5, 6))
    np.testing.assert_allclose(
        run(layer, params, x[:, ::-1]), run(layer, params, x)[:, ::-1], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(2, 6), (2, 5, 7), (2, 5, 5, 6)])
def test_heads_must_divide_the_features(shape):
    with pytest.raises(nn.LayerError, match="a multiple of 2 heads, got shape"):
        nn.multi_head_attention(2).init(KEY, shape)
