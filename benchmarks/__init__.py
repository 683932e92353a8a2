"""fbp beside its peers, in one run: each benchmark prints ratios."""
