"""Rules: from the cotangent of a primitive's output to those of its operands.

There are five ways to state one, from the shortest:

    constant(p, ...)       no derivative: rounding, comparisons, integers
    derivative(p, f, ...)  elementwise y = p(x, ...): ct * f(x, ..., y), one f per operand
    transpose(p, f, ...)   linear in an operand: f(ct, x, ...), which asks x only for its shape
    vjp(p, f, ...)         any primitive with one output: f(ct, y, x, ...), one f per operand
    vjp_jointly(p, f)      all operands at once: f(cts, outs, ins, needs_ct), one cotangent each

and `call(p, f)` for primitives that hold programs (jit, scan, ...): see `calls.py`.

A function names, keyword-only, the equation's parameters that it reads. None instead of a function
says that the operand has no derivative (an index, a predicate); None instead of a cotangent is a
zero that is never instantiated.

A boolean, an integer and a key have no cotangent (in JAX their tangents have the dtype float0),
so that a rule for a primitive with no other outputs, such as `x > t`, would never be used: to
state one raises. The surrogate derivative of a spike is that of the function which ends in a
float: a `jax.custom_jvp` or `jax.custom_vjp` function whose value is `(x > t).astype(x.dtype)`.

Further properties of a primitive are tags of its rule: `TAGS` lists them by what asks for them.
A rule that replaces another one without tags of its own has the tags of that one.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from jax import lax

from fbp.autodiff.avals import cotangent_type, is_extended, struct
from fbp.autodiff.discrete import check_has_cotangent
from fbp.autodiff.graph import JaxprEqn, Primitive
from fbp.autodiff.interpret import bind, eqn_scope
from fbp.autodiff.undefined import is_undefined

TAGS = {
    "elementwise": "each output entry is computed from the operands' entries at the same index",
    "recomputable": "cheaper to compute again than to store and to load",
    "transcendental": "takes tens of operations an entry",
    "same_finiteness": "an output entry is finite exactly where the entry it comes from is",
    "moves": "returns its operand's entries: moved, repeated, cast, or on other devices",
    "permutes": "returns each of its operand's entries once, in another order, shape or type",
    "sums": "adds up entries of its operand, or products of entries of its two operands",
    "combines": "holds a program of two numbers by which it combines many: a sum, a maximum",
    "analytic": "of complex operands JAX computes what the real function continues to",
    "piecewise_constant": "constant on either side of its steps",
    "rounds": "returns a number of its operand's type, constant on either side of its steps",
    "compares": "which of two numbers is larger",
    "selects": "leaves out some of its operands' entries",
    "by_precision": "its results depend on the precision itself: bits, draws",
    "pole": "infinite at a finite point",
    "singular": "not differentiable at singular or degenerate matrices",
    "symmetric": "a function of symmetric matrices, which reads them as such",
    "forward_mode": "JAX's forward mode may differentiate it, in second derivatives",
    "differs_from_jax": "JAX's forward derivative is another one, or there is none",
    "collective": "exchanges values along a mesh axis, or reads the device's index",
}

Cotangents = list[Any]
Pullback = Callable[[Cotangents], Cotangents]
Applied = tuple[list[Any], Pullback]


@dataclass(frozen=True)
class Rule:
    """The rule of one primitive.

    Attributes:
      primitive: the primitive.
      kind: how the rule is stated: constant, derivative, transpose, vjp, vjp_jointly or call.
      functions: the functions as they stand in the table.
      apply: runs the primitive, and returns its outputs and its pullback.
      activity: says which outputs have a derivative with respect to the inputs that need a
        cotangent (None: all of them).
      under_policy: returns the `apply` of a checkpoint with a policy (None: the same).
      tags: further properties of the primitive, keys of `TAGS` (None: those of the rule that this
        one replaces).

    >>> import fbp
    >>> from jax import lax
    >>> fbp.RULES[lax.sin_p]
    <rule of sin: derivative>
    """

    primitive: Primitive
    kind: str
    functions: tuple[Callable | None, ...]
    apply: Callable[["Call", list[Any]], Applied]
    activity: "Activity | None" = None
    under_policy: "Callable[[Callable], Callable[[Call, list[Any]], Applied]] | None" = None
    tags: frozenset[str] | None = None

    def __repr__(self) -> str:
        return f"<rule of {self.primitive}: {self.kind}>"

    def __or__(self, other: "Rule | Rules") -> "Rules":
        return Rules(self) | other

    def tag(self, *tags: str) -> "Rule":
        """Return the same rule with more tags.

        Args:
          *tags: keys of `fbp.rule.TAGS`.

        Raises:
          ValueError: a tag that nothing asks for.

        >>> from jax import lax
        >>> sorted(derivative(lax.sin_p, lambda x, y: lax.cos(x)).tag("elementwise").tags)
        ['elementwise']
        """
        if unknown := set(tags) - TAGS.keys():
            raise ValueError(f"unknown tags {sorted(unknown)}: choose from {', '.join(TAGS)}.")
        return replace(self, tags=(self.tags or frozenset()) | frozenset(tags))


@dataclass(frozen=True)
class Call:
    """A use of a primitive: the equation, the rules in force, which of its inputs need a cotangent,
    and which of its outputs have one."""

    eqn: JaxprEqn
    rules: "Rules"
    needs_ct: tuple[bool, ...]
    has_out_ct: tuple[bool, ...]

    @property
    def params(self) -> dict[str, Any]:
        """Return the equation's parameters."""
        return self.eqn.params


