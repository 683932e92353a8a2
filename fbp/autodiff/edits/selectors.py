"""Selectors: what chooses equations of a program, and how such choices are composed."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import jax.numpy as jnp

from fbp.autodiff.edits.program import NamedProgram
from fbp.autodiff.restage import Site

Match = tuple[bool, bool]


class Selector:
    """A choice of equations; compose with `&`, `|` and `~`."""

    def __and__(self, other: "Selector") -> "Selector":
        return Both(self, selector(other))

    def __or__(self, other: "Selector") -> "Selector":
        return Either(self, selector(other))

    def __invert__(self) -> "Selector":
        return Not(self)

    def resolve(self, _: NamedProgram) -> "Selector":
        """Return the selector with what it has to know of a program."""
        return self

    def match(self, site: Site) -> Match:
        """Say whether an equation may be chosen, and whether it is in every iteration."""
        raise NotImplementedError

    def group(self, site: Site) -> Hashable:
        """Return what the equations of one site share."""
        return site.key

    def mask(self, site: Site, _: Sequence[Any]) -> Any:
        """Return whether an equation is chosen in this iteration of the loops around it."""
        return self.match(site)[1]

    def leaves(self) -> "list[Selector]":
        """Return the selectors of which this one is composed."""
        return [self]


@dataclass(frozen=True)
class Named(Selector):
    """Chooses equations of which one of the names matches a pattern."""

    kind: str
    pattern: str
    names: Callable[[Site], Iterable[str]] = field(compare=False)
    grouped: bool = False

    def __repr__(self) -> str:
        return f"{self.kind}({self.pattern!r})"

    def match(self, site: Site) -> Match:
        """Say so for every iteration."""
        hit = self._first(site) is not None
        return hit, hit

    def group(self, site: Site) -> Hashable:
        """Return the name, or the equation where each is a site."""
        return (self.kind, self._first(site)) if self.grouped else site.key

    def _first(self, site: Site) -> str | None:
        return next((x for x in self.names(site) if matches(x, self.pattern)), None)


def matches(name: str, pattern: str) -> bool:
    """Test whether a name, or a path, is what a pattern says; `*/b` matches `b` too."""
    return name == pattern or fnmatchcase(name, pattern) or fnmatchcase(f"/{name}", pattern)


@dataclass(frozen=True)
class Both(Selector):
    """Chooses what both selectors choose."""

    a: Selector
    b: Selector

    def __repr__(self) -> str:
        return f"({self.a} & {self.b})"

    def resolve(self, program: NamedProgram) -> Selector:
        """Resolve both."""
        return Both(self.a.resolve(program), self.b.resolve(program))

    def match(self, site: Site) -> Match:
        """Ask both."""
        (a, a_always), (b, b_always) = self.a.match(site), self.b.match(site)
        return a and b, a_always and b_always

    def group(self, site: Site) -> Hashable:
        """Return what the equations share for both."""
        both = [x for x in (self.a, self.b) if not isinstance(x, Iteration | Not)]
        groups = tuple(x.group(site) for x in both or (self.a, self.b))
        return groups[0] if len(groups) == 1 else groups

    def mask(self, site: Site, iteration: Sequence[Any]) -> Any:
        """Ask both."""
        return jnp.logical_and(self.a.mask(site, iteration), self.b.mask(site, iteration))

    def leaves(self) -> list[Selector]:
        """Return those of both."""
        return [*self.a.leaves(), *self.b.leaves()]


@dataclass(frozen=True)
class Either(Selector):
    """Chooses what one of the selectors chooses."""

    a: Selector
    b: Selector

    def __repr__(self) -> str:
        return f"({self.a} | {self.b})"

    def resolve(self, program: NamedProgram) -> Selector:
        """Resolve both."""
        return Either(self.a.resolve(program), self.b.resolve(program))

    def match(self, site: Site) -> Match:
        """Ask both."""
        (a, a_always), (b, b_always) = self.a.match(site), self.b.match(site)
        return a or b, a_always or b_always

    def group(self, site: Site) -> Hashable:
        """Return what the equations share for the first that chooses them."""
        return (self.a if self.a.match(site)[0] else self.b).group(site)

    def mask(self, site: Site, iteration: Sequence[Any]) -> Any:
        """Ask both."""
        return jnp.logical_or(self.a.mask(site, iteration), self.b.mask(site, iteration))

    def leaves(self) -> list[Selector]:
        """Return those of both."""
        return [*self.a.leaves(), *self.b.leaves()]


@dataclass(frozen=True)
class Not(Selector):
    """Chooses what a selector does not choose."""

    a: Selector

    def __repr__(self) -> str:
        return f"~{self.a}"

    def resolve(self, program: NamedProgram) -> Selector:
        """Resolve the selector."""
        return Not(self.a.resolve(program))

    def match(self, site: Site) -> Match:
        """Ask the selector."""
        hit, always = self.a.match(site)
        return not always, not hit

    def mask(self, site: Site, iteration: Sequence[Any]) -> Any:
        """Ask the selector."""
        return jnp.logical_not(self.a.mask(site, iteration))

    def leaves(self) -> list[Selector]:
        """Return those of the selector."""
        return self.a.leaves()


@dataclass(frozen=True)
class Iteration(Selector):
    """Chooses iterations of the innermost loop around an equation."""

    number: int | Callable[[Any], Any]

    def __repr__(self) -> str:
        return f"iteration({self.number!r})"

    def match(self, site: Site) -> Match:
        """Say that equations in a loop may be chosen."""
        return site.loops > 0, False

    def mask(self, _: Site, iteration: Sequence[Any]) -> Any:
        """Ask for the iteration that runs."""
        if not iteration:
            return False
        now = iteration[-1]
        return self.number(now) if callable(self.number) else now == self.number


@dataclass(frozen=True)
class Where(Selector):
    """Chooses equations by a predicate."""

    predicate: Callable[[Site], bool]

    def __repr__(self) -> str:
        return f"where({getattr(self.predicate, '__name__', self.predicate)})"

    def match(self, site: Site) -> Match:
        """Ask the predicate."""
        hit = bool(self.predicate(site))
        return hit, hit


def no_names(_: Site) -> tuple[str, ...]:
    """Return no name: what a selector has before it knows the program."""
    return ()


@dataclass(frozen=True, repr=False)
class Resolved(Named):
    """Chooses by names that a program gives: those of the parameters, or of the rules' tags."""

    names: Callable[[Site], Iterable[str]] = field(compare=False, default=no_names)

    def resolve(self, program: NamedProgram) -> Selector:
        """Look the names up."""
        names = program.tags if self.kind == "tag" else program.parameters
        return replace(self, names=names)


def selector(x: Selector | str) -> Selector:
    """Return a selector: of a string, that of a scope."""
    if not isinstance(x, str | Selector):
        raise TypeError(f"a site is a selector of fbp.at, or the pattern of a scope, not {x!r}.")
    return Named("scope", x, scope_names, grouped=True) if isinstance(x, str) else x


def scope_names(site: Site) -> list[str]:
    """Return the paths of the scopes around an equation, from the outside."""
    parts = "/".join(site.scopes).split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts) + 1) if any(parts[:i])]
