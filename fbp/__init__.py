"""Functional backpropagation: pure functions, differentiated by a reverse mode that you can open."""
