"""What the setting ``precision: bf16`` costs in accuracy: in one training step, and in what trainings come to.

Usage: python benchmarks/precision.py [--epochs 6] [--seeds 3] [--device cpu] [--out benchmarks/results/precision.json]

A step: 16 crystals of the embedded sample, energies, forces, stress, moments and the gradient of the loss against a float64
run. Trainings: method residual on the crystals of up to four atoms, the same seeds with either precision, each validated in
float32. The table in docs/training.md is made of the file that this writes.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import xclimb
from xclimb.config import TransferConfig
from xclimb.runs.folder import versions
from xclimb.training.batches import BatchSource
from xclimb.training.engine import Engine, run_on_devices
from xclimb.training.objective import objective
from xclimb.units import MEV_PER_EV, ev_a3_to_gpa

FRAMES = xclimb.load_sample("dft_pairs", functional="r2SCAN")
CRYSTALS = 16
KINDS = ("energy", "forces", "stress", "magmoms")


def one_step(engine: Engine, config: TransferConfig) -> tuple[list[np.ndarray], np.ndarray]:
    """Energies (meV/atom), forces (meV/Å), stress (GPa), moments (µB) of a batch, and the gradient of its loss."""
    start = xclimb.load("chgnet-0.3.0", dtype=config.dtype)
    references = xclimb.fit_references(FRAMES, potential=start, kind="residual")
    frames = FRAMES[np.random.default_rng(0).permutation(len(FRAMES))[:CRYSTALS]]
    network = start.model.to(engine.device).requires_grad_(True)
    batch = BatchSource(frames, references.energy(frames), start.graph, start.dtype, engine.device).batch(np.arange(CRYSTALS))
    found = engine.forward(network)(batch.graph, True)
    objective(found, batch.targets, batch.graph.n_atoms, config.loss)[0].backward()
    labels = (
        MEV_PER_EV * found.energy / batch.graph.n_atoms,
        MEV_PER_EV * found.forces,
        ev_a3_to_gpa(found.stress),
        found.magmoms,
    )
    slopes = [parameter.grad.reshape(-1) for parameter in network.parameters() if parameter.grad is not None]
    return [label.detach().double().cpu().numpy() for label in labels], torch.cat(slopes).double().cpu().numpy()


def step_row(name: str, device: str, exact: tuple, **settings: str) -> dict:
    """Mean and largest deviation of each label from the float64 run, and of the gradient: its angle and its relative size."""
    config = TransferConfig(device=device, **settings)
    labels, gradient = run_on_devices(config, one_step, config)
    off = [np.abs(mine - true) for mine, true in zip(labels, exact[0], strict=True)]
    norm = np.linalg.norm
    return {
        "what": name,
        **{kind: [float(each.mean()), float(each.max())] for kind, each in zip(KINDS, off, strict=True)},
        "gradient": float(norm(gradient - exact[1]) / norm(exact[1])),
        "cosine": float(gradient @ exact[1] / norm(gradient) / norm(exact[1])),
    }


def training_row(seed: int, precision: str, epochs: int, device: str) -> dict:
    """Validation errors after the last epoch, and what an epoch took."""
    small = FRAMES[FRAMES.n_atoms <= 4]
    settings = {"precision": precision, "device": device, "batch_size": 8, "audit_frames": 0}
    with tempfile.TemporaryDirectory() as folder:
        run = xclimb.transfer(train=small, out=Path(folder) / "run", epochs=epochs, seed=seed, progress=False, **settings)
    seconds = float(np.median([line["seconds"] for line in run.history[1:]]))
    return {"seed": seed, "precision": precision, "seconds": seconds, **run.history[-1]["val"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "precision.json")
    args = parser.parse_args()
    double = TransferConfig(dtype="float64")
    exact = run_on_devices(double, one_step, double)
    steps = [step_row(name, args.device, exact, precision=name) for name in ("full", "bf16")]
    for row in steps:
        print(json.dumps(row), flush=True)
    trainings = []
    for seed in range(args.seeds):
        for precision in ("full", "bf16"):
            began = time.perf_counter()
            trainings.append(training_row(seed, precision, args.epochs, args.device))
            print(json.dumps(trainings[-1]), f"{time.perf_counter() - began:.0f} s", flush=True)
    found = {"crystals": CRYSTALS, "epochs": args.epochs, "device": args.device, "versions": versions()}
    args.out.write_text(json.dumps(found | {"steps": steps, "trainings": trainings}, indent=1) + "\n")


if __name__ == "__main__":
    main()
