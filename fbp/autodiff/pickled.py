"""Tables of rules in pickles: the standard rules by name, others by value, primitives by name."""

import copyreg
import sys
from collections.abc import Callable, Iterator
from pickle import PicklingError
from typing import Any

from jax.extend.core import Primitive, primitives

from fbp.autodiff.rule import Edit, Rule, Rules
from fbp.autodiff.table import RULES

BY_NAME = {primitive.name: primitive for primitive in RULES}
Reduced = tuple[Callable, tuple]


def reduce_rules(rules: Rules) -> Reduced:
    """Return the names of the standard rules in a table, None for all, and its other rules."""
    if rules.edits:
        return edited, (rules.table, rules.edits, rules.key)
    if rules is RULES:
        return standard, ()
    others = [rule for primitive, rule in rules.items() if RULES.get(primitive) is not rule]
    changed = {rule.primitive for rule in others}
    names = [primitive.name for primitive in rules if primitive not in changed]
    is_complete = rules.keys() >= RULES.keys()
    return rebuilt_table, (None if is_complete else names, others, bool(rules.deferred))


def reduce_rule(rule: Rule) -> Reduced:
    """Return a standard rule by name, another by its primitive's name and its functions."""
    if RULES.get(rule.primitive) is rule:
        return standard_rule, (rule.primitive.name,)
    parts = rule.kind, rule.functions, rule.apply, rule.activity, rule.under_policy, rule.tags
    return stated_rule, (*_address(rule.primitive), *parts)


def standard() -> Rules:
    """Return the standard table."""
    return RULES


def edited(rules: Rules, edits: tuple[Edit, ...], key: Any) -> Rules:
    """Return a table with edits."""
    return Rules(rules, *edits).with_key(key)


def rebuilt_table(names: list[str] | None, others: list[Rule], deferred: bool) -> Rules:
    """Return the standard rules of these names, with others on top."""
    if names is None:
        return RULES | others
    chosen = [standard_rule(name) for name in names]
    return Rules(chosen, others, deferred=RULES.deferred if deferred else {})


def standard_rule(name: str) -> Rule:
    """Return a rule of the standard table."""
    return RULES[_named(None, name)]


def stated_rule(module: str | None, name: str, *parts: Any) -> Rule:
    """Return a rule from the address of its primitive."""
    return Rule(_named(module, name), *parts)


def _address(primitive: Primitive) -> tuple[str | None, str]:
    """Return the module and the name under which any process finds a primitive; no module for those
    of the standard table."""
    if BY_NAME.get(primitive.name) is primitive:
        return None, primitive.name
    for module, names in _modules():
        for name, value in names:
            if value is primitive:
                return module, name
    raise PicklingError(
        f"a table with a rule for the primitive '{primitive}' cannot be pickled: another process "
        "could not find the primitive, which is in no imported module but __main__. Define it at "
        "the top level of a module that both processes can import."
    )


def _modules() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    yield primitives.__name__, list(vars(primitives).items())
    for name, module in list(sys.modules.items()):
        if name not in ("__main__", "__mp_main__"):
            yield name, list(getattr(module, "__dict__", {}).items())


def _named(module: str | None, name: str) -> Primitive:
    if module is not None:
        __import__(module)
        return getattr(sys.modules[module], name)
    if name in BY_NAME:
        return BY_NAME[name]
    raise LookupError(
        f"this pickle names the primitive '{name}', for which this fbp with this JAX has no rule: "
        "read it with the versions that wrote it."
    )


copyreg.pickle(Rules, reduce_rules)  # type: ignore[arg-type]
copyreg.pickle(Rule, reduce_rule)  # type: ignore[arg-type]
