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
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Any

SECONDS = 30  # CPU time of one command; ten times that by the clock
ROOM = 4 << 30  # bytes of address space beyond those of this process
RESULTS = Path(__file__).parents[1] / "docs" / "results" / "fuzz.json"
ODD = ("", "=1+1", "../../x", "é\u202e漢", "nan", "1e999", "\x00", "-", "a" * 5000)
STRANGE: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1e308, -0.0, [], {}, [[]], {"a": [1]}, *ODD)

TRANSFER = "transfer {} -f r2SCAN -s toy --by frame --gap 0 --out {} --epochs {}"
# what is mutated -> the commands that read it, each of which accepts it as it is
COMMANDS = {
    **dict.fromkeys(
        ("good.extxyz", "good.json", "good.parquet", "good.db", "records.json"),
        ("inspect {}", "ingest {} --out new --workers 1 --potential none", "export {} new.extxyz", "predict toy {}",
         "references fit {} --out new.json", TRANSFER.format("{}", "new", 0)),
    ),
    "vasprun.xml": ("inspect {}", "ingest {} --out new --workers 1 --potential none", "predict toy {}"),
    "POSCAR": ("predict toy POSCAR", "predict toy POSCAR --out new.json"),
    "store": ("inspect store", "inspect store:train", "ingest store --out new --workers 1",
              "split store --by frame --gap 0 --overwrite", "export store new.parquet",
              "ingest good.extxyz --append --out store --workers 1",
              "ingest --retry store/rejects.csv --workers 1"),
    "shift": ("report shift",),
    "refs.json": ("references show refs.json", "references compare refs.json chgnet-0.3.0"),
    "run": ("report run", "predict run good.extxyz", "transfer --resume run", "evaluate run good.extxyz", "report run --watch"),
    "study": ("report study",),
    "toy": ("predict toy good.extxyz", "references show toy"),
    "config.yaml": (TRANSFER.format("good.extxyz", "new --config config.yaml", 0),),
}  # fmt: skip
LINES = (
    "inspect good.extxyz -f r2SCAN",
    "ingest good.extxyz -f r2SCAN --out new --workers 1 --limit force=50 --check outlier=off",
    "split store --ratios 8:1:1 --by frame --gap 0 --seed 3 --subsets 2 --overwrite",
    "export store new.extxyz --format extxyz",
    "transfer good.extxyz -f r2SCAN -s toy --by frame --gap 0 --epochs 0 --seed 1 --set loss.energy=2 --out new",
    "predict toy good.extxyz --out new.json",
    "references fit good.extxyz --kind raw --out new.json",
    "evaluate toy good.extxyz --dtype float64",
    "report shift --out new.html",
    "shift low.extxyz good.extxyz --out new",
)
WARMED = (
    "inspect good.extxyz", "inspect good.parquet", "ingest records.json --out new -f PBE --workers 1", "predict toy POSCAR",
    "report run", "report shift", "references show refs.json",
)  # fmt: skip


def make_material(folder: Path) -> None:
    """Small sound inputs of every kind; the working folder becomes theirs."""
    from ase.io import write

    from ingest.test_mp_json import nested, record
    from ingest.test_vasp import ELECTRONIC, HEAD, STEP
    from report import synthetic
    from training.tiny import rock_salts, toy
    from transfer.disturbed import in_fork
    from xclimb.data.export import export
    from xclimb.data.store_writer import write_store
    from xclimb.data.stored_split import split_store
    from xclimb.data.theory import LevelOfTheory
    from xclimb.references import fit_references

    os.chdir(folder)
    frames = rock_salts(12)
    for name in ("good.extxyz", "good.parquet", "good.db"):
        export(frames, folder / name)
    export(frames.replace(energy=frames.energy - 1, theory=LevelOfTheory("PBE")), folder / "low.extxyz")
    write(folder / "good.json", frames[:4].to_ase(), format="json")
    write(folder / "POSCAR", frames[:1].to_ase()[0], format="vasp")
    vasprun = HEAD.format(incar="") + "".join(STEP.format(electronic=ELECTRONIC, z=0.5 + k / 100, force=0.5) for k in range(3))
    (folder / "vasprun.xml").write_text(vasprun + "</modeling>\n")
    (folder / "records.json").write_text(json.dumps(nested(*[record(2, uncorrected_total_energy=-9.0 - k) for k in range(4)])))
    store = write_store(frames, folder / "store")
    (store / "rejects.csv").write_text("file,frame_id,index,reason,detail\ngood.extxyz,good#1,1,force,9 eV\n")
    split_store(store, (8, 2, 2), by="frame", gap=0)
    fit_references(frames).save(folder / "refs.json")
    toy().save(folder / "toy")
    synthetic.write_study(folder / "study", methods=synthetic.METHODS[:2], seeds=(0,))
    (folder / "config.yaml").write_text("method: refit\nepochs: 0\nloss:\n  energy: 2.0\n  force: 1.0\nbatch_size: 4\n")
    in_fork(lambda: stopped(TRANSFER.format("good.extxyz", "run", 2).split()))
    assert run(["shift", "low.extxyz", "good.extxyz", "--out", "shift"]) == 0