Activity = Callable[[JaxprEqn, "Rules", tuple[bool, ...]], Sequence[bool]]


class Edit:
    """A change of a program or of its backward pass at chosen sites: `fbp.edit` makes them.

    A table holds edits beside its rules, in the order in which they were added: `table | edit`.
    """

    def __or__(self, other: "Rule | Rules | Edit") -> "Rules":
        return Rules(self) | other


@dataclass(frozen=True, eq=False)
class Rules(Mapping):
    """An immutable table of rules; `table | rules` is a new table in which the right side wins.

    >>> import fbp, jax.numpy as jnp
    >>> from jax import lax
    >>> straight_through = fbp.rule.derivative(lax.round_p, lambda x, y: 1.0)
    >>> float(fbp.grad(jnp.round, rules=fbp.RULES | straight_through)(0.3))
    1.0
    """

    by_primitive: Mapping[Primitive, Rule]
    tags: Mapping[Primitive, frozenset[str]]
    deferred: Mapping[str, Callable[[Primitive], Rule]]
    """By the name of a primitive whose module is not loaded: what makes its rule when it is."""
    table: "Rules"
    """The same rules without edits."""
    edits: tuple[Edit, ...]
    """What is changed at chosen sites, in the order in which a cotangent meets it at one site."""
    key: Any
    """The key of the edits that draw random numbers."""

    def __init__(
        self,
        *rules: "Rule | Rules | Edit | list[Rule]",
        deferred: Mapping[str, Callable[[Primitive], Rule]] = MappingProxyType({}),
    ):
        table, tags, later, edits, key = {}, {}, dict(deferred), [], None
        for entry in rules:
            if isinstance(entry, Edit):
                edits.append(entry)
                continue
            for rule in _flatten(entry):
                table[rule.primitive] = rule
                if rule.tags is not None:
                    tags[rule.primitive] = rule.tags
            if isinstance(entry, Rules):
                tags |= entry.tags
                later |= entry.deferred
                edits += entry.edits
                key = entry.key if key is None else key
        object.__setattr__(self, "by_primitive", MappingProxyType(table))
        object.__setattr__(self, "tags", MappingProxyType(tags))
        object.__setattr__(self, "deferred", MappingProxyType(later))
        object.__setattr__(self, "edits", tuple(edits))
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "table", self._without_edits(rules))

    def _without_edits(self, entries: Sequence[Any]) -> "Rules":
        """Return the table of rules alone: the same object for tables that differ in edits, since
        what is remembered of a program is remembered by table."""
        others = [entry for entry in entries if not isinstance(entry, Edit)]
        if len(others) == len(entries) and not self.edits:
            return self
        if len(others) == 1 and isinstance(others[0], Rules):
            return others[0].table
        return Rules(*(x.table if isinstance(x, Rules) else x for x in others))

    def __getitem__(self, primitive: Primitive) -> Rule:
        rule = self.by_primitive.get(primitive)
        return self.deferred[primitive.name](primitive) if rule is None else rule

    def __iter__(self) -> Iterator[Primitive]:
        return iter(self.by_primitive)

    def __len__(self) -> int:
        return len(self.by_primitive)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        if not self.edits:
            return f"<rules of {len(self)} primitives>"
        lines = [f"  {i}. {edit}" for i, edit in enumerate(self.edits, start=1)]
        return "\n".join([f"<rules of {len(self)} primitives, and edits:", *lines]) + ">"

    def _repr_html_(self) -> str:
        from fbp.notebook import folded, table

        rows = sorted((str(primitive), self[primitive].kind) for primitive in self)
        edits = table(["edit"], [[edit] for edit in self.edits]) if self.edits else ""
        return (
            folded(f"rules of {len(self)} primitives", table(["primitive", "rule"], rows)) + edits
        )

    def __or__(self, other: "Rule | Rules | Edit | list[Rule]") -> "Rules":
        return Rules(self, other)

    def without(self, *edits: Edit) -> "Rules":
        """Return the same rules without these edits, or without any.

        Args:
          *edits: edits of this table; none for all.

        Returns:
          A table.

        Raises:
          ValueError: an edit that the table does not have.

        >>> import fbp
        >>> halved = fbp.edit.cotangent("block", fbp.edit.scale(0.5))
        >>> (fbp.RULES | halved).without(halved).edits
        ()
        """
        if absent := [edit for edit in edits if edit not in self.edits]:
            raise ValueError(f"the table has no edit {absent[0]}: it has {list(self.edits)}.")
        left = [edit for edit in self.edits if edits and edit not in edits]
        return Rules(self.table, *left).with_key(self.key) if left else self.table

    def with_key(self, key: Any) -> "Rules":
        """Return the same rules and edits with a key, for the edits that draw random numbers.

        Each site, and each iteration of a loop, gets a key of its own, folded from this one.

        Args:
          key: a `jax.random.key`, which may be traced.

        Returns:
          A table.

        >>> import fbp, jax
        >>> noisy = fbp.RULES | fbp.edit.cotangent("block", fbp.edit.noise(0.1))
        >>> noisy.with_key(jax.random.key(0)).edits == noisy.edits
        True
        """
        keyed = Rules(self.table, *self.edits)
        object.__setattr__(keyed, "key", key)
        return keyed

    def tag(self, *tags: str, **names_by_tag: str) -> "Rules":
        """Return the same table with these tags on all rules, and others on some.

        Args:
          *tags: keys of `fbp.rule.TAGS`, for every rule of the table.
          **names_by_tag: by tag, the names of the primitives whose rules get it, in one string.

        Raises:
          ValueError: a tag that nothing asks for.
          KeyError: a name that no primitive of the table has.
        """
        by_name = {p.name: replace(rule, tags=self.tags.get(p)) for p, rule in self.items()}
        if tags:
            by_name = {name: rule.tag(*tags) for name, rule in by_name.items()}
        for tag, names in names_by_tag.items():
            by_name |= {name: by_name[name].tag(tag) for name in names.split()}
        return Rules(*by_name.values(), deferred=self.deferred)

    def tagged(self, tag: str) -> frozenset[Primitive]:
        """Return the primitives whose rules have a tag.

        >>> import fbp
        >>> from jax import lax
        >>> lax.tanh_p in fbp.RULES.tagged("elementwise")
        True
        """
        return self._by_tag[tag]

    @cached_property
    def _by_tag(self) -> dict[str, frozenset[Primitive]]:
        return {tag: frozenset(p for p, tags in self.tags.items() if tag in tags) for tag in TAGS}


