"""VASP: vasprun.xml, OUTCAR, and the files beside them."""
