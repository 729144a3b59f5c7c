import numpy as np
import pytest
from ase.formula import Formula

from xclimb.comparison.families import FAMILIES, family_codes
from xclimb.comparison.shift import shift
from xclimb.data.frames import Frames
from xclimb.references.table import element_symbols

EXPECTED = {
    "Fe": "elements", "O2": "elements", "Ni3Al": "intermetallics", "GaGe": "intermetallics", "LiH": "hydrides",
    "SiC": "borides and carbides", "MgB2": "borides and carbides", "GaN": "pnictides", "GaAs": "pnictides",
    "ZnS": "chalcogenides", "Bi2Te3": "chalcogenides", "MgO": "oxides", "LiFePO4": "oxides", "CaCO3": "oxides",
    "BaSO4": "oxides", "NaCl": "halides", "BiOCl": "mixed anions", "TaON": "mixed anions", "MgO2H2": "mixed anions",
    "BiTeI": "mixed anions", "XeNi": "intermetallics",
}  # fmt: skip


def test_families_by_composition():
    names = list(EXPECTED)
    counts = np.zeros((len(names), 119))
    for row, name in enumerate(names):
        for symbol, n in Formula(name).count().items():
            counts[row, element_symbols().index(symbol)] = n
    elements = np.flatnonzero(counts.any(0))
    found = family_codes(elements, counts[:, elements] / counts.sum(1, keepdims=True))
    assert [FAMILIES[code] for code in found] == list(EXPECTED.values())


def test_family_rows_are_the_report_of_the_family_alone():
    from comparison.pairs import DFT_PAIRS, read_pairs

    low, high = read_pairs(DFT_PAIRS)
    whole = shift(low, high)
    assert sum(row["n_pairs"] for row in whole.families) == whole.n_pairs
    assert sum(row["n_materials"] for row in whole.families) == whole.n_materials
    row = next(one for one in whole.families if one["family"] == "oxides")
    oxides = np.array([_is_oxide(low[s]) for s in range(len(low))])
    assert row["n_pairs"] == oxides.sum()
    assert row["mean"] == pytest.approx(whole.shift_per_atom[oxides].mean())
    assert row["std"] == pytest.approx(whole.shift_per_atom[oxides].std())
    assert row["left_over_mae"] == pytest.approx(np.abs(whole.left_over[oxides]).mean())
    low_end, high_end = row["intervals"]["mean"]
    assert low_end < row["mean"] < high_end
    assert row["intervals"]["left_over_mae"][1] > row["left_over_mae"]
    assert row["scatter_mae"] > row["left_over_mae"]
    few = next(one for one in whole.families if one["n_materials"] < 5)
    assert few["intervals"] == {}
    expected = np.corrcoef(whole.low_referenced[oxides], whole.high_referenced[oxides])[0, 1]
    assert row["pearson_referenced"] == pytest.approx(expected)


def _is_oxide(frame: Frames) -> bool:
    present = set(frame.numbers.tolist())
    return 8 in present and len(present) > 1 and not present & {1, 7, 9, 17, 35, 53}
