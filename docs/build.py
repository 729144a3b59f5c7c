"""Everything in the documents that is a number or a picture, made again from the results in the repository.

Usage: python docs/build.py            tables of README.md and docs/*.md, from docs/results and benchmarks/results
       python docs/build.py --pictures [TEACHER_PAIRS]  also the pictures of the pages (needs a chromium on the path); the
                                                         page of pseudo-labels needs the folder of teacher_pairs

The results themselves come from ``make study`` (docs/results) and ``make bench`` (benchmarks/results); the pages of shifts are
made here, since they take seconds.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
STUDY = ROOT / "docs" / "results" / "methods"
BENCH = ROOT / "benchmarks" / "results" / "against_chgnet.json"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _about(name: str) -> str:
    """A model as tables call it: methods with their number in the paper."""
    from xclimb.transfer.methods import METHODS

    if name not in METHODS:
        return name
    return f"{name} (Method {METHODS[name].paper})" if METHODS[name].paper else f"{name} (ours)"


def study_table() -> str:
    """Markdown table of the committed study: test errors, mean and spread over seeds, and what is left of PBE.

    Bold, among the test errors: the smallest and those that do not differ from it significantly.
    """
    from xclimb.report import read_folder
    from xclimb.study.comparisons import leading
    from xclimb.study.summary import by_model, summary_table

    study = read_folder(STUDY)
    marked = {name: leading(by_model(study.results.rows), name, study.predictions) for name, _ in COLUMNS}
    lines = [
        "| model | energy, meV/atom | forces, meV/Å | stress, GPa | magmom, µB | on PBE: energy | on PBE: forces |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in summary_table(STUDY):
        cells = [
            f"**{_number(row, name, digits)}**" if row["model"] in marked[name] else _number(row, name, digits)
            for name, digits in COLUMNS
        ]
        lines.append(f"| {_about(row['model'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


COLUMNS = (
    ("energy_mae", 1),
    ("forces_mae", 1),
    ("stress_mae", 2),
    ("magmom_mae", 3),
    ("retention_energy_mae", 1),
    ("retention_forces_mae", 1),
)


def _number(row: dict, name: str, digits: int) -> str:
    value, spread = row[name], row[f"{name}_std"]
    if value is None:
        return "—"
    digits = 0 if digits == 1 and value >= 1000 else digits
    return f"{value:,.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")


def bench_table() -> str:
    """Markdown table of the committed benchmarks: times, ratio, its range, and how fast the matrix products go."""
    found = json.loads(BENCH.read_text())
    rows = found["rows"] + json.loads((BENCH.parent / "md.json").read_text())["rows"]
    timed_eager = any("eager" in row for row in rows)
    lines = [f"| what | xclimb | {'xclimb eager | ' * timed_eager}chgnet | ratio | wanted | products |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for row in rows:
        ours = _quantity(row["xclimb"], row["unit"])
        theirs = (
            _quantity(row["chgnet"], row["unit"]) if "chgnet" in row else f"one thread: {_quantity(row['one'], row['unit'])}"
        )
        speed = f"{row['gflops']:.0f} GFLOP/s, {row['share_of_peak']:.0%} of peak" if "gflops" in row else ""
        ratio = f"**{row['ratio']:.1f}**{_spread(row)}"
        if timed_eager:
            ours += f" | {_quantity(row['eager'], row['unit']) if 'eager' in row else ''}"
        lines.append(f"| {row['case']} | {ours} | {theirs} | {ratio} | {row['wanted']:g} | {speed} |")
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    machine = f"{found['machine']['processor']}, one thread but where it says two, {found['machine']['backend']} backend"
    return "\n".join([*lines, "", f"{machine}; crystals of {found['machine']['crystals']}; {versions}."])


def xeon_table() -> str:
    """Markdown table of an earlier run on another processor: ratios, and which version it was."""
    found = json.loads((BENCH.parent / "against_chgnet.xeon.json").read_text())
    lines = ["| what | ratio | wanted |", "|---|---|---|"]
    lines += [f"| {row['case']} | {row['ratio']:.1f}{_spread(row)} | {row['wanted']:g} |" for row in found["rows"]]
    return "\n".join([*lines, "", f"{found['machine']['processor']}, xclimb at commit {found['commit']}."])


def _spread(row: dict) -> str:
    return f" ({row['range'][0]:.1f} to {row['range'][1]:.1f})" if "range" in row else ""


def large_table() -> str:
    """Markdown table of one large cell: cost per atom against that of the smallest, and memory."""
    lines = ["| atoms | ms an atom | against the smallest | first call | of it the graph | peak memory |", "|---" * 6 + "|"]
    for row in json.loads((BENCH.parent / "large_cells.json").read_text())["rows"]:
        graph = f"{row['graph_per_atom'] / row['per_atom']:.1%}"
        peak = f"{row['peak'] / 1024:.1f} GB"
        first = f"{1e3 * row['first_per_atom']:.2f}"
        lines.append(f"| {row['atoms']:,} | {1e3 * row['per_atom']:.2f} | {row['ratio']:.2f} | {first} | {graph} | {peak} |")
    return "\n".join(lines)


def precision_table() -> str:
    """Markdown tables of ``precision: bf16``: one step against float64, and trainings with either precision."""
    found = json.loads((BENCH.parent / "precision.json").read_text())
    kinds = ("energy", "forces", "stress", "magmoms")
    lines = [
        "| precision | energy, meV/atom | forces, meV/Å | stress, GPa | magmom, µB | gradient of the loss |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["steps"]:
        off = " | ".join(f"{row[kind][0]:.2g} (up to {row[kind][1]:.2g})" for kind in kinds)
        lines.append(f"| `{row['what']}` | {off} | {row['gradient']:.2g} of its size, cosine {row['cosine']:.4f} |")
    lines += [
        "",
        "| seed | precision | energy MAE, meV/atom | forces MAE, meV/Å | stress MAE, GPa | s an epoch |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["trainings"]:
        errors = f"{row['energy_mae']:.1f} | {row['forces_mae']:.1f} | {row['stress_mae']:.2f}"
        lines.append(f"| {row['seed']} | `{row['precision']}` | {errors} | {row['seconds']:.1f} |")
    told = f"Above, deviations from float64 of {found['crystals']} crystals, mean and largest; below, float32 validation errors"
    where = f"device {found['device']}, xclimb {found['versions']['xclimb']}, torch {found['versions']['torch']}"
    return "\n".join([*lines, "", f"{told} after {found['epochs']} epochs; {where}."])


def ingest_table() -> str:
    """Markdown table of an ingest of generated MP-r2SCAN data: speed and memory, and whether they reach what is wanted."""
    found = json.loads((BENCH.parent / "ingest_scale.json").read_text())
    lines = ["| reader | frames | MB | seconds | MB/s | GB of memory |", "|---|---|---|---|---|---|"]
    for row in found["rows"]:
        memory = "" if row["gb"] is None else f"{row['gb']:.2f}"
        size = f"{row['frames']:,} | {row['megabytes']:,.0f}"
        lines.append(f"| {row['reader']} | {size} | {row['seconds']:.1f} | {row['speed']:.0f} | {memory} |")
    speed, memory = found["wanted"]
    fine = [_reached(found["rows"][0]["speed"] >= speed), _reached(found["rows"][0]["gb"] < memory)]
    told = f"Wanted: {speed:.0f} MB/s ({fine[0]}), under {memory} GB ({fine[1]}), all processes together"
    return "\n".join([*lines, "", f"{told}; {found['processor']}."])


def store_table() -> str:
    """Markdown table of stores of two sizes: opening, batches, an epoch, memory."""
    found = json.loads((BENCH.parent / "store_scale.json").read_text())
    lines = [
        "| frames | files | GB on disk | opened in, ms | batch of 64, ms | epoch in random order, frames/s | own memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        size = f"{row['frames']:,} | {row['shards']} | {row['megabytes'] / 1000:.2f}"
        times = f"{1000 * row['open']:.1f} | {1000 * row['batch']:.2f} | {row['epoch']:,.0f}"
        lines.append(f"| {size} | {times} | {row['own']:.1f} |")
    wanted = found["wanted"]
    told = f"{1000 * wanted['open']:.0f} ms, {1000 * wanted['batch']:.0f} ms, {wanted['epoch']:,} frames/s"
    return "\n".join([*lines, "", f"Wanted: {told}, memory that does not grow with the store."])


def kills_line() -> str:
    """What became of an ingest under kill -9."""
    found = json.loads((BENCH.parent / "ingest_kills.json").read_text())
    outcome = "the very files" if found["identical"] else "OTHER files"
    left = "nothing was left behind" if not found["left"] else f"{', '.join(found['left'])} was left behind"
    kills = f"{len(found['kills'])} kills of an ingest of {found['frames']:,} frames"
    return f"{kills}: {outcome} of one that nobody disturbed; {left}."


def kill_points_table() -> str:
    """Markdown table of what a kill at every file event leaves."""
    found = json.loads((ROOT / "docs" / "results" / "kill_points.json").read_text())
    lines = ["| command | file events | different folders | wrong after the same command again |", "|---|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {name} | {row['events']} | {row['states']} | {row['wrong']} |" for name, row in found.items())]
    )


def fuzz_line() -> str:
    """Counts of the mutated inputs by outcome."""
    found = json.loads((ROOT / "docs" / "results" / "fuzz.json").read_text())
    counts = f"{found['done']:,} were read, {found['refused']:,} were refused in a sentence"
    return (
        f"{found['inputs']:,} mutated files, folders and command lines (seed {found['seed']}): {counts}, "
        f"{found['unexpected']} ended in anything else, {found['hang']} in more time or memory than allowed."
    )


def _reached(fine: bool) -> str:
    return "reached" if fine else "not reached"


def _quantity(value: float, unit: str) -> str:
    value, unit = (1000 * value, "ms") if unit == "s" else (value, unit)
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def settings_table() -> str:
    """Markdown table of every setting of a transfer: name, default, reason."""
    from xclimb.config import TransferConfig
    from xclimb.transfer.methods import settings_rows

    described = TransferConfig.describe()
    described += [(setting, default, f"method {method} only: {reason}") for method, setting, default, reason in settings_rows()]
    rows = [f"| `{name}` | {_default(default)} | {reason.replace('|', chr(92) + '|')} |" for name, default, reason in described]
    return "\n".join(["| setting | default | what it is, and why so |", "|---|---|---|", *rows])


def methods_table() -> str:
    """Markdown table of the methods of transfer, from the registry."""
    from xclimb.transfer.methods import METHODS

    rows = [
        f"| `{method.name}` | {method.summary} | {f'Method {method.paper}' if method.paper else 'ours'} |"
        for method in METHODS.values()
    ]
    return "\n".join(["| name | weights and references | in the paper |", "|---|---|---|", *rows])


def _default(value: object) -> str:
    return "unset" if value is None else "none" if value == [] else f"`{value}`"


def corpus_table() -> str:
    """Markdown table of small files of other tools' shapes, and what an ingest makes of each (tests/ingest/corpus)."""
    sys.path.insert(0, str(ROOT / "tests"))
    from ingest.corpus import table

    return table()


