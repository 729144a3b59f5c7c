"""Where the time of one prediction or one training step goes, by function, compiled kernels included (one thread).

Usage: python benchmarks/_profile.py [predict | train_step]
"""

import cProfile
import pstats
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from peers import Ours, supercell, teacher

import xclimb


def main() -> None:
    """Profile ten calls and print the functions that take longest themselves."""
    task = sys.argv[1] if len(sys.argv) > 1 else "predict"
    torch.set_num_threads(1)
    frames = xclimb.Frames.from_ase([supercell(3)]) if task == "predict" else teacher(16)
    call = getattr(Ours(), task)(frames)
    call()
    with cProfile.Profile() as profiled:
        for _ in range(10):
            call()
    pstats.Stats(profiled).sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    main()
