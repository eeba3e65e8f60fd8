"""How good a trained checkpoint is: measured through the C++ program, written as JSON with all that led to it."""