def formats_table() -> str:
    """Markdown table of the formats that an ingest reads."""
    from xclimb.formats import table

    return table()


def few_table() -> str:
    """Markdown table of the learning curve of references, and the time of a large fit."""
    found = json.loads((BENCH.parent / "references_few.json").read_text())
    lines = ["| materials in the fit | raw | residual | informed | rms pull | beyond 2 |", "|---|---|---|---|---|---|"]
    for row in found["dft_pairs.parquet r2SCAN"]:
        cells = ["—" if row[kind] is None else f"{row[kind]:,.0f}" for kind in ("raw", "residual", "informed")]
        lines.append(f"| {row['n']} | {' | '.join(cells)} | {row['rms_pull']:.2f} | {100 * row['beyond_2']:.0f} % |")
    large = found["large"]
    took = f"{large['frames']:,} frames take {large['seconds']:.0f} s and {large['peak_gb']:.1f} GB beside the frames."
    return "\n".join([*lines, "", took])


def default_table() -> str:
    """Markdown table of the default transfer on materials left out, from what ``benchmarks/default_transfer.py`` measured."""
    sys.path.insert(0, str(BENCH.parents[1]))
    from default_transfer import OUT, QUANTITIES, ratio

    rows: dict[str, list[dict]] = {}
    for key, run in json.loads(OUT.read_text()).items():
        _, _, fold, _, method, _ = key.split(", ")
        rows.setdefault(method, []).append(run | {"fold": fold})
    titles = ("energy", "within materials", "forces", "stress", "moments")
    lines = [f"| method | folds | {' | '.join(titles)} |", f"|---|---|{'---|' * len(titles)}"]
    for method, runs in rows.items():
        cells = ["{:.2f} ({:.2f} to {:.2f})".format(*ratio(runs, quantity)) for quantity in QUANTITIES]
        lines.append(f"| `{method}` | {', '.join(run['fold'][5:] for run in runs)} | {' | '.join(cells)} |")
    lines += ["", "By fold:", "", f"| method | fold | {' | '.join(titles)} |", f"|---|---|{'---|' * len(titles)}"]
    for method, runs in rows.items():
        for run in runs:
            cells = [f"{ratio([run], quantity)[0]:.2f}" for quantity in QUANTITIES]
            lines.append(f"| `{method}` | {run['fold'][5:]} | {' | '.join(cells)} |")
    return "\n".join(lines)


