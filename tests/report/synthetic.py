"""Deterministic run and study folders with plausible numbers, to try the report on before (and without) any training."""

import json
from pathlib import Path

import numpy as np

METHODS = ("scratch", "trainable", "frozen", "refit", "residual")
SEEDS = (0, 1, 2)
ELEMENTS = (
    "H",
    "Li",
    "B",
    "C",
    "N",
    "O",
    "F",
    "Na",
    "Mg",
    "Al",
    "Si",
    "P",
    "S",
    "Cl",
    "K",
    "Ca",
    "Ti",
    "Mn",
    "Fe",
    "Co",
    "Ni",
    "Zn",
)
NUMBERS = (1, 3, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 20, 22, 25, 26, 27, 28, 30)
FINAL = {
    "scratch": (310.0, 190.0),
    "trainable": (84.0, 62.0),
    "frozen": (92.0, 66.0),
    "refit": (58.0, 55.0),
    "residual": (23.0, 47.0),
}
START = {
    "scratch": (6100.0, 760.0),
    "trainable": (2900.0, 78.0),
    "frozen": (2900.0, 78.0),
    "refit": (480.0, 78.0),
    "residual": (66.0, 78.0),
}
VERSIONS = {"xclimb": "0.1.0", "python": "3.12.4", "torch": "2.6.0", "numpy": "2.1.3", "chgnet": "0.4.2", "ase": "3.25.0"}
THEORY = {
    "low": {"functional": "PBE", "code": "GPAW 26.7", "energy_flavour": "e_0"},
    "high": {"functional": "r2SCAN", "code": "GPAW 26.7", "energy_flavour": "e_0"},
}
SETTINGS = {
    "epochs": 30,
    "lr": 1e-3,
    "batch_atoms": 64,
    "huber_delta": 0.1,
    "weights": {"energy": 3, "forces": 1, "stress": 0.1, "magmom": 1},
}


def dump(file: Path, content) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def metrics(rng, energy: float, forces: float, n_frames: int = 53) -> dict:
    stress = forces / 60 * rng.uniform(0.9, 1.1)
    return {
        "energy_mae": energy,
        "energy_rmse": energy * 1.4,
        "forces_mae": forces,
        "forces_rmse": forces * 1.7,
        "stress_mae": stress,
        "stress_rmse": stress * 1.5,
        "magmom_mae": None if energy > 5000 else 0.031 * rng.uniform(0.9, 1.1),
        "magmom_rmse": None,
        "n_frames": n_frames,
        "n_atoms": 3 * n_frames,
        "n_energy": n_frames,
        "n_forces": 9 * n_frames,
        "n_stress": 9 * n_frames,
        "n_magmoms": 3 * n_frames,
        "notes": [],
    }


def measured(errors: dict, **trial) -> list[dict]:
    """Rows of a long table."""
    return [{"labels": "target", **trial, "metric": name, "value": errors[name]} for name in errors if name != "notes"]


def references(rng, kind: str) -> dict:
    spread = {"source": 0.0, "raw": 0.6, "residual": 0.0, "robust": 0.02}[kind]
    z = np.array(NUMBERS)
    values = (
        -3.0
        - 0.02 * z
        + rng.normal(0, 1.2, len(z)) * 0.6
        - (0 if kind == "source" else 2.5)
        + rng.normal(0, 1, len(z)) * spread
    )
    counts = rng.integers(1, 9, len(z))
    std = 0.05 / np.sqrt(counts) * (8 if kind == "raw" else 1)
    fitted = kind != "source"
    energies = dict(zip(ELEMENTS, values.tolist(), strict=True))
    return {
        "format": 1,
        "kind": kind if fitted else "table",
        "theory": THEORY["high" if fitted else "low"],
        "energies": {**energies, "He": -0.3},
        "std": dict(zip(ELEMENTS, std.tolist() if fitted else [None] * len(z), strict=True)),
        "materials": dict(zip(ELEMENTS, (counts * fitted).tolist(), strict=True)),
        "frames": dict(zip(ELEMENTS, (4 * counts * fitted).tolist(), strict=True)),
        "uncovered": ["He", "Be", "Cs"],
        "undetermined": [["K", "Cl"]] if kind == "raw" else [],
        "n_frames": 183 * fitted,
        "n_materials": 44 * fitted,
        "n_ignored": 0,
        "fit_rmse": None,
        "fit_mae": {"source": None, "raw": 510.0, "residual": 37.0, "robust": 31.0}[kind],
        "held_out_mae": 67.0 if kind == "residual" else None,
        "notes": ["Resting on a single material: Zn."] if fitted else [],
    }


