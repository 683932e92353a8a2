"""The equation that stands at a site: the primitive `site`, and its rule.

`site` returns what its program returns; without a program it returns its first operand. Its
rule is what the edit that stands there says. So an edit goes wherever an equation goes: into the
bodies of jit, scan, cond, while_loop and shard_map, and through the rules of those. What the
reverse mode leaves of it, `without_sites` clears away, so that a second derivative is that of the
edited gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from fbp.autodiff import graph as g
from fbp.autodiff.activity import differentiable_outputs, perturbed_outputs
from fbp.autodiff.edits.groups import SiteGroup
from fbp.autodiff.graph import Graph, JaxprEqn, weakref_cache
from fbp.autodiff.interpret import Environment, bind, eval_graph
from fbp.autodiff.restage import Site, bodies, restage, site_of, walk
from fbp.autodiff.rule import Applied, Call, Rules, call

site_p = Primitive("site")
site_p.multiple_results = True


class Operands(NamedTuple):
    """The operands of a `site` equation, by what they are for.

    Attributes:
      ins: the inputs of the site's program; first those that it reads from further outside.
      mask: whether the site is chosen in this iteration; None for always.
      key: the key of this site, None unless the edit draws random numbers.
      iteration: the numbers of the iterations of the loops around, for the key.
      zeros: the inputs whose cotangents are the statistics of a tap.
    """

    ins: Sequence[Any]
    mask: Any = None
    key: Any = None
    iteration: tuple = ()
    zeros: tuple = ()

    def flat(self) -> tuple[list[Any], "Operands"]:
        """Return the operands in a row, and where each of them is."""
        leaves, tree = jax.tree.flatten(self)
        return leaves, jax.tree.unflatten(tree, range(len(leaves)))


@dataclass(frozen=True, eq=False)
class SiteEdit:
    """An edit at one site of a program.

    Attributes:
      edit: the edit.
      index: its number among the edits.
      group: the site.
      number: the site's number among those of the edit.
      reached: where it says that a cotangent may reach it: the numbers of the edits.
    """

    edit: Any
    index: int
    group: SiteGroup
    number: int
    reached: set[int]

    def __str__(self) -> str:
        return f"{self.edit} at {self.group}"


def body_of(params: dict[str, Any]) -> Graph | None:
    """Return the program of a `site` equation, if it has one."""
    return None if params["jaxpr"] is None else g.from_jaxpr(params["jaxpr"])


def read_operands(params: dict[str, Any], args: Sequence[Any]) -> Operands:
    """Return the operands of a `site` equation by what they are for."""
    return jax.tree.map(lambda i: args[i], params["layout"].tree)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the operands of a `site` equation are, and how many of the program's inputs are read
    from further outside than the site's."""

    tree: Operands
    num_consts: int = 0


def insert(edited: SiteEdit, operands: Operands, body: Graph | None = None) -> list[Any]:
    """Put an edit's equation into the program that is being traced, and return its outputs."""
    jaxpr, num_consts = None, 0
    if body is not None:
        num_consts = len(body.consts)
        operands = operands._replace(ins=[*body.consts, *operands.ins])
        jaxpr = g.holding(g.hoist_consts(body), EMPTY)
    leaves, where = operands.flat()
    return site_p.bind(*leaves, jaxpr=jaxpr, edited=edited, layout=Layout(where, num_consts))


def run_site(*args: Any, jaxpr: Any, layout: Layout, **_: Any) -> list[Any]:
    """Run the site's program."""
    ins = [args[i] for i in layout.tree.ins]
    return [ins[0]] if jaxpr is None else eval_graph(g.from_jaxpr(jaxpr), ins)


def _out_types(*avals: Any, jaxpr: Any, layout: Layout, **_: Any) -> tuple[list, Any]:
    if jaxpr is None:
        return [avals[layout.tree.ins[0]]], frozenset()
    return [v.aval for v in jaxpr.outvars], jaxpr.effects


def _batched(args: Any, dims: Any, **params: Any) -> tuple[list[Any], list[Any]]:
    outs = jax.vmap(lambda *args: run_site(*args, **params), in_axes=tuple(dims))(*args)
    return outs, [0] * len(outs)


EMPTY = jax.make_jaxpr(tuple)().jaxpr
site_p.def_impl(run_site)
site_p.def_effectful_abstract_eval(_out_types)
mlir.register_lowering(site_p, mlir.lower_fun(run_site))
batching.primitive_batchers[site_p] = _batched


def without_sites(graph: Graph) -> Graph:
    """Return a program without `site` equations, which runs what they hold."""
    if not has_site(graph):
        return graph
    return g.stage(lambda *args: run_cleared(graph, args), *(v.aval for v in graph.invars))[0]


def has_site(graph: Graph) -> bool:
    """Test whether a site is in a program, or in the bodies of its equations."""
    return any(site.eqn.primitive is site_p for site in walk(graph))


def run_cleared(graph: Graph, args: Sequence[Any], around: Site | None = None) -> list[Any]:
    """Run a program without its sites."""
    env = Environment(graph, args)
    for i, eqn in enumerate(graph.eqns):
        site, ins = site_of(eqn, i, around), env.read(eqn.invars)
        if eqn.primitive is site_p:
            body, operands = body_of(eqn.params), read_operands(eqn.params, ins)
            outs = [operands.ins[0]] if body is None else run_cleared(body, operands.ins)
        elif any(has_site(body.graph) for body in bodies(site)):
            outs, _ = restage(site, ins, lambda body, ins, *_: (run_cleared(body.graph, ins), ()))
        else:
            outs = bind(eqn, ins)
        env.write(eqn.outvars, outs)
    return env.results(graph)


def apply_edit(call: Call, ins: list[Any]) -> Applied:
    """Pull back through a site as the edit that stands there says."""
    edited = call.params["edited"]
    if any(call.needs_ct):
        edited.reached.add(edited.index)
    return edited.edit.apply(call, edited, ins)


def activity(eqn: JaxprEqn, rules: Rules, needs_ct: tuple[bool, ...]) -> Sequence[bool]:
    """Say which outputs of a site are perturbed: with a tap, or a pullback of its own, all that can
    be."""
    operands = read_operands(eqn.params, needs_ct)
    body, edit = body_of(eqn.params), eqn.params["edited"].edit
    if any(jax.tree.leaves(operands.zeros)) or body is None or edit.states_pullback:
        return differentiable_outputs(eqn)
    return perturbed_outputs(body, edit.in_force(rules), tuple(operands.ins))


@weakref_cache
def with_rules(table: Rules, rules: Rules) -> Rules:
    """Return `table | rules`, the same object for the same tables."""
    return table | rules


RULES = Rules(call(site_p, apply_edit, activity))
