"""Transform a signal block by block, each rank a share of the blocks.

Usage: mpiexec -n N python3 spectrum.py

The signal is cut into blocks; rank r transforms blocks r, r + N, r + 2N,
... and interpolates each power spectrum at a few frequencies between the
grid points.  Rank 0 collects the results in the order of the blocks and
prints one line with a checksum, which does not depend on N.
"""

import numpy as np
import numpy.fft
import scipy.interpolate
from mpi4py import MPI

BLOCKS = 60
SAMPLES = 512
RATE = 1000.0
FREQUENCIES = np.linspace(11.3, 470.9, 37)


def signal(block):
    """Return the samples of one block: three tones and a drift."""
    time = (np.arange(SAMPLES) + block * SAMPLES) / RATE
    return (
        np.sin(2.0 * np.pi * 50.0 * time)
        + 0.5 * np.sin(2.0 * np.pi * (120.0 + block) * time)
        + 0.25 * np.cos(2.0 * np.pi * 333.3 * time)
        + 0.001 * time
    )


def power_between(block):
    """Return the power of one block at FREQUENCIES, interpolated."""
    samples = signal(block) * np.hanning(SAMPLES)
    power = np.abs(numpy.fft.rfft(samples)) ** 2
    grid = numpy.fft.rfftfreq(SAMPLES, d=1.0 / RATE)
    return scipy.interpolate.CubicSpline(grid, power)(FREQUENCIES)


def main():
    comm = MPI.COMM_WORLD
    mine = {
        block: power_between(block)
        for block in range(comm.rank, BLOCKS, comm.size)
    }
    shares = comm.gather(mine, root=0)
    if comm.rank != 0:
        return
    table = {}
    for share in shares:
        table.update(share)
    total = np.array([table[block] for block in range(BLOCKS)])
    weights = np.cos(np.arange(total.size)).reshape(total.shape)
    print(
        f"spectrum: {len(table)} blocks, {total.size} values, "
        f"sum {total.sum():.6e}, checksum {(total * weights).sum():.6e}",
        flush=True,
    )


if __name__ == "__main__":
    main()
