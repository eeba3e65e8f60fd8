"""From logits to codes, one sampler."""
