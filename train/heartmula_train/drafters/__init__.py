"""Drafters: small models that guess the language model's next codes, for speculative decoding (decoding.md 5, 8)."""
