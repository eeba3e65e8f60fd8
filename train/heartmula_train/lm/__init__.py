"""The language model: backbone and depth decoder."""