def stopped(words: list[str]) -> None:
    """Train until the third step, and save the state there."""
    from transfer.disturbed import kill_at
    from xclimb.transfer import session

    kill_at(session.Guard, "record", 3, signal.SIGTERM)
    run(words)


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


def refused_as_they_are(sound: Path, home: Path) -> list[str]:
    """The commands that refuse sound inputs: none, or a mutation would be refused for another reason than itself."""
    faults = []
    lines = [line.replace("{}", target) for target, lines in COMMANDS.items() for line in lines]
    for line in (*lines, *LINES):
        lay_out(sound, home)
        kind, text = outcome(lambda: run(line.split()))  # noqa: B023 (called at once)
        if kind != "done":
            faults.append(f"{kind}, not mutated: xclimb {line}\n{text[-1500:]}")
    return faults


def lay_out(sound: Path, home: Path) -> None:
    """Lay copies of the sound inputs into the working folder."""
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(sound, home)
    os.chdir(home)


def fuzz(numbers: range, seed: int = 0, check: bool = False) -> tuple[Counter, list[str]]:
    """Outcomes of some inputs, and a paragraph for each that is a fault.

    Args:
        numbers: which inputs.
        seed: of their mutations.
        check: let every command read its inputs as they are, too.
    """
    counts: Counter = Counter()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        sound, home = Path(name, "sound"), Path(name, "home")
        sound.mkdir()
        try:
            with (
                warnings.catch_warnings(),
                open(os.devnull, "w") as nowhere,
                redirect_stdout(nowhere),
                redirect_stderr(nowhere),
            ):
                warnings.simplefilter("ignore")
                make_material(sound)
                lay_out(sound, home)
                for line in WARMED:  # in this process, so that its forks import nothing
                    run(line.split())
            faults = refused_as_they_are(sound, home) if check else []
            for number in numbers:
                lay_out(sound, home)
                words = case(number, seed, home)
                kind, text = outcome(lambda: run(words))  # noqa: B023 (called at once)
                counts[kind] += 1
                if counts.total() % 25 == 0:
                    print(f"{number}: {dict(counts)}", file=sys.stderr, flush=True)
                if kind in ("unexpected", "hang"):
                    faults.append(f"{kind}, input {number} of seed {seed}: xclimb {' '.join(words)[:300]}\n{text[-1500:]}")
                    print(faults[-1], flush=True)
        finally:
            os.chdir(here)
    return counts, faults


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    from xclimb.ingest.executor import end_with_parent

    parts = os.cpu_count() or 1
    with ProcessPoolExecutor(parts, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        jobs = [pool.submit(fuzz, range(part, count, parts), seed, check=part == 0) for part in range(parts)]
        done = [job.result() for job in jobs]
    counts = sum((counts for counts, _ in done), Counter())
    faults = [fault for _, some in done for fault in some]
    found = {"inputs": count, "seed": seed, **{kind: counts[kind] for kind in ("done", "refused", "unexpected", "hang")}}
    print(*faults, json.dumps(found), sep="\n")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
