"""What the compiler says of a program, on each device."""

from dataclasses import dataclass

import jax

from fbp.errors import InputError
from fbp.plan.communication import Collective, collectives


@dataclass(frozen=True)
class Cost:
    """What a program needs on each device. The body of a loop is counted once.

    Attributes:
      arguments, outputs: bytes of arguments and outputs.
      aliased: bytes of the outputs that reuse the arguments' buffers.
      temporary: bytes in between.
      flops: floating-point operations.
      accessed: bytes read and written.
      collectives: what the devices send each other.
    """

    arguments: int
    outputs: int
    aliased: int
    temporary: int
    flops: float
    accessed: float
    collectives: tuple[Collective, ...]

    @property
    def memory(self) -> int:
        """Bytes in all."""
        return self.arguments + self.outputs - self.aliased + self.temporary


@dataclass(frozen=True)
class TooLarge:
    """A program that does not fit into the device's memory, and the compiler's reason."""

    reason: str


def cost(program: jax.stages.Lowered) -> Cost | TooLarge:
    """Compile a program, and run nothing; InputError where the compiler does not tell its cost."""
    try:
        compiled = program.compile()
    except jax.errors.JaxRuntimeError as error:
        _, full, reason = str(error).partition("RESOURCE_EXHAUSTED: ")
        if not full:
            raise
        return TooLarge(reason.splitlines()[0])
    memory, work = compiled.memory_analysis(), compiled.cost_analysis()
    if memory is None or work is None:
        raise InputError("this compiler does not say what a program needs: give a --target")
    return Cost(
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
        work.get("flops", 0.0),
        work.get("bytes accessed", 0.0),
        collectives(compiled.as_text() or ""),
    )
