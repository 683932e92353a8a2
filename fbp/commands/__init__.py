"""The commands of `fbp`, one a module: a dataclass of its arguments, which is called."""
