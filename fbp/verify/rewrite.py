"""A program in which some equations are run in another way, those inside others too."""

from collections.abc import Callable, Sequence
from typing import Any

from fbp.autodiff import graph as g
from fbp.autodiff import interpret
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.restage import Body, Site, bodies, restage, site_of, walk

Apply = Callable[[JaxprEqn, Sequence[Any]], list[Any]]


def rewritten(
    graph: Graph, chosen: Callable[[JaxprEqn], bool], apply: Apply, types: Sequence[Any]
) -> Graph:
    """Return a program, of arguments of these types, in which `apply` runs the chosen equations; as
    it is where there are none."""
    if not any(chosen(site.eqn) for site in walk(graph)):
        return graph

    def run(graph: Graph, args: Sequence[Any], around: Site | None) -> list[Any]:
        env = interpret.Environment(graph, args)
        for i, eqn in enumerate(graph.eqns):
            ins, site = env.read(eqn.invars), site_of(eqn, i, around)
            if chosen(eqn):
                with interpret.eqn_scope(eqn):
                    outs = apply(eqn, ins)
            elif _holds(site, chosen):
                outs, _ = restage(site, ins, within)
            else:
                outs = interpret.bind(eqn, ins)
            env.write(eqn.outvars, outs)
        return env.results(graph)

    def within(body: Body, ins: Sequence[Any], state: Any, _: Any) -> tuple[list[Any], Any]:
        return run(body.graph, ins, body.around), state

    return g.stage(lambda *args: run(graph, args, None), *types)[0]


def _holds(site: Site, chosen: Callable[[JaxprEqn], bool]) -> bool:
    return any(
        chosen(inner.eqn) for body in bodies(site) for inner in walk(body.graph, body.around)
    )
