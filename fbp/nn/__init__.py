"""Networks as pure functions: every name here makes a `Layer(init, apply)`.

>>> import jax
>>> from fbp import nn
>>> network = nn.serial(nn.dense(32), nn.relu(), nn.dense(10))
>>> params, out_shape = network.init(jax.random.key(0), (-1, 64))
>>> network.apply(params, jax.numpy.ones((5, 64))).shape
(5, 10)
"""

from fbp.nn.activation import activation, elu, gelu, relu, sigmoid, silu, softmax, softplus, tanh
from fbp.nn.attention import multi_head_attention
from fbp.nn.combine import parallel, residual, serial
from fbp.nn.conv import conv
from fbp.nn.dense import dense
from fbp.nn.dropout import dropout
from fbp.nn.embed import embedding, positional_embedding
from fbp.nn.layer import Layer, LayerError, Parameter, make_layer
from fbp.nn.models import cnn, mlp, rnn, transformer
from fbp.nn.norm import group_norm, layer_norm
from fbp.nn.pool import average_pool, flatten, global_average_pool, global_max_pool, max_pool
from fbp.nn.recurrent import gru, lstm
from fbp.nn.remat import remat

__all__ = [
    "Layer",
    "LayerError",
    "Parameter",
    "activation",
    "average_pool",
    "cnn",
    "conv",
    "dense",
    "dropout",
    "elu",
    "embedding",
    "flatten",
    "gelu",
    "global_average_pool",
    "global_max_pool",
    "group_norm",
    "gru",
    "layer_norm",
    "lstm",
    "make_layer",
    "max_pool",
    "mlp",
    "multi_head_attention",
    "parallel",
    "positional_embedding",
    "relu",
    "remat",
    "residual",
    "rnn",
    "serial",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
    "transformer",
]
