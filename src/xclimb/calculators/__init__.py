"""Potentials in the simulation packages that people use."""

from xclimb.calculators.ase import Calculator

__all__ = ["Calculator"]
