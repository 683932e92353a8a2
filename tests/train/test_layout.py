import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from fbp import InputError, nn
from fbp.train.layout import megatron, partition_specs

MESH = jax.make_mesh((4, 2), ("data", "model"))
KERNEL = ("kernel$", P(None, "model"))


def shapes(network, in_shape):
    return jax.eval_shape(lambda: network.init(jax.random.key(0), in_shape)[0])


MLP = shapes(nn.mlp([32, 16, 8, 10]), (-1, 64))


def divided(params, layout, mesh=MESH):
    """The specs of those parameters that are divided, by path."""
    specs = partition_specs(params, mesh, layout)
    leaves = jax.tree_util.tree_leaves_with_path(specs, is_leaf=lambda node: isinstance(node, P))
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    return {name(path): spec for path, spec in leaves if spec != P()}


def test_first_rule_that_matches_wins():
    layout = [("3_dense/kernel", P("data")), KERNEL]
    specs = divided(MLP, layout)
    assert specs["3_dense/kernel"] == P("data")
    assert specs["1_dense/kernel"] == P(None, "model")


def test_what_no_rule_matches_is_replicated():
    assert set(divided(MLP, [("^1_dense/bias$", P("model"))])) == {"1_dense/bias"}
    assert divided(MLP, ()) == {}


def test_dense_layers_are_divided_in_pairs():
    columns, rows, bias = P(None, "model"), P("model", None), P("model")
    assert divided(MLP, megatron) == {
        "1_dense/kernel": columns,
        "1_dense/bias": bias,
        "3_dense/kernel": rows,
        "5_dense/kernel": columns,
        "5_dense/bias": bias,
        "7_dense/kernel": rows,
    }


def test_a_dense_layer_without_a_pair_is_not_divided():
    params = shapes(nn.cnn([4], [16, 8, 10]), (-1, 8, 8, 1))
    assert {path.split("/")[0] for path in divided(params, megatron)} == {"4_dense", "6_dense"}


def test_pairs_are_in_the_order_of_the_layers_beyond_ten():
    params = shapes(nn.mlp([4] * 8), (-1, 4))
    firsts = {path for path, spec in divided(params, megatron).items() if spec == P(None, "model")}
    assert firsts == {f"{i}_dense/kernel" for i in (1, 5, 9, 13)}


def test_attention_and_both_dense_layers_of_each_block_are_divided():
    params = shapes(nn.transformer(10, width=8, depth=2, heads=2, length=4), (-1, 4, 3))
    ends = ("attention/attention/qkv_kernel", "attention/attention/qkv_bias")
    ends += ("attention/attention/out_kernel", "mlp/up/kernel", "mlp/up/bias", "mlp/down/kernel")
    expected = {f"block_{i}/{end}" for i in range(2) for end in ends}
    assert set(divided(params, megatron)) == expected


def test_pattern_that_matches_nothing_is_told_with_the_paths():
    with pytest.raises(InputError, match=r"'2_dense' matches no parameter: .*1_dense/bias, 1_dens"):
        divided(MLP, [("2_dense", P("model"))])


def test_axis_that_the_mesh_lacks_is_told_with_the_mesh():
    with pytest.raises(InputError, match=r"'kernel\$' over 'model', and the mesh data 8 has no"):
        divided(MLP, [KERNEL], jax.make_mesh((8,), ("data",)))


def test_dimension_that_does_not_divide_is_told_with_path_shape_and_mesh():
    message = r"params 7_dense/kernel has shape \[8, 10\], .* dimension 1 over 4 devices of the "
    with pytest.raises(InputError, match=message + "mesh data 2 x model 4: 10 is no multiple"):
        divided(MLP, [KERNEL], jax.make_mesh((2, 4), ("data", "model")))


def test_dimension_over_two_axes_divides_by_their_product():
    assert divided({"w": np.ones(8)}, [("w", P(("data", "model")))]) == {"w": P(("data", "model"))}
    with pytest.raises(InputError, match="over 8 devices"):
        divided({"w": np.ones(4)}, [("w", P(("data", "model")))])


def test_more_entries_than_dimensions_are_told():
    with pytest.raises(InputError, match=r"params 1_dense/bias has shape \[32\], .* 2 entries"):
        divided(MLP, [("1_dense", P(None, "model"))])
