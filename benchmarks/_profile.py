"""Where the time of one prediction and one training step goes, by operation (torch's own profiler, one thread).

Usage: python benchmarks/_profile.py [predict | train_step]
"""

import sys
from pathlib import Path

import torch
from torch.profiler import profile

sys.path.insert(0, str(Path(__file__).parent))
from peers import Ours, supercell, teacher

import xclimb


def main() -> None:
    """Profile five calls and print the operations that take longest."""
    task = sys.argv[1] if len(sys.argv) > 1 else "predict"
    torch.set_num_threads(1)
    frames = xclimb.Frames.from_ase([supercell(2)]) if task == "predict" else teacher(40)
    call = getattr(Ours(), task)(frames)
    call()
    with profile() as profiled:
        for _ in range(5):
            call()
    print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=36))


if __name__ == "__main__":
    main()
