"""Networks as pure functions: every name here makes a `Layer(init, apply)`.

>>> import jax
>>> from fbp import nn
>>> network = nn.serial(nn.dense(32), nn.relu(), nn.dense(10))
>>> params, out_shape = network.init(jax.random.key(0), (-1, 64))
>>> network.apply(params, jax.numpy.ones((5, 64))).shape
(5, 10)
"""

from fbp.nn.activation import activation as activation
from fbp.nn.activation import elu as elu
from fbp.nn.activation import gelu as gelu
from fbp.nn.activation import relu as relu
from fbp.nn.activation import sigmoid as sigmoid
from fbp.nn.activation import silu as silu
from fbp.nn.activation import softmax as softmax
from fbp.nn.activation import softplus as softplus
from fbp.nn.activation import tanh as tanh
from fbp.nn.attention import multi_head_attention as multi_head_attention
from fbp.nn.combine import parallel as parallel
from fbp.nn.combine import residual as residual
from fbp.nn.combine import serial as serial
from fbp.nn.conv import conv as conv
from fbp.nn.dense import dense as dense
from fbp.nn.dropout import dropout as dropout
from fbp.nn.embed import embedding as embedding
from fbp.nn.embed import positional_embedding as positional_embedding
from fbp.nn.layer import Layer as Layer
from fbp.nn.layer import LayerError as LayerError
from fbp.nn.layer import Parameter as Parameter
from fbp.nn.layer import make_layer as make_layer
from fbp.nn.models import cnn as cnn
from fbp.nn.models import mlp as mlp
from fbp.nn.models import rnn as rnn
from fbp.nn.models import transformer as transformer
from fbp.nn.norm import group_norm as group_norm
from fbp.nn.norm import layer_norm as layer_norm
from fbp.nn.pool import average_pool as average_pool
from fbp.nn.pool import flatten as flatten
from fbp.nn.pool import global_average_pool as global_average_pool
from fbp.nn.pool import global_max_pool as global_max_pool
from fbp.nn.pool import max_pool as max_pool
from fbp.nn.recurrent import gru as gru
from fbp.nn.recurrent import lstm as lstm
from fbp.nn.remat import remat as remat
