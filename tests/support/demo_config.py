"""A config whose sweep takes a second."""

TEXT = """
name = "demo"
data = { name = "digits" }
network = { kind = "mlp", widths = [8] }
optimizer = { name = "sgd" }
train = { steps = 10, batch_size = 16, evaluate_every = 5 }
sweep = { learning_rate = [0.1, 1.0], seeds = 2 }
"""
