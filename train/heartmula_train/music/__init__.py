"""Synthetic songs with known tags, lyrics and notes, and an analyzer that measures them back."""