def _flatten(entry: "Rule | Rules | list[Rule]") -> Iterator[Rule]:
    if isinstance(entry, Rule):
        yield entry
    elif isinstance(entry, Rules):
        yield from entry.by_primitive.values()
    else:
        for item in entry:
            yield from _flatten(item)


def constant(*primitives: Primitive) -> list[Rule]:
    """Return the rules of primitives without a derivative.

    Args:
      *primitives: primitives whose outputs are piecewise constant, or not numbers.

    Returns:
      One rule per primitive.

    >>> from jax import lax
    >>> [rule.kind for rule in constant(lax.floor_p, lax.sign_p)]
    ['constant', 'constant']
    """
    return [
        Rule(
            p,
            "constant",
            (),
            _local(lambda _cts, _outs, ins, *_: [None] * len(ins)),
            lambda eqn, *_: [False] * len(eqn.outvars),
        )
        for p in primitives
    ]


def derivative(primitive: Primitive, *functions: Callable | None) -> Rule:
    """State the rule of an elementwise y = p(x, ...): an operand's cotangent is ct * f(x, ..., y).

    Args:
      primitive: the primitive p, with one output.
      *functions: one f per operand, None for an operand without a derivative; it returns an array
        that broadcasts with y, or a number.

    Returns:
      A rule, for `fbp.RULES | rule`.

    Raises:
      ValueError: the primitive's outputs never have a cotangent.

    >>> from jax import lax
    >>> derivative(lax.sin_p, lambda x, y: lax.cos(x)).kind
    'derivative'
    """
    check_has_cotangent(primitive)
    keyword_params = [_named_params(f) for f in functions]

    def pull(cts, outs, ins, needs_ct, params):
        (ct,), (y,) = cts, outs
        return [
            unbroadcast(times_slope(ct, f(*ins, y, **_pick(params, names))), x)
            if want and f
            else None
            for f, names, x, want in zip(functions, keyword_params, ins, needs_ct, strict=True)
        ]

    return Rule(primitive, "derivative", functions, _local(pull))


