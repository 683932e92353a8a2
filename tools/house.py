"""Measure how the package is written: `python tools/house.py [folder] [--list]`.

It counts lines of code, modules, public names that two modules define, names made of words that are
nobody's terms, long bodies, how docstrings begin, which exported names lack a section of their
docstring, and sets of primitives that stand outside of the tables of rules. With `--list`, it says
where."""

import argparse
import ast
import io
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

PRIVATE_WORDS = {
    *("made", "found", "given", "wanted", "useful", "place", "places"),
    *("kept", "own", "fine", "rough", "there", "whole", "room"),
}
BRITISH = re.compile(
    "colour|neighbour|behaviour|centre|centring|grey|labelled|modelled|parametris"
    "|(?:normal|local|summar|initial|optim|serial|vector|linear|discret|minim|maxim|quant"
    "|random|recogn|visual|material|general|special|regular|factor|symmetr|polar)is(?:e|ing|ation)"
)
LONG_BODY = 40  # lines: what a screen shows
FORMS = ("The", "A", "An", "What", "Where", "Which", "Whether", "How", "That")
RAISING = ("require", "check_")  # how helpers that raise are called
PRIMITIVES_MODULES = ("primitives", "p")
# What stays as it is, and why.
OF_JAX = "fbp.verify.oracle has JAX's, under fbp's names: a test runs one program with either"
TWICE = {
    "grad": OF_JAX,
    "linear_transpose": OF_JAX,
    "vjp": f"{OF_JAX}; fbp.rule.vjp states a rule, and is called by its module",
}
OUTSIDE = {"NAMES": "rules refuse them, before there is a table"}
# Arguments whose names are published: the calls of `fbp.__all__` stay as they are.
PUBLISHED = {("loop_checkpoints", "places")}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def modules(folder: Path) -> dict[Path, ast.Module]:
    """Parse every module below a folder."""
    return {path: ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}


def lines_of_code(path: Path, tree: ast.Module) -> int:
    """Count the lines that hold code: no blanks, comments or docstrings."""
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | Definition) and ast.get_docstring(node) is not None:
            constant = node.body[0]
            docstrings.update(range(constant.lineno, (constant.end_lineno or constant.lineno) + 1))
    layout = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def definitions(tree: ast.Module) -> Iterator[Definition]:
    """Yield every function and class, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Definition))


def bound_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield every name that a module binds, with its line: variables, arguments, definitions."""
    published = {
        argument
        for node in definitions(tree)
        if isinstance(node, Function)
        for argument in node.args.args
        if (node.name, argument.arg) in PUBLISHED
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg) and node not in published:
            yield node.arg, node.lineno
        elif isinstance(node, Definition):
            yield node.name, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno


def public_names(tree: ast.Module) -> Iterator[str]:
    """Yield the public functions and classes that a module defines at its top level."""
    return (n.name for n in tree.body if isinstance(n, Definition) and n.name[0] != "_")


def is_private_word(name: str) -> bool:
    """Whether a name is made with one of the words that no other project of the field uses."""
    return not PRIVATE_WORDS.isdisjoint(name.lower().strip("_").split("_"))


def is_british(name: str) -> bool:
    """Whether a name is spelled as in Britain, where JAX and NumPy spell as in America."""
    return BRITISH.search(name.lower()) is not None


def body_length(node: Function) -> int:
    """Count the lines of a function below its signature and its docstring."""
    has_docstring = ast.get_docstring(node) is not None
    body = node.body[1:] if has_docstring else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def form(docstring: str) -> str:
    """How a docstring begins."""
    first = docstring.split(maxsplit=1)[0].rstrip(",.:") if docstring.strip() else ""
    if first in ("The", "A", "An"):
        return "The/A"
    if first in FORMS:
        return "What/Where/Which"
    return "other (imperative, where ruff's D401 passes)"


def exported(trees: dict[Path, ast.Module]) -> Iterator[tuple[str, Path, Definition]]:
    """Find the functions and classes that an `__init__` exports, of its modules or its own."""
    defined = {}
    for path, tree in trees.items():
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for node in tree.body:
            if isinstance(node, Definition) and not node.name.startswith("_"):
                defined[module, node.name] = path, node
    seen = set()
    for path, tree in trees.items():
        if path.name != "__init__.py":
            continue
        package = ".".join(path.parent.parts)
        imports = [n for n in tree.body if isinstance(n, ast.ImportFrom) and not n.level]
        keys = {(package, name) for name in _listed(tree)}
        keys |= {(n.module or "", alias.name) for n in imports for alias in n.names}
        for key in sorted(keys & defined.keys() - seen):
            seen.add(key)
            yield key[1], *defined[key]


def _listed(tree: ast.Module) -> set[str]:
    """Return the names in `__all__`."""
    lists = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return {name for value in lists for name in ast.literal_eval(value)}


