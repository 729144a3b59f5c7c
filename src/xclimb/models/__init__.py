"""The network, potentials made from it, their files and their names."""
