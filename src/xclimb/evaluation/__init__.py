"""Errors of potentials on labelled frames."""
