"""Build the site: `python docs/site/build.py [DIR]`, or `make docs`.

The source of the site is laid out as the repository is, so that the links between its documents
lead where they lead there. What is made: a page for each public module from its docstrings, with
the tutorials that use each name; the tutorials with their output, and as notebooks; a page for each
experiment with its figure; `fbp show xor`. Sphinx treats warnings as errors.
"""

import ast
import base64
import contextlib
import importlib
import inspect
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import nbformat

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs" / "site"
MODULES = (
    "fbp", "fbp.rule", "fbp.at", "fbp.edit", "fbp.verify", "fbp.nn", "fbp.train", "fbp.sweep",
    "fbp.data", "fbp.report", "fbp.show", "fbp.gallery", "fbp.testing", "fbp.laboratory",
    "fbp.plan",
)  # fmt: skip
TUTORIALS = sorted((ROOT / "docs" / "tutorial").glob("*.py"))


def main(out: Path) -> int:
    """Lay out the source, and let Sphinx make the site of it."""
    source = out / "source"
    shutil.rmtree(out, ignore_errors=True)
    lay_out(source)
    options = ["-W", "--keep-going", "-q", "-b", "html", "-c", str(SITE)]
    options += ["-D", f"html_extra_path={source / 'extra'}"]
    command = [sys.executable, "-m", "sphinx", *options, str(source), str(out / "html")]
    status = subprocess.call(command)
    size = sum(path.stat().st_size for path in (out / "html").rglob("*") if path.is_file())
    print(f"{out / 'html' / 'index.html'}: {size / 1e6:.1f} MB")
    return status


def lay_out(source: Path) -> None:
    """Copy the documents, and write the pages that are made from the code."""
    ignored = shutil.ignore_patterns("site", "make_rules.py", "__pycache__")
    shutil.copytree(ROOT / "docs", source / "docs", ignore=ignored)
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for folder in ("experiments", "configs"):
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__*", "*.py")
        )
    for result in source.glob("experiments/*/result.md"):  # reached from the experiment's page
        result.write_text(f"---\norphan: true\n---\n{result.read_text('utf-8')}", "utf-8")
    for page in source.rglob("*.md"):
        page.write_text(relinked(page, source), encoding="utf-8")
    (source / "index.md").write_text(front_page(), encoding="utf-8")
    write_reference(source / "api")
    import nbformat

    extra = source / "extra"
    (extra / "notebooks").mkdir(parents=True)
    for script in TUTORIALS:
        notebook = executed(script)
        (source / "docs" / "tutorial" / script.name).unlink()
        for folder in (source / "docs" / "tutorial", extra / "notebooks"):
            nbformat.write(notebook, folder / f"{script.stem}.ipynb")
    show(extra)


def write_reference(folder: Path) -> None:
    """Write a page for each public module."""
    folder.mkdir()
    described: dict[int, str] = {}
    for name in MODULES:
        page = module_page(name, module_of(name), described)
        (folder / f"{name}.md").write_text(page, encoding="utf-8")


def relinked(page: Path, source: Path) -> str:
    """Return a page whose links to scripts lead to their pages, and whose links to what the site
    does not hold are plain text."""

    def link(match: re.Match) -> str:
        text, target = match.groups()
        path = target.partition("#")[0]
        if re.match(r"https?:", target) or not path:
            return match.group()
        if (page.parent / path).resolve() in {s.resolve() for s in tutorials}:
            return f"[{text}]({path.removesuffix('.py')}.ipynb)"
        return match.group() if (page.parent / path).is_file() else text

    tutorials = [source / "docs" / "tutorial" / script.name for script in TUTORIALS]
    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", link, page.read_text(encoding="utf-8"))


def titled(notebook: "nbformat.NotebookNode", text: str) -> "nbformat.NotebookNode":
    """Return a notebook that begins with the script's docstring as a title and prose."""
    import nbformat

    title, _, rest = inspect.cleandoc(ast.get_docstring(ast.parse(text)) or "").partition("\n")
    first, *others = notebook.cells
    first.source = re.sub(r'\A""".*?"""\s*', "", first.source, flags=re.DOTALL)
    heading = nbformat.v4.new_markdown_cell(f"# {title.rstrip('.')}\n{rest}")
    notebook.cells = [heading, *([first] if first.source else []), *others]
    return notebook


def executed(script: Path) -> "nbformat.NotebookNode":
    """Run a script cell by cell; return it as a notebook with what each cell printed, and with the
    value of its last line, if that is an expression.

    It runs as the script does, not in a notebook's kernel, so that source lines are the script's.
    """
    import jupytext
    import nbformat

    text = script.read_text(encoding="utf-8")
    notebook = titled(jupytext.reads(text, fmt="py:light"), text)
    namespace, end = {"__name__": "__main__", "__file__": str(script)}, 0
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        start = text.index(cell.source, end)
        end = start + len(cell.source)
        tree = ast.increment_lineno(ast.parse(cell.source), text[:start].count("\n"))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = value_of(tree, str(script), namespace)
        if printed.getvalue():
            cell.outputs = [nbformat.v4.new_output("stream", text=printed.getvalue())]
        if value is not None:
            cell.outputs.append(nbformat.v4.new_output("display_data", data=displayed(value)))
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "python"}
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    return notebook


