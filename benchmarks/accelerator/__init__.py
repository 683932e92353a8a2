"""fbp on whatever device JAX finds: right, as fast as jax.grad, and how near to its peak."""
