"""Mutated inputs for the command line: nothing may end in "unexpected", hang, or grow beyond all bounds.

``python -m tests.fuzz 1000 [seed]`` mutates data files, stores, splits, shifts, runs, studies, references, potentials, settings
and command lines, and gives each to a command in a fork of its own, bounded in time and address space. The counts go to
``docs/results/fuzz.json``. Every input follows from the seed and its number.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

SECONDS = 30  # CPU time of one command; ten times that by the clock
ROOM = 4 << 30  # bytes of address space beyond those of this process
RESULTS = Path(__file__).parents[1] / "docs" / "results" / "fuzz.json"
ODD = ("", "=1+1", "../../x", "é\u202e漢", "nan", "1e999", "\x00", "-", "a" * 5000)
STRANGE: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1e308, -0.0, [], {}, [[]], {"a": [1]}, *ODD)

# what is mutated -> the commands that read it
POTENTIAL = ("evaluate", "predict")
COMMANDS = {
    **dict.fromkeys(
        ("good.extxyz", "good.json", "good.parquet", "good.db", "records.json", "POSCAR", "vasprun.xml"),
        ("inspect {} -f r2SCAN", "ingest {} -f r2SCAN --out new --workers 1 --potential none", "export {} new.extxyz",
         "predict toy {}", "references fit {} --out new.json", "transfer {} -f r2SCAN -s toy --epochs 0 --out new"),
    ),
    "store": ("inspect store", "inspect store:train", "ingest store --out new --workers 1", "split store --overwrite",
              "ingest good.extxyz --append --out store --workers 1", "export store new.parquet",
              "ingest --retry store/rejects.csv --workers 1"),
    "shift": ("report shift",),
    "refs.json": ("references show refs.json", "references compare refs.json chgnet-0.3.0"),
    "run": ("report run", "predict run good.extxyz", "transfer --resume run", "evaluate run good.extxyz", "report run --watch"),
    "study": ("report study",),
    "toy": ("predict toy good.extxyz", "references show toy"),
    "config.yaml": ("transfer good.extxyz -f r2SCAN -s toy --config config.yaml --epochs 0 --out new",),
}  # fmt: skip
LINES = (
    "inspect good.extxyz -f r2SCAN",
    "ingest good.extxyz -f r2SCAN --out new --workers 1 --limit force=50 --check outlier=off",
    "split store --ratios 8:1:1 --seed 3 --subsets 2 --overwrite",
    "export store new.extxyz --format extxyz",
    "transfer good.extxyz -f r2SCAN -s toy --epochs 0 --seed 1 --set loss.energy=2 --out new",
    "predict toy good.extxyz --out new.json",
    "references fit good.extxyz --kind raw --out new.json",
    "evaluate toy good.extxyz --dtype float64",
    "report shift --out new.html",
    "study methods --sample dft_pairs --seeds x --out new",
)
WARMED = (
    "inspect good.extxyz", "inspect good.parquet", "ingest records.json --out new -f PBE --workers 1", "predict toy POSCAR",
    "report run", "report shift", "references show refs.json",
)  # fmt: skip


def make_material(folder: Path) -> None:
    """Small sound inputs of every kind."""
    from ase.io import write

    from ingest.test_mp_json import nested, record
    from report import synthetic
    from training.tiny import rock_salts, toy
    from xclimb.data.export import export
    from xclimb.data.store_writer import write_store
    from xclimb.data.stored_split import split_store
    from xclimb.references import fit_references

    frames = rock_salts(12)
    frames = frames.replace(material_id=frames.frame_id)
    for name in ("good.extxyz", "good.parquet", "good.db"):
        export(frames, folder / name)
    write(folder / "good.json", frames[:4].to_ase(), format="json")
    write(folder / "POSCAR", frames[:1].to_ase()[0], format="vasp")
    (folder / "records.json").write_text(json.dumps(nested(*[record(2, uncorrected_total_energy=-9.0 - k) for k in range(4)])))
    store = write_store(frames, folder / "store")
    (store / "rejects.csv").write_text("file,frame_id,index,reason,detail\ngood.extxyz,good#1,1,force,9 eV\n")
    split_store(store, (8, 2, 2))
    fit_references(frames).save(folder / "refs.json")
    toy().save(folder / "toy")
    synthetic.write_run(folder / "run", epochs=3)
    toy().save(folder / "run" / "checkpoints" / "best")
    synthetic.write_study(folder / "study", seeds=(0,))
    (folder / "shift").mkdir()
    import numpy as np

    synthetic.dump(folder / "shift" / "shift.json", synthetic.shift_dict(np.random.default_rng(0), 30))
    (folder / "config.yaml").write_text("method: refit\nepochs: 0\nloss:\n  energy: 2.0\n  force: 1.0\nbatch_size: 4\n")


# -- mutations ----------------------------------------------------------------------------------------------------------


def mutated(content: bytes, chance: random.Random, name: str) -> bytes:
    """The content of a file, spoilt in one or two ways."""
    for _ in range(chance.choice((1, 1, 2))):
        ways = [_flip, _cut, _drop, _twice, _insert, _figure]
        content = chance.choice(ways + [_values] * 5 if name.endswith(".json") else ways)(content, chance)
    return content


def _place(content: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(content) + 1)
    return start, min(len(content), start + chance.choice((1, 4, 50, 1000)))


def _flip(content: bytes, chance: random.Random) -> bytes:
    spoilt = bytearray(content)
    for _ in range(chance.choice((1, 3, 30)) if spoilt else 0):
        spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _drop(content: bytes, chance: random.Random) -> bytes:
    start, end = _place(content, chance)
    return content[:start] + content[end:]


def _twice(content: bytes, chance: random.Random) -> bytes:
    start, end = _place(content, chance)
    return content[:end] + content[start:]


def _insert(content: bytes, chance: random.Random) -> bytes:
    start, _ = _place(content, chance)
    what = chance.choice([b"[" * 100_000, b'{"a":' * 2000, b"<a>" * 5000, b"\xff\xfe\x00", *(odd.encode() for odd in ODD)])
    return content[:start] + what + content[start:]


def _figure(content: bytes, chance: random.Random) -> bytes:
    """Another number in the place of one."""
    places = [n for n, byte in enumerate(content[:100_000]) if 48 <= byte < 58]
    if not places:
        return content
    start = chance.choice(places)
    number = chance.choice((b"1e308", b"-1", b"nan", b"999999999999", b"0", b"inf", b"1e-320"))
    return content[:start] + number + content[start + 1 :]


def _values(content: bytes, chance: random.Random) -> bytes:
    """Another value, no value or a further key somewhere in JSON."""
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        return _flip(content, chance)
    holder, key = [whole], 0
    while isinstance(holder[key], dict | list) and holder[key] and chance.random() < 0.8:
        holder = holder[key]
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    if chance.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    else:
        holder[key] = chance.choice(STRANGE)
        whole = whole if holder is not None and not isinstance(whole, type(None)) else holder[key]
    return json.dumps(whole).encode("utf-8", errors="replace")


def mutated_words(words: list[str], chance: random.Random) -> list[str]:
    """A command line with one word changed, doubled, left out or put in."""
    place = chance.randrange(1, len(words))
    other = chance.choice(
        (*ODD, "-5", "good.extxyz", "store", "nothing", "/dev/null", "--overwrite", "--json", "99999999999", "store:val")
    )
    other = other.replace("\x00", "?")  # no shell passes that on
    way = chance.randrange(4)
    if way == 0:
        return [*words[:place], other, *words[place + 1 :]]
    if way == 1:
        return [*words[:place], words[place], *words[place:]]
    return words[:place] + words[place + 1 :] if way == 2 else [*words[:place], other, *words[place:]]


def case(number: int, seed: int, home: Path) -> list[str]:
    """Spoil the inputs that lie in the working folder; give the command line to read them with."""
    chance = random.Random(f"{seed}:{number}")
    if chance.random() < 0.15:
        return mutated_words(chance.choice(LINES).split(), chance)
    target = chance.choice([name for name in COMMANDS if (home / name).exists()])
    path = home / target
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        if chance.random() < 0.08:
            chance.choice(files).unlink()
            files = []
        path = chance.choice(files) if files else path
    if path.is_file():
        path.write_bytes(mutated(path.read_bytes(), chance, path.name))
    return [word.replace("{}", target) for word in chance.choice(COMMANDS[target]).split()]


# -- running ------------------------------------------------------------------------------------------------------------


def outcome(action: Callable[[], int]) -> tuple[str, str]:
    """What became of something done in a bounded fork: ``done``, ``refused``, ``unexpected`` or ``hang``; and what it said."""
    with tempfile.TemporaryFile() as said:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and threads of others: the copy uses none
            child = os.fork()
        if child == 0:
            status = 1
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
                size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
                resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
                signal.alarm(10 * SECONDS)
                status = action()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        text = said.read().decode("utf-8", errors="replace")
    if status < 0:
        return (
            "hang" if -status in (signal.SIGKILL, signal.SIGXCPU, signal.SIGALRM) else "unexpected"
        ), f"signal {-status}: {text}"
    if status == 1 or "Traceback" in text or "This is a bug" in text:
        return "unexpected", text
    return ("refused" if status == 2 else "done"), text


def run(words: list[str]) -> int:
    from xclimb.cli import app

    try:
        app(words, prog_name="xclimb")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _warm(sound: Path, home: Path) -> None:
    """Do some sound work in this process, so that its forks import nothing."""
    shutil.copytree(sound, home)
    os.chdir(home)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        for line in WARMED:
            run(line.split())


def fuzz(count: int, seed: int = 0, first: int = 0) -> tuple[Counter, list[str]]:
    """Outcomes of some inputs, and a paragraph for each that is a fault."""
    counts: Counter = Counter()
    faults = []
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        sound, home = Path(name, "sound"), Path(name, "home")
        sound.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make_material(sound)
        try:
            _warm(sound, home)
            for number in range(first, first + count):
                shutil.rmtree(home, ignore_errors=True)
                shutil.copytree(sound, home)
                os.chdir(home)
                words = case(number, seed, home)
                kind, text = outcome(lambda: run(words))  # noqa: B023 (called at once)
                counts[kind] += 1
                if number % 50 == 49:
                    print(f"{number + 1}: {dict(counts)}", file=sys.stderr, flush=True)
                if kind in ("unexpected", "hang"):
                    faults.append(f"{kind}, input {number} of seed {seed}: xclimb {' '.join(words)[:300]}\n{text[-1500:]}")
                    print(faults[-1], flush=True)
        finally:
            os.chdir(here)
    return counts, faults


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    began = time.monotonic()
    counts, faults = fuzz(count, seed)
    found = {"inputs": count, "seed": seed, **{kind: counts[kind] for kind in ("done", "refused", "unexpected", "hang")}}
    print(json.dumps(found), f"in {time.monotonic() - began:.0f} s")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
