"""Levels of theory that VASP's tags mean, and those of OUTCARs."""

import os
from pathlib import Path

import pytest

from xclimb.formats.vasp.tags import outcar_theory, vasprun_theory
from xclimb.formats.vasp.theory import theory_of

DATA = Path(os.environ.get("XCLIMB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
PAIRS = DATA / "real_pairs" / "atomate2_vasp"

PBE = {"GGA": "PE"}
VDW = {"LUSE_VDW": "T"}


@pytest.mark.parametrize(
    ("tags", "functional", "dispersion"),
    [
        (PBE, "PBE", None),
        ({"GGA": "Ps", "METAGGA": "R2scan"}, "r2SCAN", None),
        ({"GGA": "--", "METAGGA": "F  non-selfconsistent"}, "PBE", None),
        ({"GGA": "--  GGA type", "METAGGA": "R2SCA  LMAXTAU = 6"}, "r2SCAN", None),
        ({"METAGGA": "LIBXC"}, None, None),
        (PBE | {"LHFCALC": "T", "AEXX": "0.25", "HFSCREEN": "0.2"}, "HSE06", None),
        (PBE | {"LHFCALC": "T", "AEXX": "0.25", "HFSCREEN": "0.0"}, "PBE0", None),
        (PBE | {"LHFCALC": "T", "AEXX": "0.32", "HFSCREEN": "0.2"}, None, None),
        (PBE | {"IVDW": "12"}, "PBE", "D3(BJ)"),
        (PBE | {"IVDW": "13"}, "PBE", "D4"),
        (PBE | {"IVDW": "20"}, "PBE", "TS"),
        (PBE | {"IVDW": "202"}, "PBE", "MBD"),
        (PBE | {"IVDW": "77"}, "PBE", "IVDW=77"),
        (PBE | {"LVDW": ".TRUE."}, "PBE", "D2"),
        (VDW | {"METAGGA": "R2SCAN", "BPARAM": "11.95"}, "r2SCAN", "rVV10"),
        (VDW | {"METAGGA": "SCAN", "BPARAM": "15.7"}, "SCAN", "rVV10"),
        (VDW | {"METAGGA": "SCAN", "BPARAM": "6.0"}, "SCAN", "rVV10(b=6)"),
        (VDW | {"GGA": "ML", "IVDW_NL": "2", "BPARAM": "6.3"}, "rVV10", None),
        (VDW | {"GGA": "ML", "ZAB_VDW": "-1.8867"}, "vdW-DF2", None),
        (VDW | {"GGA": "MK", "PARAM1": "0.1234", "PARAM2": "1.0"}, "optB86b-vdW", None),
        (VDW | {"GGA": "MK", "PARAM1": "0.1234", "PARAM2": "0.711357", "ZAB_VDW": "-1.8867"}, "rev-vdW-DF2", None),
        (VDW | {"GGA": "BO", "PARAM1": "0.1833333333", "PARAM2": "0.22"}, "optB88-vdW", None),
        (VDW | {"GGA": "XY"}, None, "vdW-DF"),
    ],
)
def test_functional_and_dispersion(tags, functional, dispersion):
    theory = theory_of(tags, {"Si": "PAW_PBE Si 05Jan2001"})
    assert (theory.functional, theory.dispersion) == (functional, dispersion)


OUTCAR = """ vasp.5.4.4.18Apr17
 POTCAR:    PAW_PBE Fe_pv 02Aug2007
   VRHFIN =Fe: d7s1
   LEXCH  = PE
   GGA    =   -1.4125 -1.4408 -.0293 -.9884 eV
   ENMAX  =  293.238; ENMIN  =  219.929 eV
   TITEL  = PAW_PBE Fe_pv 02Aug2007
   TITEL  = PAW_PBE O 08Apr2002
  local pseudopotential read in
 exchange correlation table for  LEXCH =       {lexch}
   ENCUT  =  520.0 eV  38.22 Ry    6.18 a.u.
   METAGGA=      {meta}    non-selfconsistent MetaGGA calc.
   GGA     =    --    GGA type
   LEXCH   =     {lexch}    internal setting for exchange type
   LHFCALC =     F    Hartree Fock is set to
{more}
"""
HUBBARD = """ LDA+U is selected, type is set to LDAUTYPE =  2
   angular momentum for each species LDAUL =     2   -1
   U (eV)           for each species LDAUU =   5.3  0.0
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"lexch": 8, "meta": "F", "more": ""}, ("PBE", {}, None)),
        ({"lexch": 14, "meta": "F", "more": ""}, ("PBEsol", {}, None)),
        ({"lexch": 8, "meta": "R2SCA", "more": ""}, ("r2SCAN", {}, None)),
        ({"lexch": 8, "meta": "F", "more": HUBBARD}, ("PBE+U", {"Fe": 5.3}, None)),
        ({"lexch": 8, "meta": "F", "more": "  IVDW =  12"}, ("PBE", {}, "D3(BJ)")),
    ],
)
def test_an_outcar_states_its_level(tmp_path, words, expected):
    (tmp_path / "OUTCAR").write_text(OUTCAR.format(**words))
    theory = outcar_theory(tmp_path / "OUTCAR")
    assert (theory.functional, theory.hubbard_u, theory.dispersion) == expected
    assert theory.cutoff == 520.0
    assert theory.potcar == {"Fe": "PAW_PBE Fe_pv 02Aug2007", "O": "PAW_PBE O 08Apr2002"}


def test_the_incar_beside_states_what_an_old_vasp_leaves_out(tmp_path):
    (tmp_path / "OUTCAR").write_text(OUTCAR.format(lexch=8, meta="SCAN", more=""))
    (tmp_path / "INCAR").write_text("LUSE_VDW = .TRUE.\nBPARAM = 15.7  # rVV10\n")
    assert str(outcar_theory(tmp_path / "OUTCAR")) == "SCAN, rVV10, VASP"


@pytest.mark.skipif(not PAIRS.is_dir(), reason="the real VASP runs are not at hand (XCLIMB_SHARED_DATA)")
def test_real_outcars_state_what_the_vasprun_beside_states():
    files = sorted(PAIRS.glob("*-OUTCAR.gz"))
    assert len(files) == 5
    for path in files:
        own, other = outcar_theory(path), vasprun_theory(path.with_name(path.name.replace("OUTCAR", "vasprun.xml")))
        assert own == other
