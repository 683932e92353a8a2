"""What a network looked at: maps of its input by gradients, plain or with another way through ReLU.

`fun` maps an input to outputs, in which each example has its own; pick a class inside it:
`lambda x: network(params, x)[:, 3]`. The maps are of the sum of all outputs.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jax.extend.core import primitives as p
from jaxtyping import Array, PyTree

import fbp
from fbp.autodiff.edits.selectors import Selector
from fbp.autodiff.restage import Site

Fun = Callable[[Array], Array]


def relus() -> Selector:
    """Choose the ReLUs of a function: calls of functions of the name `relu`, and max(x, 0).

    Returns:
      A selector.

    >>> import fbp, jax, jax.numpy as jnp
    >>> f = lambda x: jax.nn.relu(x) + jnp.maximum(x, 0)
    >>> len(fbp.sites(f, 1.0).choose(relus()))
    2
    """
    return fbp.at.function("relu") | fbp.at.where(is_max_with_zero)


def is_max_with_zero(site: Site) -> bool:
    """Test whether an equation is max(x, 0)."""
    constants = [v.val for v in site.eqn.invars if isinstance(v, Literal)]
    return site.eqn.primitive is p.max_p and len(constants) == 1 and bool(constants[0] == 0)


def gradient_of(fun: Fun, rules: fbp.Rules = fbp.RULES) -> Fun:
    """Return x -> the gradient of the sum of the outputs."""
    return lambda x: fbp.grad(lambda x: jnp.sum(fun(x)), rules=rules)(x)


def saliency(fun: Fun) -> Fun:
    """Return the map |d f / d x|.

    Args:
      fun: from an input to outputs.

    Returns:
      A function of the input that returns an array of its shape.

    Source: Simonyan, Vedaldi and Zisserman, arXiv 1312.6034, without their maximum over channels.

    >>> import jax.numpy as jnp
    >>> print(saliency(lambda x: -3 * x)(jnp.ones(1)))
    [3.]
    """
    return lambda x: jnp.abs(gradient_of(fun)(x))


def guided_backprop(fun: Fun) -> Fun:
    """Return the gradient by which a ReLU passes positive cotangents, where it is positive itself:
    ct -> max(ct, 0) 1[x > 0].

    Args:
      fun: from an input to outputs.

    Returns:
      A function of the input that returns an array of its shape.

    Raises:
      fbp.InputError: when called, there is no ReLU.

    Source: Springenberg et al., arXiv 1412.6806.

    >>> import jax, jax.numpy as jnp
    >>> f = lambda x: jnp.array([1.0, 1.0, -1.0]) * jax.nn.relu(x)
    >>> print(guided_backprop(f)(jnp.array([1.0, -1.0, 1.0])))
    [1. 0. 0.]
    """
    guided = lambda cts, outs, _: [jnp.where(outs[0] > 0, jax.nn.relu(cts[0]), 0)]
    return gradient_of(fun, fbp.RULES | fbp.edit.region(relus(), guided))


def deconvolution(fun: Fun) -> Fun:
    """Return the gradient by which a ReLU passes positive cotangents, whatever it is itself:
    ct -> max(ct, 0).

    Args:
      fun: from an input to outputs.

    Returns:
      A function of the input that returns an array of its shape.

    Raises:
      fbp.InputError: when called, there is no ReLU.

    Source: Zeiler and Fergus, arXiv 1311.2901.

    >>> import jax, jax.numpy as jnp
    >>> f = lambda x: jnp.array([1.0, 1.0, -1.0]) * jax.nn.relu(x)
    >>> print(deconvolution(f)(jnp.array([1.0, -1.0, 1.0])))
    [1. 1. 0.]
    """
    rectified = lambda cts, _outs, _ins: [jax.nn.relu(cts[0])]
    return gradient_of(fun, fbp.RULES | fbp.edit.region(relus(), rectified))


def attribution_patching(fun: Callable[[Any], Any], site: Any) -> Callable[[Any, Any], PyTree]:
    """Return an estimate, to first order, of what f changes by if a value at a site is patched in
    from another run: (a_source - a_base) d f / d a_base, entry by entry.

    Args:
      fun: from an input to a number: the metric.
      site: a selector, or the pattern of a scope, whose values are patched.

    Returns:
      A function of (base, source), two inputs of the same shape: the run in which the gradient is
      taken, and the one that values are taken from. Nanda patches from the clean run (source) into
      the corrupted one (base). It returns an array; a list if the site has several values, a dict
      if there are several sites. Sum over the axes of a head, a neuron or a position for its own.

    Raises:
      fbp.InputError: when called, no site is chosen.

    Source: Nanda, Attribution patching (2023); Syed, Rager and Conmy, arXiv 2310.10348.

    >>> import fbp, jax.numpy as jnp
    >>> patched = attribution_patching(lambda x: 2 * jnp.sin(x) ** 2, fbp.at.primitive("sin"))
    >>> base, source = jnp.array(0.5), jnp.array(0.6)
    >>> bool(patched(base, source) == (jnp.sin(source) - jnp.sin(base)) * 4 * jnp.sin(base))
    True
    """
    taps = {"site": fbp.tap(site, lambda value, ct: (value, ct))}
    read = fbp.value_and_grad(fun, taps=taps)
    is_pair = lambda x: isinstance(x, tuple)

    def patched(base: Any, source: Any) -> PyTree:
        at_base, at_source = (read(x)[2]["site"] for x in (base, source))
        return jax.tree.map(lambda b, s: (s[0] - b[0]) * b[1], at_base, at_source, is_leaf=is_pair)

    return patched
