"""Functional against functional: pairs of frames, shift of the energies, stability, advice."""
