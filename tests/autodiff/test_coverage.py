"""Every primitive that JAX differentiates has a rule, or a reason why not: a new one in a new
version of JAX fails here with its name."""

import importlib

import pytest
from jax._src.interpreters import ad
from jax.extend.core import Primitive

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
    "to_edtype": INTEGERS,
    "from_edtype": INTEGERS,
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


def differentiated_by_jax() -> dict[Primitive, list[str]]:
    """The primitives in JAX's tables of derivatives, and in which."""
    for name in MODULES:
        importlib.import_module(name)
    found: dict[Primitive, list[str]] = {}
    for table in TABLES:
        for primitive in getattr(ad, table, ()):
            found.setdefault(primitive, []).append(table)
    return found


JAXS = differentiated_by_jax()


def has_reason(name: str) -> bool:
    return name in WITHOUT_RULE or name.startswith(("bcoo", "bcsr", "coo", "csr"))


def test_jax_has_tables():
    assert {"primitive_jvps", "primitive_transposes"} <= {t for ts in JAXS.values() for t in ts}
    assert len(JAXS) > 200


@pytest.mark.parametrize("primitive", sorted(JAXS, key=str), ids=str)
def test_a_primitive_that_jax_differentiates_has_a_rule_or_a_reason(primitive):
    assert primitive in fbp.RULES or has_reason(primitive.name), JAXS[primitive]
