"""Chemical families by composition, and a shift family by family."""

import numpy as np

from xclimb.comparison.intervals import bootstrap, widen_for_fit
from xclimb.comparison.paired_statistics import Sums, measure
from xclimb.references.linear import Design
from xclimb.references.table import element_symbols

_GROUPS = {
    "hydride": ("H",),
    "carbide": ("B", "C"),
    "pnictide": ("N", "P", "As", "Sb", "Bi"),
    "chalcogenide": ("S", "Se", "Te"),
    "oxide": ("O",),
    "halide": ("F", "Cl", "Br", "I"),
}
FAMILIES = (
    "elements", "intermetallics", "hydrides", "borides and carbides", "pnictides", "chalcogenides", "oxides", "halides",
    "mixed anions",
)  # fmt: skip
_SHOWN = ("mean", "std", "pearson_raw", "pearson_referenced", "left_over_mae", "held_out_mae", "scatter_mae")


def family_codes(elements: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """The family of each composition, as an index of :data:`FAMILIES` ``[R]``.

    By the elements present, nothing else. Beside oxygen, S, Se, Te, P, As, Sb, Bi, B and C count as part of an oxo-anion
    (phosphates, sulfates and carbonates are oxides); beside S, Se and Te, so do P, As, Sb and Bi (chalcogenides). Mixed
    anions: two of oxygen, halogen, nitrogen and hydrogen; halogen or hydrogen with a chalcogen or pnictogen; nitrogen with a
    chalcogen. Compounds of metals, metalloids and noble gases alone are intermetallics.

    Args:
        elements: atomic numbers of the columns ``[K]``.
        fractions: composition fractions ``[R, K]``.
    """
    symbols = element_symbols()
    names = [symbols[z] for z in elements]
    present = fractions > 0.0
    has = {group: present[:, [name in members for name in names]].any(1) for group, members in _GROUPS.items()}
    nitrogen = present[:, [name == "N" for name in names]].any(1)
    strong = has["oxide"].astype(int) + has["halide"] + nitrogen + has["hydride"]
    soft = has["chalcogenide"] | has["pnictide"]
    mixed = (strong > 1) | (has["halide"] & soft & ~has["oxide"]) | (has["hydride"] & soft) | (nitrogen & has["chalcogenide"])
    rules = [
        (present.sum(1) == 1, "elements"),
        (mixed, "mixed anions"),
        (has["oxide"], "oxides"),
        (has["halide"], "halides"),
        (has["chalcogenide"], "chalcogenides"),
        (has["pnictide"], "pnictides"),
        (has["hydride"], "hydrides"),
        (has["carbide"], "borides and carbides"),
    ]
    return np.select([mask for mask, _ in rules], [FAMILIES.index(name) for _, name in rules], FAMILIES.index("intermetallics"))


def family_table(design: Design, sums: Sums, offset: float) -> list[dict]:
    """The numbers of each family that occurs, most pairs first.

    Args:
        design: compositions of the pairs.
        sums: energy columns by pair ``[P]``.
        offset: as in :func:`xclimb.comparison.paired_statistics.measure`.

    Returns:
        ``{"family", "n_pairs", "n_materials", "mean", "std", "pearson_raw", "pearson_referenced", "left_over_mae",
        "held_out_mae", "scatter_mae", "intervals"}`` a family, in the units of the report; NaN where a family is too small.
        ``intervals``: name -> 95 % interval, by drawing the family's materials anew; empty below five materials.
    """
    codes = family_codes(design.elements, design.fractions)
    of_pair = codes[design.row]
    totals = {name: np.bincount(of_pair, column, len(FAMILIES)) for name, column in sums.items()}
    numbers = measure(totals, offset)
    pairs = np.bincount(of_pair, minlength=len(FAMILIES))
    kinds = np.unique(np.stack([codes, design.material]), axis=1)[0]
    materials = np.bincount(kinds, minlength=len(FAMILIES))
    return [
        {"family": FAMILIES[f], "n_pairs": int(pairs[f]), "n_materials": int(materials[f])}
        | {name: float(numbers[name][f]) for name in _SHOWN}
        | {"intervals": _intervals(np.flatnonzero(of_pair == f), design, sums, offset)}
        for f in np.argsort(-pairs, kind="stable")
        if pairs[f]
    ]


def _intervals(rows: np.ndarray, design: Design, sums: Sums, offset: float) -> dict[str, list[float]]:
    """Bootstrap intervals of the family that some pairs belong to."""
    _, material = np.unique(design.material[design.row[rows]], return_inverse=True)
    own = {name: column[rows] for name, column in sums.items()}
    centre = measure({name: column.sum(keepdims=True) for name, column in own.items()}, offset)
    drawn = bootstrap(own, material, lambda totals: measure(totals, offset))
    share = len(rows) / len(design.row)  # of what the fit of all pairs took
    result = widen_for_fit(drawn, centre, int(material.max()) + 1, round(share * len(design.elements)))
    return {name: list(bounds) for name, bounds in result.items() if name in _SHOWN}
