"""Where a program computes with a parameter: the equations that are the first to read a leaf.

On the way from the leaf to such an equation its entries are only moved, repeated or cast, or sliced
by the iterations of a scan. A product (`dot_general`, a convolution) with a value that is no
parameter is a layer, whoever wrote it; of any other use the cotangent is read as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.extend.core import Var
from jax.extend.core import primitives as p

from fbp.autodiff.avals import differentiable
from fbp.autodiff.compat import scan_counts
from fbp.autodiff.dependence import shard_map_p
from fbp.autodiff.graph import USER_FUNCTIONS, Graph, JaxprEqn
from fbp.autodiff.interpret import bind
from fbp.autodiff.restage import Body, Key, Site, bodies, body_operands, carried, site_of
from fbp.autodiff.table import RULES
from fbp.errors import InputError

PRODUCTS = frozenset({p.dot_general_p, p.conv_general_dilated_p})
LOOPS = frozenset({p.scan_p, p.while_p})
ISOMETRIC = RULES.tagged("permutes")


class EnclosingScan(NamedTuple):
    """A scan around a use: how often it runs, and whether each iteration has its own slice."""

    length: int
    sliced: bool


@dataclass(frozen=True)
class Origin:
    """What a value is of a parameter: the number of the leaf, and the equations and loops through
    which it came."""

    leaf: int
    steps: tuple[JaxprEqn | EnclosingScan, ...] = ()

    @property
    def loops(self) -> tuple[EnclosingScan, ...]:
        """Return the scans through which it came, the outermost first."""
        return tuple(step for step in self.steps if isinstance(step, EnclosingScan))

    @property
    def is_isometric(self) -> bool:
        """Test whether the value has the leaf's entries, each once."""
        moves = (step for step in self.steps if not isinstance(step, EnclosingScan))
        return all(eqn.primitive in ISOMETRIC and _is_float(eqn.outvars[0]) for eqn in moves)

    def then(self, step: JaxprEqn | EnclosingScan) -> "Origin":
        """Return what a further step makes of the value."""
        return Origin(self.leaf, (*self.steps, step))


@dataclass(frozen=True)
class ParameterUse:
    """An equation that computes with a parameter.

    Attributes:
      site: the equation, and where it lies.
      operand: the number of the operand that is the parameter.
      origin: what the operand is of it.
      is_product: whether it is a layer: the product of the parameter and another value.
    """

    site: Site
    operand: int
    origin: Origin
    is_product: bool

    def replayed(self, leaf: Any, others: Sequence[Any] | None = None) -> Any:
        """Return what the use computes of a leaf, for each iteration of the loops around: the
        product with `others`, or, without, the operand itself."""

        def finish(value: Any, others: Sequence[Any] | None) -> Any:
            if others is None:
                return value
            ins = list(others)
            ins.insert(self.operand, value)
            return bind(self.site.eqn, ins)[0]

        return replay(self.origin.steps, finish, leaf, others)


def replay(steps: Sequence[JaxprEqn | EnclosingScan], finish: Any, value: Any, others: Any) -> Any:
    """Take a leaf through the steps of an origin, and `finish` it with the other operands."""
    for i, step in enumerate(steps):
        if isinstance(step, EnclosingScan):
            rest = partial(replay, steps[i + 1 :], finish)
            axes = (0 if step.sliced else None, 0)
            return jax.vmap(rest, in_axes=axes, axis_size=step.length)(value, others)
        (value,) = bind(step, [value])
    return finish(value, others)


def uses(graph: Graph, leaves: int) -> list[ParameterUse]:
    """Return the uses of the first inputs of a program, in the order in which they run.

    Raises:
      fbp.InputError: a use that cannot be followed: in a shard_map, or a parameter that is the
        function's value.
    """
    finder = Finder()
    origins = {v: Origin(i) for i, v in enumerate(graph.invars[:leaves]) if differentiable(v.aval)}
    results = finder.follow(graph, None, origins)
    if any(results):
        raise InputError("the function returns a parameter itself: it has to compute with it.")
    return finder.uses


