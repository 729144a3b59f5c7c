"""Records read by Arrow and records read one by one are the same frames, the same rejects, in the same order."""

import json

import numpy as np
import pytest

from data.made import same
from ingest.test_mp_json import matpes, nested, record
from xclimb.data.frames import Frames
from xclimb.formats.materials_project.columns import decode_columns
from xclimb.formats.materials_project.records import decode_chunk
from xclimb.formats.materials_project.spans import Chunk, find_records, record_depth


def spoilt(site):
    """A record whose structure is changed by a function of its sites."""
    made = record(3)
    site(made["structure"]["sites"])
    return made


def lattice(**changes):
    made = record(2)
    made["structure"]["lattice"] |= changes
    return made


# what a record may be like: read in columns, or one by one beside those
MANNERS = {
    "plain": lambda: record(3),
    "one atom": lambda: record(1),
    "no labels": lambda: record(2, force=None, stress=None),
    "labels left out": lambda: record(2, force="left out", stress="left out", magmom="left out"),
    "moments": lambda: record(3, magmom=[0.5, None, 4.0]),
    "moments of sites": lambda: spoilt(lambda sites: [site["properties"].update(magmom=1.5) for site in sites[1:]]),
    "both moments": lambda: spoilt(lambda sites: sites[0]["properties"].update(magmom=1.5)) | {"magmom": [1.0, 2.0, 3.0]},
    "charge": lambda: record(2, charge=-1),
    "corrected": lambda: record(2, corrected_total_energy=-12.0),
    "no energy": lambda: record(2, uncorrected_total_energy=None),
    "whole numbers": lambda: record(2, force=[[1, 2, 3], [0, 0, 0]], uncorrected_total_energy=-11),
    "hole in the forces": lambda: record(2, force=[[1.0, None, 3.0], [0.0, 0.0, 0.0]]),
    "too few forces": lambda: record(2, force=[[1.0, 2.0, 3.0]]),
    "forces of two": lambda: record(2, force=[[1.0, 2.0], [3.0, 4.0]]),
    "ragged forces": lambda: record(2, force=[[1.0, 2.0], [3.0, 4.0, 5.0, 6.0]]),
    "no forces in the list": lambda: record(2, force=[]),
    "one list missing": lambda: record(2, force=[[1.0, 2.0, 3.0], None]),
    "stress of two rows": lambda: record(2, stress=[[1.0, 2.0, 3.0]] * 2),
    "too many moments": lambda: record(2, magmom=[1.0, 2.0, 3.0]),
    "text more": lambda: record(2, note="as text"),
    "number more": lambda: record(2, steps=7),
    "flag more": lambda: record(2, relaxed=True),
    "nothing more": lambda: record(2, note=None),
    "object more": lambda: record(2, other={"a": [1, 2]}),
    "no material": lambda: record(2, mp_id=None),
    "no sites": lambda: spoilt(lambda sites: sites.clear()),
    "deuterium": lambda: spoilt(lambda sites: sites[0]["species"][0].update(element="D")),
    "no element": lambda: spoilt(lambda sites: sites[0]["species"][0].update(element="Qq")),
    "two on a site": lambda: spoilt(lambda sites: sites[0]["species"].append({"element": "Na", "occu": 0.5})),
    "half on a site": lambda: spoilt(lambda sites: sites[0]["species"][0].update(occu=0.5)),
    "none on a site": lambda: spoilt(lambda sites: sites[1]["species"].clear()),
    "occupancy unsaid": lambda: spoilt(lambda sites: sites[1]["species"][0].pop("occu")),
    "flat site": lambda: spoilt(lambda sites: sites[1].update(abc=[0.1, 0.2])),
    "slab": lambda: lattice(pbc=[True, True, False]),
    "periodicity unsaid": lambda: lattice(pbc=None),
    "two directions": lambda: lattice(pbc=[True, True]),
    "half a cell": lambda: lattice(matrix=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "structure left out": lambda: record(structure="left out"),
}
# what makes all records around it go one by one
ONE_BY_ONE = {
    "functional": lambda: record(2, functional="R2SCAN"),
    "text for a number": lambda: record(2, uncorrected_total_energy="-11"),
    "another kind": lambda: record(2, forces=[[1.0, 2.0, 3.0]] * 2),
    "a date": lambda: record(2, when="2022-09-01 10:00:00"),
}


def chunk_of(text):
    depth, kind = record_depth(text)
    return Chunk(text, find_records(text, depth, 0).spans, None, 10), kind


def check_same(part, parts):
    rejects = [(r.frame_id, r.index, r.reason, r.detail) for one in parts for r in one.rejects]
    assert [(r.frame_id, r.index, r.reason, r.detail) for r in part.rejects] == rejects
    filled = [one for one in parts if len(one.frames)]
    assert part.places.tolist() == np.concatenate([[], *(one.places for one in filled)]).tolist()
    if filled:
        expected = Frames.concatenate([one.frames for one in filled])
        close = np.abs(part.frames.positions - expected.positions).max()
        assert close < 1e-14
        extras = {name: part.frames.extras[name] for name in sorted(part.frames.extras)}
        same(
            part.frames.replace(positions=expected.positions, extras=extras),
            expected.replace(extras={name: expected.extras[name] for name in sorted(expected.extras)}),
        )


@pytest.mark.parametrize("energy", ["uncorrected", "corrected"])
@pytest.mark.parametrize("manner", [*MANNERS, *ONE_BY_ONE])
def test_each_manner_between_plain_records(manner, energy):
    plain = [record(2, corrected_total_energy=-11.5), record(3, corrected_total_energy=-17.0)]
    between = (MANNERS | ONE_BY_ONE)[manner]()
    chunk, kind = chunk_of(json.dumps(nested(plain[0], between, plain[1])).encode())
    part = decode_columns(chunk, kind, energy, "file", "file.json")
    assert (part is None) == (manner in ONE_BY_ONE)
    if part is not None:
        check_same(part, decode_chunk(chunk, kind, energy, "file", "file.json"))


def test_any_mix_of_manners():
    rng = np.random.default_rng(0)
    for _ in range(40):
        chosen = [MANNERS[name]() for name in rng.choice(list(MANNERS), 8)]
        chunk, kind = chunk_of(json.dumps(nested(record(4), *chosen)).encode())
        part = decode_columns(chunk, kind, "uncorrected", "file", "file.json")
        check_same(part, decode_chunk(chunk, kind, "uncorrected", "file", "file.json"))


def test_matpes():
    sites = matpes(matpes_id="b")
    for site in sites["structure"]["sites"]:
        site["properties"]["magmom"] = 2.5
    many = [matpes(matpes_id="a"), sites, matpes(matpes_id="c", bader_magmoms=None), matpes(matpes_id="d", stress=[1.0] * 9)]
    chunk, kind = chunk_of(json.dumps(many).encode())
    part = decode_columns(chunk, kind, "uncorrected", "file", "file.json")
    check_same(part, decode_chunk(chunk, kind, "uncorrected", "file", "file.json"))
    assert part.frames.magmoms.tolist()[:4] == [0.1, 0.2, 2.5, 2.5]
    assert [reject.frame_id for reject in part.rejects] == ["file#13"]
    chunk, kind = chunk_of(json.dumps([*many, matpes(functional="PBE")]).encode())
    assert decode_columns(chunk, kind, "uncorrected", "file", "file.json") is None
