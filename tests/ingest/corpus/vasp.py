"""VASP runs: versions 5 and 6, whole and cut, of one level of theory and of several."""

import gzip
from collections.abc import Callable
from pathlib import Path

from ingest.corpus import Case

STRESS = [-0.1 * 10 / 160.21766208, 0, 0, 0, -0.1 * 20 / 160.21766208]
LABELS = {"energy": [-9.4], "forces": [0, 0, 0.5], "stress": STRESS}
PARAMETERS = '<separator name="electronic convergence"><i type="int" name="NELM">{nelm}</i></separator>'
RESPONSE = '<separator name="response functions"><i type="int" name="NELM">1</i></separator>'
HEAD = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <incar>{incar}</incar>
 <parameters><separator name="electronic">{parameters}</separator>{response}</parameters>
 <atominfo>
  <array name="atoms"><set><rc><c>Fe</c><c>1</c></rc><rc><c>O </c><c>2</c></rc></set></array>
  <array name="atomtypes"><set>
   <rc><c>1</c><c>Fe</c><c>55.8</c><c>8.0</c><c> PAW_PBE Fe_pv 02Aug2007 </c></rc>
   <rc><c>1</c><c>O </c><c>16.0</c><c>6.0</c><c> PAW_PBE O 08Apr2002 </c></rc>
  </set></array>
 </atominfo>
"""
ITERATION = '<scstep><energy><i name="e_fr_energy">-9.0</i><i name="e_0_energy">-8.9</i></energy></scstep>'
STEP = """ <calculation>{iterations}
  <structure><crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>
   <varray name="positions"><v>0 0 0</v><v>0.5 0.5 {z}</v></varray></structure>
  <varray name="forces"><v>0 0 0.5</v><v>0 0 -0.5</v></varray>
  <varray name="stress"><v>10 0 0</v><v>0 20 0</v><v>0 0 30</v></varray>
  <energy><i name="e_fr_energy">-9.5</i><i name="e_wo_entrp">-9.3</i><i name="e_0_energy">-0.1</i></energy>
 </calculation>
"""
OUTCAR = """ vasp.5.4.4.18Apr17-6-g9f103f2a35 complex
 POTCAR:    PAW_PBE Si 05Jan2001
   VRHFIN =Si: s2p2
   TITEL  = PAW_PBE Si 05Jan2001
   POMASS =   28.085; ZVAL   =    4.000    mass and valenz
  ions per type =               2
 exchange correlation table for  LEXCH =        8
   NELM   =     {nelm};   NELMIN=  2; NELMDL= -5     # of ELM steps
   METAGGA=      {meta}    non-selfconsistent MetaGGA calc.
   GGA     =    --    GGA type
   ISPIN  =      1    spin polarized calculation?
--------------------------------------- Iteration      1(   1)  ---------------------------------------
--------------------------------------- Iteration      1(   2)  ---------------------------------------
  FORCE on cell =-STRESS in cart. coord.  units (eV):
  in kB      10.00000    20.00000    30.00000     0.00000     0.00000     0.00000
  external pressure =       20.00 kB  Pullay stress =        0.00 kB
 VOLUME and BASIS-vectors are now :
  volume of cell :       64.00
      direct lattice vectors                 reciprocal lattice vectors
     4.000000000  0.000000000  0.000000000     0.250000000  0.000000000  0.000000000
     0.000000000  4.000000000  0.000000000     0.000000000  0.250000000  0.000000000
     0.000000000  0.000000000  4.000000000     0.000000000  0.000000000  0.250000000
 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
      0.00000      0.00000      0.00000         0.000000      0.000000      0.500000
      2.00000      2.00000      2.00000         0.000000      0.000000     -0.500000
 -----------------------------------------------------------------------------------
  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  =        -9.50000000 eV

  energy  without entropy=       -9.30000000  energy(sigma->0) =       -9.40000000