@dataclass(frozen=True)
class Finder:
    """Collects the uses of parameters while it walks through a program."""

    uses: list[ParameterUse] = field(default_factory=list)

    def follow(
        self, graph: Graph, around: Site | None, origins: dict[Var, Origin], summed: bool = False
    ) -> list[Origin | None]:
        """Follow parameters through a program, and return which of its results are parameters;
        `summed` says that a while_loop is around, whose statistics are sums."""
        for i, eqn in enumerate(graph.eqns):
            read = _reads(eqn, origins)
            if not any(read):
                continue
            site = site_of(eqn, i, around)
            if eqn.primitive is shard_map_p:
                raise InputError(
                    f"a parameter is used in a shard_map at {site.source}: take the statistic of "
                    "the function that each device runs."
                )
            if eqn.primitive in RULES.tagged("moves") and len(read) == 1 and read[0]:
                if differentiable(eqn.outvars[0].aval):
                    origins[eqn.outvars[0]] = read[0].then(eqn)
            elif bodies(site) and eqn.primitive not in USER_FUNCTIONS:
                self._into(site, dict(origins), origins, summed)
            else:
                self._note(site, read, summed)
        return [origins.get(v) if isinstance(v, Var) else None for v in graph.outvars]

    def _into(
        self, site: Site, outside: Mapping[Var, Origin], origins: dict[Var, Origin], summed: bool
    ) -> None:
        """Follow parameters into the bodies of an equation. What a loop carries is used there; so
        is all that it reads if a loop or a branch returns a parameter."""
        eqn, results, before = site.eqn, [], len(self.uses)
        starts = {_hashable(body_operands(b))[i] for b in bodies(site) for i in carried(b)}
        self._note(site, _reads(eqn, {v: outside[v] for v in starts if v in outside}), summed)
        inside = {v: x for v, x in outside.items() if v not in starts}
        for body in bodies(site):
            sums = summed or eqn.primitive is p.while_p
            results = self.follow(body.graph, body.around, _entering(body, inside), sums)
            if any(results) and (eqn.primitive in LOOPS or eqn.primitive is p.cond_p):
                del self.uses[before:]
                self._note(site, _reads(eqn, outside), summed)
                return
        origins.update((v, x) for v, x in zip(eqn.outvars, results, strict=True) if x)

    def _note(self, site: Site, read: Sequence[Origin | None], summed: bool) -> None:
        """Note the use of parameters by an equation, once each operand that differs."""
        eqn, numbers = site.eqn, {}
        for i, (v, origin) in enumerate(zip(_hashable(eqn.invars), read, strict=True)):
            if origin:
                numbers.setdefault(v, (i, origin))
        is_product = (
            eqn.primitive in PRODUCTS
            and sum(x is not None for x in read) == 1
            and not summed
            and eqn.params.get("batch_group_count", 1) == 1
            and all(isinstance(v, Var) and _is_float(v) for v in eqn.invars)
            and (eqn.primitive is p.dot_general_p or read[1] is not None)
        )
        self.uses.extend(
            ParameterUse(site, i, origin, is_product) for i, origin in numbers.values()
        )


def _entering(body: Body, outside: Mapping[Var, Origin]) -> dict[Var, Origin]:
    """Return which inputs of a body are parameters."""
    eqn = body.around.eqn
    length = eqn.params["length"] if eqn.primitive is p.scan_p else None
    first_sliced = 0 if length is None else sum(scan_counts(eqn.params))
    inside = {}
    pairs = zip(_hashable(body_operands(body)), body.graph.invars, strict=True)
    for i, (outer, inner) in enumerate(pairs):
        if outer in outside:
            origin = outside[outer]
            inside[inner] = (
                origin if length is None else origin.then(EnclosingScan(length, i >= first_sliced))
            )
    return inside


def _reads(eqn: JaxprEqn, origins: Mapping[Var, Origin]) -> list[Origin | None]:
    """Return what the operands of an equation are of parameters."""
    return [origins.get(v) if v else None for v in _hashable(eqn.invars)]


def _hashable(atoms: Sequence[Any]) -> list[Any]:
    """Return variables as they are, and None for literals."""
    return [v if isinstance(v, Var) else None for v in atoms]


def _is_float(v: Any) -> bool:
    return jax.numpy.issubdtype(v.aval.dtype, jax.numpy.floating)


def keys(uses: Sequence[ParameterUse]) -> set[Key]:
    """Return where the equations of uses lie."""
    return {use.site.key for use in uses}