def transpose(primitive: Primitive, *functions: Callable | None) -> Rule:
    """State the rule of a p that is linear in an operand: its cotangent is f(ct, x, ...).

    Args:
      primitive: the primitive p, with one output.
      *functions: one f per operand, None for an operand without a derivative; with fewer functions
        than operands, the last one serves the rest (concatenate, add). It may read the shape and
        dtype of the operand x, but not its values.

    Returns:
      A rule, for `fbp.RULES | rule`.

    Raises:
      ValueError: the primitive's outputs never have a cotangent.

    >>> from jax import lax
    >>> transpose(lax.neg_p, lambda ct, x: lax.neg(ct)).kind
    'transpose'
    """
    return _per_operand(primitive, "transpose", functions, reads_output=False)


def vjp(primitive: Primitive, *functions: Callable | None) -> Rule:
    """State the rule of a primitive with one output y: an operand's cotangent is f(ct, y, x, ...).

    Args:
      primitive: the primitive.
      *functions: one f per operand, None for an operand without a derivative; with fewer functions
        than operands, the last one serves the rest.

    Returns:
      A rule, for `fbp.RULES | rule`.

    Raises:
      ValueError: the primitive's outputs never have a cotangent.

    >>> from jax import lax
    >>> vjp(lax.abs_p, lambda ct, y, x: lax.mul(ct, lax.sign(x))).kind
    'vjp'
    """
    return _per_operand(primitive, "vjp", functions, reads_output=True)


def vjp_jointly(primitive: Primitive, function: Callable) -> Rule:
    """State one function for all operands: f(cts, outs, ins, needs_ct) returns their cotangents.

    Args:
      primitive: the primitive.
      function: gets one cotangent (None for zero) and one array per output, one array per operand,
        and one bool per operand that says whether its cotangent is needed; it returns one
        cotangent, or None, per operand.

    Returns:
      A rule, for `fbp.RULES | rule`.

    Raises:
      ValueError: the primitive's outputs never have a cotangent.

    >>> from jax import lax
    >>> swap = lambda cts, outs, ins, needs_ct: [lax.neg(cts[0])]
    >>> vjp_jointly(lax.neg_p, swap).kind
    'vjp_jointly'
    """
    check_has_cotangent(primitive)
    names = _named_params(function)

    def pull(cts, outs, ins, needs_ct, params):
        return list(function(cts, outs, ins, needs_ct, **_pick(params, names)))

    return Rule(primitive, "vjp_jointly", (function,), _local(pull))


def call(
    primitive: Primitive,
    function: Callable,
    activity: Activity | None = None,
    under_policy: Callable[[Callable], Callable] | None = None,
) -> Rule:
    """State the rule of a primitive that holds programs: f(call, ins) returns outputs and pullback.

    Args:
      primitive: the primitive.
      function: the f.
      activity: `activity(eqn, rules, needs_ct)` says which outputs have a derivative with respect
        to the inputs that need a cotangent; None for all outputs.
      under_policy: `under_policy(policy)` returns the f with which a checkpoint's policy sees into
        the programs.

    Returns:
      A rule, for `fbp.RULES | rule`.

    Raises:
      ValueError: the primitive's outputs never have a cotangent.
    """
    check_has_cotangent(primitive)
    return Rule(primitive, "call", (function,), within_scope(function), activity, under_policy)


def within_scope(function: Callable[[Call, list[Any]], Applied]) -> Callable:
    """Give everything bound while applying a rule the source line and scopes of the equation."""

    def apply(call: Call, ins: list[Any]) -> Applied:
        with eqn_scope(call.eqn):
            return function(call, ins)

    return apply