def run_record(method: str, seed: int = 0, state: str = "running", best: int | None = None) -> dict:
    """Content of run.json."""
    data = {
        "train": {"frames": 183, "atoms": 540, "materials": 44, "sha256": "ab" * 32},
        "val": {"frames": 27, "atoms": 78, "materials": 6, "sha256": "cd" * 32},
    }
    return {
        "xclimb": "0.1.0",
        "versions": VERSIONS,
        "method": method,
        "source": "chgnet-0.3.0",
        "seed": seed,
        "state": state,
        "best_epoch": best,
        "theory": {"source": {"functional": "GGA/GGA+U", "code": "VASP", "corrections": None}, "target": THEORY["high"]},
        "data": data,
        "settings": SETTINGS,
    }


def epoch_line(epoch: int, energy: float = 50.0, forces: float = 60.0) -> dict:
    """Line of metrics.jsonl."""
    errors = {"loss": 0.1, "energy_mae": energy, "forces_mae": forces, "stress_mae": 1.0, "magmom_mae": None}
    return {"epoch": epoch, "step": 12 * epoch, "lr": 1e-3, "seconds": 1.9, "train": errors if epoch else None, "val": errors}


def write_run(folder: Path, method: str = "residual", seed: int = 0, epochs: int = 30, state: str = "finished") -> Path:
    rng = np.random.default_rng([seed, METHODS.index(method)])
    t = np.arange(epochs + 1)
    decay = np.exp(-t / (epochs / 6))
    noise = np.exp(rng.normal(0, 0.06, (2, epochs + 1)))
    energy, forces = (
        (f + (s - f) * decay) * noise[i] for i, (s, f) in enumerate(zip(START[method], FINAL[method], strict=True))
    )
    best = int(np.argmin(energy))
    dump(folder / "run.json", run_record(method, seed, state, best))
    lines = []
    for k in t:
        val = {**metrics(rng, float(energy[k]), float(forces[k]), 27), "loss": float(energy[k] / 1000 + forces[k] / 1000)}
        train = (
            None
            if k == 0
            else {
                name: val[name] and val[name] * 0.7 for name in ("loss", "energy_mae", "forces_mae", "stress_mae", "magmom_mae")
            }
        )
        lines.append(
            {
                "epoch": int(k),
                "step": int(12 * k),
                "lr": float(1e-3 * (0.5 + 0.5 * np.cos(np.pi * k / epochs))),
                "seconds": 1.9 * float(k),
                "train": train,
                "val": val,
            }
        )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "config.yaml").write_text(
        f"method: {method}\nsource: chgnet-0.3.0\nepochs: {epochs}\nlr: 0.001\nout: runs/x\nseed: {seed}\n", encoding="utf-8"
    )
    dump(folder / "references.json", references(rng, "residual"))
    dump(
        folder / "evaluation.json",
        {"train": metrics(rng, 12.0, 30.0, 183), "val": metrics(rng, float(energy[best]), float(forces[best]), 27)},
    )
    return folder


def write_predictions(folder: Path, rng, names) -> None:
    n_atoms = rng.integers(1, 12, 53)
    energy, forces, stress = rng.normal(-4, 2, 53), rng.normal(0, 0.8, 3 * n_atoms.sum()), rng.normal(0, 6, 9 * 53)
    scale = {name: FINAL.get(name, (500.0, 75.0)) for name in names}
    dump(
        folder / "predictions.json",
        {
            "frame_id": [f"mat{i // 4}/{i % 4}" for i in range(53)],
            "formula": [f"Al{i % 3 + 1}O2" for i in range(53)],
            "n_atoms": n_atoms.tolist(),
            "reference": {"energy_per_atom": energy.tolist(), "forces": forces.tolist(), "stress": stress.tolist()},
            "models": {
                name: {
                    "energy_per_atom": (energy + rng.normal(0, e / 800, 53)).tolist(),
                    "forces": (forces + rng.normal(0, f / 800, len(forces))).tolist(),
                    "stress": (stress + rng.normal(0, f / 50, len(stress))).tolist(),
                }
                for name, (e, f) in scale.items()
            },
        },
    )