"""


def vasprun(
    incar: str = "", nelm: int = 60, response: str = RESPONSE, iterations: int = 2, steps: int = 2, end: str = "</modeling>"
) -> str:
    """Text of a ``vasprun.xml`` of so many ionic steps."""
    head = HEAD.format(incar=incar, parameters=PARAMETERS.format(nelm=nelm) if nelm else "", response=response)
    made = "".join(STEP.format(iterations=ITERATION * iterations, z=0.5 + 0.01 * n) for n in range(steps))
    return head + made + end


def folder(**files: str | bytes) -> Callable[[Path], Path]:
    """A function that writes a folder of these files; ``__`` stands for a dot, ``_in_`` for a folder below."""

    def write(root: Path) -> Path:
        for name, content in files.items():
            path = root.joinpath(*name.replace("__", ".").split("_in_"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return root

    return write


def metagga(name: str) -> str:
    """The tag in an INCAR of the XML."""
    return f'<i type="string" name="METAGGA">{name}</i>'


PAIR = folder(pre_in_vasprun__xml=vasprun('<i name="GGA">PS</i>'), static_in_vasprun__xml=vasprun(metagga("R2SCAN"), steps=1))
WITH_U = '<i type="logical" name="LDAU"> T </i><v name="LDAUU"> 5.3 0.0</v>'

CASES = [
    Case(
        "vasprun.xml, NELM in the INCAR (5.4)",
        "VASP",
        folder(vasprun__xml=vasprun('<i name="NELM">60</i>', response="")),
        2,
        labels=LABELS,
    ),
    Case(
        "vasprun.xml, NELM left to its default (5.2 to 6.2)",
        "VASP",
        folder(vasprun__xml=vasprun(iterations=40)),
        2,
        labels=LABELS,
    ),
    Case("vasprun.xml.gz", "VASP", folder(vasprun__xml__gz=gzip.compress(vasprun().encode())), 2, labels=LABELS),
    Case(
        "vasprun.xml whose electronic steps ran out",
        "VASP",
        folder(vasprun__xml=vasprun(nelm=2)),
        error=r"none of the 2 frames can be used \(2 not converged; checks=.'converged': 'warn'.",
    ),
    Case(
        "the same, kept",
        "VASP",
        folder(vasprun__xml=vasprun(nelm=2)),
        2,
        labels=LABELS,
        options={"checks": {"converged": "warn"}},
    ),
    Case(
        "vasprun.xml that breaks off",
        "VASP",
        folder(vasprun__xml=vasprun(end=" <calculation><scstep>")),
        2,
        {"file cannot be read": 1},
        LABELS,
    ),
    Case(
        "vasprun.xml.gz that breaks off",
        "VASP",
        folder(vasprun__xml__gz=gzip.compress(vasprun(end="").encode())),
        2,
        {"file cannot be read": 1},
        LABELS,
    ),
    Case("OUTCAR alone", "VASP", folder(OUTCAR=OUTCAR.format(nelm=60, meta="F")), labels=LABELS, options={"functional": "PBE"}),
    Case(
        "OUTCAR alone, r2SCAN",
        "VASP",
        folder(OUTCAR=OUTCAR.format(nelm=60, meta="R2SCA")),
        labels=LABELS,
        options={"only": "r2SCAN"},
    ),
    Case(
        "OUTCAR alone, electronic steps ran out",
        "VASP",
        folder(OUTCAR=OUTCAR.format(nelm=2, meta="F")),
        error=r"1 not converged",
    ),
    Case("folder at two levels of theory", "VASP", PAIR, error=r"PBEsol 1 file, r2SCAN 1; keep one with only='PBEsol'"),
    Case(
        "one level of a folder",
        "VASP",
        PAIR,
        labels=LABELS,
        options={"only": "r2SCAN"},
        note="the other is passed over, and named",
    ),
    Case(
        "PBE beside PBE+U",
        "VASP",
        folder(a_in_vasprun__xml=vasprun(), b_in_vasprun__xml=vasprun(WITH_U, steps=1)),
        3,
        labels=LABELS,
        options={"functional": "GGA/GGA+U"},
    ),
    Case(
        "r2SCAN+rVV10, tags in the INCAR beside",
        "VASP",
        folder(vasprun__xml=vasprun(metagga("R2SCAN")), INCAR="LUSE_VDW = .TRUE.\nBPARAM = 11.95\n"),
        2,
        labels=LABELS,
        options={"only": "r2SCAN-rVV10"},
    ),
]
