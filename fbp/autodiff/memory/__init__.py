"""A gradient within so many bytes of temporary memory, with the least work that can be found."""
