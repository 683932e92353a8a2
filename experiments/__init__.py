"""One folder a question about learning rates: `fbp experiments list`."""