def value_of(cell: ast.Module, script: str, namespace: dict[str, Any]) -> Any:
    """Run a cell; return the value of its last line, None if that is a statement."""
    last = cell.body.pop() if cell.body and isinstance(cell.body[-1], ast.Expr) else None
    exec(compile(cell, script, "exec"), namespace)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), script, "eval"), namespace)


def displayed(value: Any) -> dict[str, str]:
    """Return what a notebook shows of a value: a picture, HTML or text."""
    data = {"text/plain": repr(value)}
    if hasattr(value, "savefig"):
        picture = io.BytesIO()
        value.savefig(picture, format="png", dpi=120)
        data["image/png"] = base64.b64encode(picture.getvalue()).decode()
    elif hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_()
    return data


def module_of(name: str) -> ModuleType:
    """Return a module by its public name: `fbp.rule` is an attribute of `fbp`."""
    package, _, attribute = name.partition(".")
    return getattr(importlib.import_module(package), attribute, None) or importlib.import_module(
        name
    )


def show(extra: Path) -> None:
    """Write the pages on which networks are seen to learn."""
    from fbp.show import moons, record, write_recording, xor

    for name, lesson in (("xor", xor()), ("moons", moons())):
        (extra / "show").mkdir(exist_ok=True)
        write_recording(extra / "show" / f"{name}.html", record(lesson, seed=1))


def public_names(module: ModuleType) -> list[str]:
    """Return the names that a module exports: those of `__all__`, or what it imports as itself."""
    if hasattr(module, "__all__"):
        names = list(module.__all__)
    else:
        text = Path(str(module.__file__)).read_text(encoding="utf-8")
        names = re.findall(r"import (\w+) as \1\b", text)
        names += re.findall(r"^(?:def|class) ([a-z]\w*|[A-Z]\w*)", text, flags=re.MULTILINE)
    return [n for n in dict.fromkeys(names) if not n.startswith("_")]


def module_page(name: str, module: ModuleType, described: dict[int, str]) -> str:
    """Return a page with each public name's docstring, and the tutorials that use it; a name that
    an earlier page has described leads there."""
    sections = [f"# {name}", fenced(inspect.getdoc(module) or "")]
    for public in public_names(module):
        value = getattr(module, public)
        if inspect.ismodule(value):
            continue
        kind = "autoclass" if inspect.isclass(value) else "autofunction" if callable(value) else ""
        sections.append(f"## {public}")
        if (earlier := described.setdefault(id(value), name)) != name:
            sections.append(f"See [{earlier}]({earlier}.md).")
            continue
        if kind:
            members = "\n   :members:" if kind == "autoclass" else ""
            sections.append(f"```{{eval-rst}}\n.. {kind}:: {name}.{public}{members}\n```")
        else:
            sections.append(f"A {type(value).__name__}: `{name}.{public}`.")
        if used := [script for script in TUTORIALS if uses(script, name, public)]:
            links = ", ".join(f"[{s.stem}](../docs/tutorial/{s.stem}.ipynb)" for s in used)
            sections.append(f"Used in: {links}.")
    return "\n\n".join(sections) + "\n"


def fenced(text: str) -> str:
    """Return a docstring whose examples are blocks of code in Markdown."""
    blocks = text.split("\n\n")
    return "\n\n".join(
        f"```python\n{inspect.cleandoc(b)}\n```" if b.lstrip().startswith(">>>") else b
        for b in blocks
    )


def uses(script: Path, module: str, name: str) -> bool:
    """Test whether a script names a public name, by its module or after importing it."""
    text = script.read_text(encoding="utf-8")
    imported = re.search(rf"from {re.escape(module)} import [^\n]*\b{name}\b", text)
    return bool(imported) or bool(re.search(rf"\b{re.escape(module)}\.{name}\b", text))


def front_page() -> str:
    """Return the first page: what it is, the picture, and where everything is."""
    return (
        (SITE / "front_page.txt")
        .read_text(encoding="utf-8")
        .format(
            tutorials="\n".join(f"docs/tutorial/{script.stem}" for script in TUTORIALS),
            notebooks=", ".join(
                f'<a href="notebooks/{script.stem}.ipynb" download>{script.stem}</a>'
                for script in TUTORIALS
            ),
            modules="\n".join(f"api/{name}" for name in MODULES),
            decisions="\n".join(
                f"docs/decisions/{path.stem}"
                for path in sorted((ROOT / "docs/decisions").glob("0*.md"))
            ),
            experiments="\n".join(
                f"experiments/{path.parent.name}/README"
                for path in sorted((ROOT / "experiments").glob("*/README.md"))
            ),
        )
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".cache" / "site")))
