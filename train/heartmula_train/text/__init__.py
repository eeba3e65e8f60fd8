"""Tokenizer, prompt, special ids."""
