"""Sites in a function: choose them from outside, look at them, change their backward pass."""
