"""Cartridges and what is on them."""
