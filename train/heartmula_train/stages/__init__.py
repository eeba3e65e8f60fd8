"""Training: one stage after the other, each from the weights of those before it."""