def _per_operand(primitive, kind, functions, reads_output) -> Rule:
    check_has_cotangent(primitive)
    keyword_params = [_named_params(f) for f in functions]
    last = len(functions) - 1

    def pull(cts, outs, ins, needs_ct, params):
        (ct,) = cts
        seen = (*outs, *ins) if reads_output else ins

        def one(i: int) -> Any:
            f, names = functions[min(i, last)], keyword_params[min(i, last)]
            return None if f is None else unbroadcast(f(ct, *seen, **_pick(params, names)), ins[i])

        return [one(i) if want else None for i, want in enumerate(needs_ct)]

    return Rule(primitive, kind, functions, _local(pull))


def _local(pull: Callable[..., Cotangents]) -> Callable[[Call, list[Any]], Applied]:
    """Run the primitive unchanged; the pullback holds its inputs and outputs."""

    def apply(call: Call, ins: list[Any]) -> Applied:
        outs = bind(call.eqn, ins)
        return outs, lambda cts: pull(cts, outs, _arrays(ins), call.needs_ct, call.params)

    return apply


@dataclass(frozen=True)
class PartPullback:
    """The pullback of a part of an array, the only operand that has a cotangent. It can also add to
    what has arrived there: `add(arrived, ct)`, None where a plain sum is as good."""

    pull: Pullback
    add: Callable[[Any, Any], Any]

    def __call__(self, cts: Cotangents) -> Cotangents:
        """Return the cotangents of the operands."""
        return self.pull(cts)


PART = 8
"""What is at most this part of an array is added in place: the zeros around more are added in one
pass with what computes it."""


@dataclass(frozen=True)
class AddingPullback:
    """A pullback that can also add in place to the cotangents of its operands that have arrived:
    `add(cts, arrived)` returns one cotangent per operand, and which of them are sums with what had
    arrived; None where a plain sum is as good."""

    pull: Pullback
    add: Callable[[Cotangents, Cotangents], tuple[Cotangents, Sequence[bool]] | None]

    def __call__(self, cts: Cotangents) -> Cotangents:
        """Return the cotangents of the operands."""
        return self.pull(cts)


def adding(rule: Rule, function: Callable) -> Rule:
    """Let a rule add the cotangent of a part of its first operand, the only one that has a
    cotangent, in place: f(arrived, ct, x, ...) returns the sum, or None where a plain sum is as
    good."""
    names = _named_params(function)

    def apply(call: Call, ins: list[Any]) -> Applied:
        outs, pullback = rule.apply(call, ins)
        if any(map(is_undefined, ins[1:])):
            return outs, pullback  # which says where

        def add(arrived: Any, ct: Any) -> Any:
            return function(arrived, ct, *_arrays(ins), **_pick(call.params, names))

        return outs, PartPullback(pullback, add)

    return replace(rule, apply=apply)


def adds_plainly(arrived: Any, ct: Any) -> bool:
    """Test whether a cotangent, or one of this type, may be added in place to what has arrived:
    both of one type, on no mesh and in one memory."""
    if arrived is None:
        return False
    a, b = cotangent_type(struct(arrived)), struct(ct)
    return (
        a.dtype == b.dtype
        and not is_extended(a.dtype)
        and a.sharding.mesh.empty
        and b.sharding.mesh.empty
        and a.mat == b.mat
        and a.memory_space == b.memory_space
    )


def _arrays(ins: list[Any]) -> list[Any]:
    """Convert the Python numbers among operands to arrays, which have a shape."""
    return [np.asarray(x, getattr(x, "dtype", None)) if isinstance(x, NUMBERS) else x for x in ins]


NUMBERS = (float, int, complex)


def times_slope(ct: Any, slope: Any) -> Any:
    """Multiply ct by the derivative, which may be a number."""
    return lax.mul(ct, np.asarray(slope, ct.dtype) if isinstance(slope, int | float) else slope)


def unbroadcast(ct: Any, x: Any) -> Any:
    """Sum a cotangent over the axes along which an operand of size 1 was broadcast."""
    if ct is None or x.shape == ct.shape:
        return ct
    spread = [i for i, n in enumerate(ct.shape) if x.ndim != ct.ndim or x.shape[i] != n]
    total = lax.reduce_sum(ct, axes=spread)
    return total if x.ndim == 0 else lax.reshape(total, x.shape)


def _named_params(f: Callable | None) -> tuple[str, ...] | None:
    if f is None:
        return ()
    parameters = inspect.signature(f).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def keyword_params(function: Callable) -> tuple[str, ...]:
    """Return the equation's parameters that a function names, keyword-only."""
    return _named_params(function) or ()


def _pick(params: Mapping[str, Any], names: tuple[str, ...] | None) -> Mapping[str, Any]:
    return params if names is None else {name: params[name] for name in names}
