"""The public transforms grad, value_and_grad and vjp, with the signatures of JAX's."""

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, overload

import jax

from fbp.autodiff import graph as g
from fbp.autodiff.backprop import apply_rules
from fbp.autodiff.checks import (
    check_arrays,
    check_callable,
    check_inputs,
    check_outputs,
    check_scalar,
)
from fbp.autodiff.edits.opened import (
    Opened,
    Taps,
    cleared_parts,
    opened,
    value_and_cotangents,
)
from fbp.autodiff.flat_function import NEEDS_A_VALUE, FlatFunction, flatten_function
from fbp.autodiff.memory.budget import Use, check_budget, within
from fbp.autodiff.partition import joint, partition
from fbp.autodiff.pullback import VJP, TapeVJP
from fbp.autodiff.rule import Rules
from fbp.autodiff.save_policy import save_everything
from fbp.autodiff.saveable_args import partly_saved, saveable_flags
from fbp.autodiff.table import RULES


def grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    rules: Rules = RULES,
    memory: float | None = None,
) -> Callable:
    """Return the gradient of a scalar function: x -> df/dx, of the shape of x.

    Takes and returns what `jax.grad` does.

    Args:
      fun: a function of arrays and pytrees that returns a real scalar; with `has_aux`, a pair
        (scalar, aux).
      argnums: the positional arguments to differentiate; with a tuple, one gradient per argument.
      has_aux: whether `fun` returns auxiliary output as well.
      holomorphic: whether `fun` is complex differentiable, with complex inputs and outputs.
      allow_int: whether arguments may be integers, whose gradients are zeros of dtype float0.
      rules: the table of rules to differentiate by.
      memory: bytes of temporary memory that the compiled gradient may need at most, as for
        `value_and_grad`.

    Returns:
      A function of the arguments of `fun` that returns the gradient, of the structure, shapes and
      dtypes of the arguments; with `has_aux`, (gradient, aux).

    Raises:
      TypeError: `fun` cannot be called; when called, for an argument without a derivative (an
        integer, unless `allow_int`), and for a value that is not a real scalar.
      fbp.MissingRule: when called, for a primitive without a rule.
      fbp.InputError: when called, for a budget that no program meets.

    >>> import fbp, jax.numpy as jnp
    >>> print(fbp.grad(jnp.tanh)(0.2))
    0.961043
    """
    value_and_gradient = _value_and_grad(
        fun, argnums, has_aux, holomorphic, allow_int, rules, None, memory, returns_value=False
    )

    @functools.wraps(fun)
    def gradient(*args, **kwargs):
        value, grads = value_and_gradient(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return gradient


def value_and_grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    rules: Rules = RULES,
    taps: Taps | None = None,
    memory: float | None = None,
) -> Callable:
    """Return a scalar function's value and gradient: x -> (f(x), df/dx), or ((f(x), aux), df/dx).

    Args:
      fun: a function of arrays and pytrees that returns a real scalar; with `has_aux`, a pair
        (scalar, aux).
      argnums: the positional arguments to differentiate; with a tuple, one gradient per argument.
      has_aux: whether `fun` returns auxiliary output as well.
      holomorphic: whether `fun` is complex differentiable, with complex inputs and outputs.
      allow_int: whether arguments may be integers, whose gradients are zeros of dtype float0.
      rules: the table of rules to differentiate by.
      taps: by name, what to read out of the backward pass: `fbp.tap` makes them.
      memory: bytes of temporary memory that the compiled gradient may need at most. Up to eight
        programs that recompute more or less are compiled, and that with the least work is taken
        which fits. The function is then compiled, as by `jax.jit`.

    Returns:
      A function of the arguments of `fun` that returns the value, or (value, aux), and the
      gradient, of the structure, shapes and dtypes of the arguments; with `taps`, also a dict of
      what they read.

    Raises:
      TypeError: `fun` cannot be called; when called, for an argument without a derivative (an
        integer, unless `allow_int`), and for a value that is not a real scalar.
      fbp.MissingRule: when called, for a primitive without a rule.
      fbp.InputError: when called, for a budget that no program meets; it names the least.

    >>> import fbp, jax.numpy as jnp
    >>> value, gradient = fbp.value_and_grad(lambda x: jnp.sum(x**2))(jnp.array([1.0, 2.0]))
    >>> print(value, gradient)
    5.0 [2. 4.]
    """
    return _value_and_grad(
        fun, argnums, has_aux, holomorphic, allow_int, rules, taps, memory, returns_value=True
    )