TABLES = {
    "default_transfer": default_table,
    "formats": formats_table,
    "corpus": corpus_table,
    "study": study_table,
    "bench": bench_table,
    "xeon": xeon_table,
    "large": large_table,
    "precision": precision_table,
    "settings": settings_table,
    "methods": methods_table,
    "ingest": ingest_table,
    "store": store_table,
    "kills": kills_line,
    "kill_points": kill_points_table,
    "fuzz": fuzz_line,
    "references_few": few_table,
}


def fill(text: str) -> str:
    """A document with what stands between ``<!-- name -->`` and ``<!-- /name -->`` made anew."""
    for name, make in TABLES.items():
        opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
        if opening in text and closing in text:
            before, rest = text.split(opening, 1)
            after = rest.split(closing, 1)[1]
            text = f"{before}{opening}\n{make()}\n{closing}{after}"
    return text


def picture(page: Path, out: Path, width: int, height: int, theme: str = "light") -> None:
    """A screenshot of a report page by headless Chromium."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        sys.exit("no chromium on the path: install it, or leave out --pictures")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-gpu"]
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [browser, "--headless", "--no-sandbox", *quiet, f"--user-data-dir={profile}", f"--window-size={width},{height}",
             "--hide-scrollbars", "--virtual-time-budget=15000", f"--screenshot={out}", f"{page.as_uri()}?theme={theme}"],
            check=True, capture_output=True,
        )  # fmt: skip


def halve(file: Path) -> None:
    """A picture of a whole page as two, ``NAME-1.png`` and ``NAME-2.png``, cut between sections, without empty rows below.

    In 256 colours, rare ones kept: enough for a page of few hues, and a third of the size.
    """
    from PIL import Image

    shown = Image.open(file).convert("RGB")
    pixels = np.asarray(shown)
    inked = np.flatnonzero((pixels != pixels[-1, 0]).any(axis=(1, 2)))  # rows with anything on them
    if inked[-1] == len(pixels) - 1:
        sys.exit(f"{file.stem}: the page is longer than the window: draw it in a higher one")
    third = len(inked) // 3
    widest = third + int(np.diff(inked[third : 2 * third]).argmax())
    middle, end = int(inked[widest : widest + 2].mean()), int(inked[-1]) + 40
    for n, (top, bottom) in enumerate(((0, middle), (middle, end)), start=1):
        part = file.with_stem(f"{file.stem}-{n}")
        cut = shown.crop((0, top, shown.width, min(bottom, shown.height)))
        cut.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(part, optimize=True)
    file.unlink()


def shift_pictures(teacher: Path | None) -> None:
    """Pages of the shift of the embedded calculations, and of pseudo-labels where their folder is given, as pictures."""
    import xclimb
    from xclimb.data import Frames, LevelOfTheory
    from xclimb.data.samples import load_sample
    from xclimb.report.shift_files import write_shift

    pairs = {"shift-dft": [load_sample("dft_pairs", functional) for functional in ("PBE", "r2SCAN")]}
    if teacher is not None:
        files = sorted(teacher.glob("teacher_pairs_*.parquet"))
        # labels of a potential are no calculations: their level of theory says so
        pairs["shift-teacher"] = [
            Frames.concatenate([xclimb.read(file, functional) for file in files]).with_theory(
                LevelOfTheory(f"TensorNet-{functional}", code="machine-learned pseudo-labels")
            )
            for functional in ("PBE", "r2SCAN")
        ]
    with tempfile.TemporaryDirectory() as folder:
        for name, (low, high) in pairs.items():
            page = write_shift(xclimb.shift(low, high), Path(folder) / name)
            picture(page, IMAGES / f"{name}.png", 1280, 16000)  # what Chromium can draw
            halve(IMAGES / f"{name}.png")


def main() -> None:
    """Fill the tables; with ``--pictures``, draw the pictures too."""
    for path in DOCUMENTS:
        old = path.read_text()
        new = fill(old)
        if new != old:
            path.write_text(new)
            print(f"updated {path.relative_to(ROOT)}")
    if "--pictures" in sys.argv[1:]:
        IMAGES.mkdir(exist_ok=True)
        picture(STUDY / "report.html", IMAGES / "report.png", 1280, 1500)
        folder = sys.argv[sys.argv.index("--pictures") + 1 :]
        shift_pictures(Path(folder[0]) if folder else None)


if __name__ == "__main__":
    main()