def raises(node: Definition) -> bool:
    """Whether a body has a `raise`, or calls a helper that is there to raise."""
    calls = (n.func for n in ast.walk(node) if isinstance(n, ast.Call))
    names = (f.id if isinstance(f, ast.Name) else getattr(f, "attr", "") for f in calls)
    helpers = any(name.lstrip("_").startswith(RAISING) for name in names)
    return helpers or any(isinstance(n, ast.Raise) for n in ast.walk(node))


def missing_sections(node: Definition) -> list[str]:
    """List the sections that an exported name's docstring lacks.

    A class needs an example. A function needs Returns, an example, Args if it has two parameters
    or more, and Raises if its body raises.
    """
    docstring = ast.get_docstring(node) or ""
    required = {">>>": True}
    if isinstance(node, Function):
        arguments = node.args
        count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
        required |= {"Args:": count >= 2, "Returns:": True, "Raises:": raises(node)}
    return [section for section in required if required[section] and section not in docstring]


def sets_of_primitives(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the assignments of a set, list or tuple that names three primitives or more.

    What such a set says of primitives is a property, and so a tag of their rules. A dictionary is
    not counted: a table from a primitive to what is done for it is code, and belongs to its
    module.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        value = node.value
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        attributes = [n for n in ast.walk(value) if isinstance(n, ast.Attribute)]
        primitives = {n.attr for n in attributes if n.attr.endswith("_p")} | _in_strings(value)
        is_table = any(isinstance(n, ast.Name) and n.id == "Rules" for n in ast.walk(value))
        collection = isinstance(value, ast.Set | ast.Tuple | ast.List) or (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Name)
            and value.func.id in ("frozenset", "set", "list", "tuple")
        )
        if (
            collection
            and len(primitives) >= 3
            and not is_table
            and ast.unparse(target) != "__all__"
        ):
            yield ast.unparse(target), node.lineno


def _in_strings(value: ast.expr) -> set[str]:
    """Return the names of primitives in the strings of an expression."""
    strings = (n.value for n in ast.walk(value) if isinstance(n, ast.Constant))
    words = (word for s in strings if isinstance(s, str) for word in s.split())
    return {word for word in words if word.endswith("_p")}


def _reason(reasons: dict[str, str], name: str) -> str:
    """Return why a name stays, for a list; nothing if it has no reason."""
    return f" ({reasons[name]})" if name in reasons else ""


def measure(folder: Path) -> tuple[dict[str, object], dict[str, list[str]]]:
    """All figures of a folder, and where each stands."""
    trees = modules(folder)
    where: dict[str, list[str]] = defaultdict(list)
    forms: Counter[str] = Counter()
    defined: dict[str, list[str]] = defaultdict(list)
    bound = 0
    for path, tree in trees.items():
        for name in set(public_names(tree)):
            defined[name].append(str(path))
        for name, line in bound_names(tree):
            bound += 1
            if is_private_word(name):
                where["names of private words"].append(f"{path}:{line} {name}")
            if is_british(name):
                where["names in British spelling"].append(f"{path}:{line} {name}")
        for node in definitions(tree):
            if (docstring := ast.get_docstring(node)) and not isinstance(node, ast.ClassDef):
                forms[form(docstring)] += 1
            if isinstance(node, Function) and body_length(node) > LONG_BODY:
                where["bodies over 40 lines"].append(f"{path}:{node.lineno} {node.name}")
        if "rules" not in path.parts:
            for name, line in sets_of_primitives(tree):
                where["sets of primitives outside the table"].append(
                    f"{path}:{line} {name}{_reason(OUTSIDE, name)}"
                )
    where["public names defined twice"] = [
        f"{name}: {', '.join(paths)}{_reason(TWICE, name)}"
        for name, paths in defined.items()
        if len(paths) > 1
    ]
    names = list(exported(trees))
    for name, path, node in names:
        if absent := missing_sections(node):
            where["exported names without a section"].append(f"{path} {name}: {' '.join(absent)}")
    total, private = sum(forms.values()), len(where["names of private words"])
    figures: dict[str, object] = {
        "lines of code": sum(lines_of_code(path, tree) for path, tree in trees.items()),
        "modules": len(trees),
        "names bound": bound,
        "names of private words": f"{private} ({private / bound:.2%})",
        "exported names": len(names),
    }
    for title in (
        "names in British spelling",
        "public names defined twice",
        "exported names without a section",
        "bodies over 40 lines",
        "sets of primitives outside the table",
    ):
        figures[title] = len(where[title])
    for kind, count in forms.most_common():
        figures[f"docstrings of functions: {kind}"] = f"{count} ({count / total:.0%})"
    return figures, where


def main() -> None:
    """Print the figures of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("fbp"))
    parser.add_argument("--list", action="store_true", help="say where each one stands")
    options = parser.parse_args()
    figures, where = measure(options.folder)
    for title, figure in figures.items():
        print(f"{title:64} {figure}")
    if options.list:
        for title, entries in where.items():
            print(f"\n{title}:", *entries, sep="\n  ")


if __name__ == "__main__":
    main()
