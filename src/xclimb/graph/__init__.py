"""Graphs of crystals: neighbours, bonds and angles as flat arrays."""