def shift_dict(rng, n: int = 263) -> dict:
    x = rng.dirichlet(np.full(len(ELEMENTS), 0.12), n)
    z = np.array(NUMBERS)
    mu = -0.05 - 0.11 * z + rng.normal(0, 0.2, len(z))
    low = x @ (-2.0 - 0.08 * z) + rng.normal(0, 1.3, n)
    low_inner = rng.normal(0, 0.7, n)
    high = low + x @ mu + rng.normal(0, 0.05, n)
    return {
        "theory_low": THEORY["low"],
        "theory_high": THEORY["high"],
        "paired_by": "frame_id",
        "undetermined": [],
        "spearman_raw": 0.822,
        "spearman_referenced": 0.996,
        "left_over_rmse": 55.4,
        "volume_change": 0.0,
        "material_id": [f"m{i}" for i in range(n)],
        "shift_per_atom": (high - low).tolist(),
        "left_over": (1000 * (high - low - x @ mu)).tolist(),
        "n_pairs": n,
        "n_materials": 63,
        "mean": float((high - low).mean()),
        "std": float((high - low).std()),
        "elements": dict(zip(ELEMENTS, mu.tolist(), strict=True)),
        "element_std": dict(zip(ELEMENTS, [0.03] * len(z), strict=True)),
        "pearson_raw": 0.816,
        "pearson_referenced": 0.9953,
        "left_over_mae": 36.3,
        "outliers": [{"frame_id": "LiMnO2/3", "formula": "LiMnO2", "left_over": -141.2}],
        "frame_id": [f"m{i}/0" for i in range(n)],
        "formula": [f"LiO{i % 4 + 2}" for i in range(n)],
        "notes": ["2 ids (frame_id) of the first set have no partner."],
        "held_out_mae": 61.0,
        "explained": 0.998,
        "forces_mae": 0.0297,
        "forces_slope": 1.02,
        "stress_mae": 1.1,
        "magmom_mae": None,
        "low_energy_per_atom": low.tolist(),
        "high_energy_per_atom": high.tolist(),
        "low_referenced": low_inner.tolist(),
        "high_referenced": (low_inner + rng.normal(0, 0.07, n)).tolist(),
    }


def write_study(folder: Path, methods=METHODS, seeds=SEEDS, title="PBE to r2SCAN on the embedded crystals", **study) -> Path:
    rng = np.random.default_rng(7)
    splits = {"train": (183, 540, 44), "val": (27, 78, 6), "test": (53, 167, 13)}
    dump(
        folder / "study.json",
        {
            "title": title,
            "source": "chgnet-0.3.0",
            "methods": list(methods),
            "seeds": list(seeds),
            "settings": SETTINGS,
            "versions": VERSIONS,
            "theory": THEORY,
            "data": {
                name: {"frames": f, "atoms": a, "materials": m, "sha256": f"{i:x}" * 64}
                for i, (name, (f, a, m)) in enumerate(splits.items())
            },
            "sample": "dft_pairs",
            **study,
        },
    )
    dump(folder / "shift.json", shift_dict(rng))
    for kind in ("source", "raw", "residual", "robust"):
        dump(folder / "references" / f"{kind}.json", references(np.random.default_rng(3), kind))
    baselines = {
        "chgnet-0.3.0": (2884.0, 77.1),
        "chgnet-0.3.0 + residual references": (67.0, 77.1),
        "chgnet-r2scan": (19250.0, 71.4),
        "chgnet-r2scan + residual references": (49.0, 71.4),
    }
    rows = [
        row
        for name, errors in baselines.items()
        for split in splits
        for row in measured(metrics(rng, *errors), model=name, seed=None, kind="baseline", split=split)
    ]
    kept = {"split": "test", "labels": "source"}
    rows += measured(metrics(rng, 41.0, 69.0), model="chgnet-0.3.0", seed=None, kind="baseline", **kept)
    for method in methods:
        for seed in seeds:
            write_run(folder / "runs" / f"{method}-{seed}", method, seed)
            energy, forces = (value * float(np.exp(rng.normal(0, 0.08))) for value in FINAL[method])
            trial = {"model": method, "seed": seed, "kind": "method"}
            for split, k in (("train", 0.6), ("val", 0.9), ("test", 1.0)):
                rows += measured(metrics(rng, energy * k, forces * k), split=split, **trial)
            rows += measured(metrics(rng, energy * 1.3 + 10, forces * 1.1), **kept, **trial)
    dump(folder / "results.json", {"rows": rows, "notes": []})
    write_predictions(folder, rng, [*methods, *baselines])
    return folder