def _value_and_grad(
    fun: Callable,
    argnums: int | Sequence[int],
    has_aux: bool,
    holomorphic: bool,
    allow_int: bool,
    rules: Rules,
    taps: Taps | None,
    memory: float | None,
    *,
    returns_value: bool,
) -> Callable:
    """Return `value_and_grad`; what a budget of memory must hold depends on what is returned."""
    check_callable(fun)
    argnums = normalize_argnums(argnums)
    if memory is not None:
        check_budget(memory)

    @functools.wraps(fun)
    def value_and_gradient(*args, **kwargs):
        partial, primals = argnums_partial(fun, argnums, args, kwargs)
        check_inputs("grad", primals, holomorphic, allow_int)
        staged = flatten_function(partial, primals, has_aux, rules)
        check_scalar(staged.value_avals, staged.out_tree)
        check_outputs("grad", staged.value_avals, holomorphic)
        program = opened(rules, staged, taps)
        if memory is not None:
            program = within(memory, program, Use(staged, returns_value))
        outs, cts = value_and_cotangents(program, staged)
        (value,), aux = staged.split_outs(outs)
        grads = staged.cotangents(cts[: len(staged.leaves)])
        grads = grads[0] if isinstance(argnums, int) else grads
        value = (value, aux) if has_aux else value
        if taps is None:
            return value, grads
        return value, grads, program.tapped(cts[len(staged.leaves) :])

    return value_and_gradient if memory is None else jax.jit(value_and_gradient)


@overload
def vjp(
    fun: Callable,
    *primals: Any,
    has_aux: Literal[False] = False,
    saveable_args: Any = True,
    rules: Rules = RULES,
) -> tuple[Any, VJP]: ...
@overload
def vjp(
    fun: Callable,
    *primals: Any,
    has_aux: Literal[True],
    saveable_args: Any = True,
    rules: Rules = RULES,
) -> tuple[Any, VJP, Any]: ...
@overload
def vjp(
    fun: Callable,
    *primals: Any,
    has_aux: bool,
    saveable_args: Any = True,
    rules: Rules = RULES,
) -> tuple[Any, VJP] | tuple[Any, VJP, Any]: ...
def vjp(
    fun: Callable,
    *primals: Any,
    has_aux: bool = False,
    saveable_args: Any = True,
    rules: Rules = RULES,
) -> tuple[Any, VJP] | tuple[Any, VJP, Any]:
    """Return a function's value and its pullback: (f(x), ct -> ct df/dx), and aux with `has_aux`.

    Args:
      fun: a function of arrays and pytrees; with `has_aux` it returns a pair (value, aux).
      *primals: the arguments at which to differentiate.
      has_aux: whether `fun` returns auxiliary output as well.
      saveable_args: whether the pullback may keep the arguments themselves: True, or a tree of
        booleans, a prefix of that of the primals. Those that it may not keep are assigned to its
        `args_res` before it is called, as in `jax.vjp` since JAX 0.12.
      rules: the table of rules to differentiate by.

    Returns:
      The value and the pullback, and aux with `has_aux`. The pullback takes a cotangent of the
      structure, shapes and dtypes of the value, and returns a tuple with one cotangent per primal.
      It is a pytree whose leaves are its residuals, so that it passes through jit, vmap and scan.

    Raises:
      TypeError: `fun` cannot be called, or a primal or a value is not an array.
      fbp.MissingRule: a primitive has no rule.
      ValueError: `saveable_args` is no prefix; by the pullback, for a cotangent that does not fit,
        and where an argument has not been given back.

    >>> import fbp, jax.numpy as jnp
    >>> y, pullback = fbp.vjp(jnp.sin, 0.0)
    >>> print(*pullback(2.0))
    2.0
    """
    check_callable(fun)
    check_arrays(primals)
    staged = flatten_function(fun, primals, has_aux, rules)
    edited = opened(rules, staged)
    outs, pullback = (_tape if staged.evaluated else _residuals)(staged, edited)
    values, aux = staged.split_outs(outs)
    value = jax.tree.unflatten(staged.out_tree, values)
    if saveable_args is not True:
        flags = saveable_flags(saveable_args, primals)
        pullback = partly_saved(pullback, staged.leaves, flags)
    return (value, pullback, aux) if has_aux else (value, pullback)


