"""Choose sites in a function that somebody else wrote: by scope, function, name, primitive, tag,
line, parameter, iteration, or by a predicate.

Selectors compose: `scope("*/block_3") & primitive("dot_general")`, `a | b`, `~a`. A pattern is a
glob (`*` and `?`). Equations in the bodies of jit, scan, cond, while_loop, checkpoint, custom rules
and shard_map have the scopes around those too.

An equation that holds a program is chosen with all of it, and its body is not searched then.
Equations that are chosen by the same scope, or by the same line, are one site; where values leave
a scope and come back to it, the next site begins, as where a layer is applied twice. Any other
selector makes one site of each equation. Which sites there are, `fbp.sites` prints.
"""

from collections.abc import Callable
from typing import Any

from jax.extend.core import primitives as p

from fbp.autodiff.edits.program import frames, function_name
from fbp.autodiff.edits.selectors import Iteration, Named, Resolved, Selector, Where, selector
from fbp.autodiff.restage import Site

__all__ = [
    "function",
    "iteration",
    "line",
    "name",
    "primitive",
    "reads",
    "scope",
    "tag",
    "where",
]


def scope(pattern: str) -> Selector:
    """Choose a named scope (`jax.named_scope`; each module of Flax, Haiku, Equinox and fbp.nn).

    Args:
      pattern: a glob over the path of scopes from the outside, such as `*/block_3/attn`. All that
        stands in the scope is one site.

    Returns:
      A selector.

    >>> scope("*/block_3") & primitive("dot_general")
    (scope('*/block_3') & primitive('dot_general'))
    """
    return selector(pattern)


def function(pattern: str) -> Selector:
    """Choose the calls of a function under `jax.jit`, `custom_jvp` or `custom_vjp`.

    Args:
      pattern: a glob over the function's name, such as `relu`.

    Returns:
      A selector.

    >>> function("relu")
    function('relu')
    """
    return Named("function", pattern, function_names)


def function_names(site: Site) -> list[str]:
    """Return the name of the function that an equation calls, if it calls one."""
    called = function_name(site.eqn)
    return [] if called is None else [called]


def name(pattern: str) -> Selector:
    """Choose a value to which `jax.ad_checkpoint.checkpoint_name` gave a name.

    Args:
      pattern: a glob over the name.

    Returns:
      A selector.

    >>> name("hidden_*")
    name('hidden_*')
    """
    return Named("name", pattern, value_names)


def value_names(site: Site) -> list[str]:
    """Return the name that an equation gives to a value, if it does."""
    return [site.eqn.params["name"]] if site.eqn.primitive is p.name_p else []


def primitive(pattern: str) -> Selector:
    """Choose equations by their primitive.

    Args:
      pattern: a glob over the primitive's name, such as `dot_general`.

    Returns:
      A selector.

    >>> primitive("reduce_*")
    primitive('reduce_*')
    """
    return Named("primitive", pattern, primitive_names)


def primitive_names(site: Site) -> list[str]:
    """Return the name of an equation's primitive."""
    return [site.eqn.primitive.name]


def tag(pattern: str) -> Selector:
    """Choose equations by a tag of their primitive's rule (`fbp.rule.TAGS`).

    Args:
      pattern: a glob over the tags, such as `elementwise`.

    Returns:
      A selector.

    >>> tag("elementwise") & ~primitive("add")
    (tag('elementwise') & ~primitive('add'))
    """
    return Resolved("tag", pattern)


def line(pattern: str) -> Selector:
    """Choose what a line of source code computes, also by the functions that it calls.

    Args:
      pattern: a glob over `file:line`, or over the file alone, of which the folders may be left
        out: `model.py:42`.

    Returns:
      A selector.

    >>> line("model.py:42")
    line('model.py:42')
    """
    return Named("line", pattern, line_names, grouped=True)


def line_names(site: Site) -> list[str]:
    """Return the lines, and the files, whose code made an equation, from the outside; each with
    and without its folders."""
    lines = [frame.split(" (")[0].rsplit(":", 1)[0] for frame in reversed(frames(site.eqn))]
    files = [x.rsplit(":", 1)[0] for x in lines]
    return [name for x in (*lines, *files) for name in (x, x.rsplit("/", 1)[-1])]


def reads(pattern: str) -> Selector:
    """Choose the equations that a parameter reaches first: the layer of a leaf.

    Casts, reshapes, transposes and broadcasts of the leaf alone are passed by.

    Args:
      pattern: a glob over the paths of the leaves of the differentiated arguments, of which leading
        parts may be left out: `params/dense_1/kernel`.

    Returns:
      A selector.

    >>> reads("params/dense_1/*")
    reads('params/dense_1/*')
    """
    return Resolved("reads", pattern)


def iteration(number: int | Callable[[Any], Any]) -> Selector:
    """Choose iterations of the innermost scan, or while_loop, around an equation.

    Args:
      number: the iteration, from 0, along the xs of a scan; or a predicate of it, which gets a
        traced integer.

    Returns:
      A selector.

    >>> scope("block") & iteration(3)
    (scope('block') & iteration(3))
    """
    return Iteration(number)


def where(predicate: Callable[[Site], bool]) -> Selector:
    """Choose equations by a predicate.

    Args:
      predicate: gets an equation with where it lies: `site.eqn`, `site.scopes`, `site.source`,
        `site.within` (the names of the equations around it).

    Returns:
      A selector.

    >>> large = where(lambda site: site.eqn.outvars[0].aval.size > 10**6)
    >>> large & primitive("dot_general")
    (where(<lambda>) & primitive('dot_general'))
    """
    return Where(predicate)
