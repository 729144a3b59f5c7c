"""Backends: faster implementations of networks for particular hardware, and the choice among them."""
