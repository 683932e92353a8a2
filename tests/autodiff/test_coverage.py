"""Every primitive that JAX differentiates has a rule, or a reason why not: a new one in a new
version of JAX fails here with its name."""

import json
import subprocess
import sys

import pytest

import fbp

MODULES = (
    "jax",
    "jax.experimental.sparse",
    "jax.experimental.checkify",
    "jax._src.buffer_callback",
)
TABLES = (
    "primitive_jvps",
    "primitive_transposes",
    "fancy_transposes",
    "primitive_linearizations",
    "reducing_transposes",
)

INTEGERS = "nothing floating passes through it"
NO_RESULT = "it has no result whose cotangent could arrive"
IN_JAX = "only JAX's own differentiation makes it"
BOXES = "boxes and logs are no arrays; no public function makes them"
REFS = "mutable arrays are values before a program is differentiated"
RAISES = "JAX raises there too"
SPARSE = "the operations of jax.experimental.sparse are not covered"
HIDDEN = "no public function of JAX makes it"

WITHOUT_RULE = {
    "mulhi": INTEGERS,
    "random_wrap": INTEGERS,
    "random_unwrap": INTEGERS,
    "dce_sink": NO_RESULT,
    "free_ref": NO_RESULT,
    "accum_grad_in_ref": IN_JAX,
    "call_hi_primitive_linearized": IN_JAX,
    "custom_lin": IN_JAX,
    "eval_jaxpr": IN_JAX,
    "stage": "it leaves no equation",
    "tie": HIDDEN,
    "relayout": HIDDEN,
    "pbroadcast_dynamic": HIDDEN,
    "new_box": BOXES,
    "box_get": BOXES,
    "box_set": BOXES,
    "new_log": BOXES,
    "log_extend": BOXES,
    "log_read": BOXES,
    "new_ref": REFS,
    "empty_ref": REFS,
    "freeze": REFS,
    "with_memory_space_constraint": REFS,
    "buffer_callback": RAISES,
    "spsolve": SPARSE,
    "todense": SPARSE,
}


LISTED = f"""
import importlib, json
from jax._src.interpreters import ad
for name in {MODULES}:
    importlib.import_module(name)
found = {{}}
for table in {TABLES}:
    for primitive in getattr(ad, table, ()):
        found.setdefault(primitive.name, []).append(table)
print(json.dumps(found))
"""


OURS = {primitive.name for primitive in fbp.RULES}


@pytest.fixture(scope="module")
def jaxs() -> dict[str, list[str]]:
    """The primitives in the tables of a JAX that nothing has been added to, and in which."""
    listed = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, check=True)
    return json.loads(listed.stdout)


def has_reason(name: str) -> bool:
    return name in WITHOUT_RULE or name.startswith(("bcoo", "bcsr", "coo", "csr"))


def test_jax_has_tables(jaxs):
    assert {"primitive_jvps", "primitive_transposes"} <= {t for ts in jaxs.values() for t in ts}
    assert len(jaxs) > 200


def test_a_primitive_that_jax_differentiates_has_a_rule_or_a_reason(jaxs):
    assert {n: tables for n, tables in jaxs.items() if n not in OURS and not has_reason(n)} == {}