def _residuals(staged: FlatFunction, edited: Opened) -> tuple[list[Any], VJP]:
    """Cut the joint program in two, and return the outputs and the pullback with its residuals."""
    graph = edited.graph
    num_consts = len(graph.consts)
    needs_ct = (*(False for _ in range(num_consts)), *staged.needs_ct)
    linear = tuple(False for _ in needs_ct)
    try:
        program = joint(g.hoist_consts(graph), edited.rules, needs_ct, staged.has_out_ct, linear)
    except NEEDS_A_VALUE:  # the bwd of a custom_vjp function, which the tape gives one
        if staged.has_values:
            return _tape(staged, edited)
        raise
    edited.check_reached()
    parts = cleared_parts(edited, partition(program, save_everything))
    outs, residuals = parts.run_forward((*graph.consts, *staged.leaves))
    return outs, VJP(residuals, staged.without_values(), parts)


def _tape(staged: FlatFunction, edited: Opened) -> tuple[list[Any], VJP]:
    """Run the function, whose values Python asked for, and return the outputs and the tape."""
    args = edited.graph, staged.leaves, staged.needs_ct, staged.has_out_ct
    env, pullback = apply_rules(edited.rules, *args, staged.evaluated)
    edited.check_reached()
    return env.results(edited.graph), TapeVJP(staged, edited.graph, pullback, env.values)


def fwd_and_bwd(
    fun: Callable,
    argnums: int | Sequence[int],
    has_aux: bool = False,
    jitted: bool = True,
    *,
    rules: Rules = RULES,
) -> tuple[Callable, Callable]:
    """Return a function's forward and backward pass.

    x -> (f(x), r), where the residuals r are the pullback, and r, ct -> ct df/dx.

    Takes and returns what `jax.fwd_and_bwd` does: `vjp` in two functions, for passes that do not
    end up in one jit. Each is compiled once.

    Args:
      fun: a function of arrays and pytrees; with `has_aux` it returns a pair (value, aux).
      argnums: the positional arguments to differentiate; with a tuple, one cotangent per argument.
      has_aux: whether `fun` returns auxiliary output as well.
      jitted: whether both functions are jitted.
      rules: the table of rules to differentiate by.

    Returns:
      `fwd`, a function of the arguments of `fun` that returns the value and the pullback, and aux
      with `has_aux`; and `bwd`, a function of the pullback and a cotangent of the value that
      returns one cotangent, or with a tuple of `argnums` a tuple of them.

    Raises:
      TypeError: `fun` cannot be called, or `argnums` are no integers.
      fbp.MissingRule: by `fwd`, for a primitive without a rule.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.fwd_and_bwd.html

    >>> import fbp, jax.numpy as jnp
    >>> fwd, bwd = fbp.fwd_and_bwd(jnp.multiply, argnums=(0, 1))
    >>> y, residuals = fwd(2.0, 3.0)
    >>> print(*bwd(residuals, 1.0))
    3.0 2.0
    """
    check_callable(fun)
    argnums = normalize_argnums(argnums)

    def fwd(*args, **kwargs):
        partial, primals = argnums_partial(fun, argnums, args, kwargs)
        return vjp(partial, *primals, has_aux=has_aux, rules=rules)

    def bwd(pullback, ct):
        cts = pullback(ct)
        return cts[0] if isinstance(argnums, int) else cts

    return (jax.jit(fwd), jax.jit(bwd)) if jitted else (fwd, bwd)


def normalize_argnums(argnums: int | Sequence[int]) -> int | tuple[int, ...]:
    """Return the argument numbers as integers."""
    numbers: Any = argnums
    try:
        return operator.index(numbers)
    except TypeError as error:
        if not isinstance(numbers, Iterable):
            raise TypeError(f"{argnums=}: {error}. Give one integer, or a sequence.") from None
    return tuple(operator.index(i) for i in numbers)


def argnums_partial(
    fun: Callable, argnums: int | tuple[int, ...], args: tuple, kwargs: dict[str, Any]
) -> tuple[Callable, tuple]:
    """Return the function of the differentiated arguments alone, and those arguments."""
    chosen = (argnums,) if isinstance(argnums, int) else argnums
    if not all(-len(args) <= i < len(args) for i in chosen):
        needed = max(i + 1 if i >= 0 else -i for i in chosen)
        raise TypeError(
            f"differentiating with respect to {argnums=} requires at least {needed} positional "
            f"arguments to be passed by the caller, but got only {len(args)} positional "
            "arguments. Keyword arguments are passed on, but never differentiated."
        )
    positions = [i % len(args) for i in chosen]
    if len(set(positions)) < len(positions):
        raise ValueError(f"{argnums=} names an argument twice, of {len(args)} positional ones.")

    def partial(*primals):
        merged = list(args)
        for i, primal in zip(positions, primals, strict=True):
            merged[i] = primal
        return fun(*merged, **kwargs)

    return functools.wraps(fun)(partial), tuple(args[i] for i in positions)
