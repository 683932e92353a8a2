"""How Sphinx makes the site; `python docs/site/build.py` lays out what it reads."""

import re

from fbp import __version__

project = "fbp"
author = "the fbp developers"
copyright = "the fbp developers"  # Sphinx's own name
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
html_theme = "furo"
html_title = "fbp"
html_static_path = []
html_show_sphinx = False
templates_path = []
exclude_patterns = ["extra"]

# Docstrings are written with single backticks, as Markdown has them.
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_use_ivar = True  # a NamedTuple has its fields as members besides
napoleon_use_rtype = False
napoleon_google_docstring = True
napoleon_custom_sections = [("Maths", "params_style")]

nb_execution_mode = "off"  # build.py runs the tutorials
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True


def setup(app):
    """Read the docstrings as they are written: `*` and `|` are no markup."""
    app.connect("autodoc-process-docstring", _escape, priority=600)  # after napoleon
    app.connect("autodoc-skip-member", _skip_request_methods)


def _escape(app, what, name, obj, options, lines):
    in_example = False
    for number, line in enumerate(lines):
        in_example = bool(line.strip()) and (in_example or line.lstrip().startswith(">>>"))
        if not in_example:
            line = re.sub(r"(?<=[\[(, ])\*(?=\w)", r"\\*", line)
            lines[number] = re.sub(r"(?<!`)\|(?!`)", r"\\|", line) if "`" not in line else line


def _skip_request_methods(app, what, name, obj, skip, options):
    """Leave out what scikit-learn adds to every estimator, whose text refers to its own site."""
    return True if re.fullmatch(r"set_\w+_request", name) else None
