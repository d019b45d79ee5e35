"""A model of how long a Python program takes to start on many ranks.

Pure: no input or output.  docs/scaling.md explains the terms, where the
constants come from, and what is left out.  Seconds, bytes, requests; what is
of a program is of one of its ranks, unless it says otherwise.
"""

import dataclasses
import math

READERS = 16  # threads that read on rank 0: READERS in src/job.c
FRAME = 4 << 20  # largest payload of a frame: MI_FRAME_MAX in src/format.h
AHEAD = 4  # frames that a follower receives at once: AHEAD in src/receiver.c

# How pumps sleep while nobody waits, seconds: a quarter of the time for which
# nothing has happened, at most IDLE; after PARK the stream is parked.  From
# src/pump.c: SLEEP_PART, SLEEP_IDLE, PARK_AFTER.
PART, IDLE, PARK = 4, 0.1, 1.0

# From when on MPICH broadcasts by a ring, in bytes, if the number of members
# is no power of two (MPIR_CVAR_BCAST_SHORT_MSG_SIZE); and the pieces of our
# broadcasts to all ranks (libmpi_min/collective.c).
RING_ODD = 12 << 10
PIECE = 8 << 10

# Bytes that the start and the end move for each rank or node: sizes of the
# structures in src/node.c and src/job.h.  STARTUP: the largest broadcast, of
# the interpreter's start (counted).
CARD, PLACE, SIGN, USER, USAGE, LEADER, NUMBERS = 16, 24, 64, 4, 16, 4, 280
STARTUP = 22_708


@dataclasses.dataclass(frozen=True)
class Program:
    """What a program needs.

    cpu, cpu_ours: processor seconds, under stock Python from a local disk and
    under python-mpi
    stock, names: metadata requests if nothing is remembered, under stock
    Python and with the strategy names
    per_node, per_rank: the same under stock Python where a node remembers
    names: once per node, and for each rank
    start: those of rank 0's interpreter, one after the other
    first_run, manifest: all requests of rank 0, these included
    reads: pieces of files that stock Python reads; touched: their bytes, of
    shared objects only the pages that it needs; size: bytes of these files as
    a whole
    """

    cpu: float
    cpu_ours: float
    stock: int
    names: int
    per_node: int
    per_rank: int
    start: int
    first_run: int
    manifest: int
    reads: int
    touched: int
    size: int


@dataclasses.dataclass(frozen=True)
class Filesystem:
    """A shared filesystem.

    rate: metadata requests per second; rtt: seconds of a request's way, which
    requests spend beside each other; bandwidth: bytes per second to all
    clients, client: to one; remembers: whether a node keeps names and
    contents for all of its ranks
    """

    rate: float
    rtt: float
    bandwidth: float
    client: float
    remembers: bool = False

    @property
    def answer(self):
        """Return the seconds until an unloaded server has answered."""
        return self.rtt + 1 / self.rate


@dataclasses.dataclass(frozen=True)
class Machine:
    """A cluster.

    slower: how often slower than the measured one a core is with all of its
    node busy; latency, bandwidth: of a message between nodes; poll: how long
    a pump sleeps before it sees a message; wait: the same of a rank in the
    collectives of the start and the end; looks: how often somebody has to
    look before a step of a ring is made
    """

    ranks_per_node: int
    cores: int
    slower: float
    latency: float
    bandwidth: float
    poll: float
    wait: float
    looks: float

    def nodes(self, ranks):
        """Return the number of nodes."""
        return math.ceil(ranks / self.ranks_per_node)

    def work(self, cpu):
        """Return the wall time of that much processor time on every rank."""
        on_node = self.ranks_per_node
        return cpu * self.slower * max(1.0, on_node / self.cores)

    @property
    def hop(self):
        """Return the seconds of a message from one pump to the next."""
        return self.latency + self.poll

    @property
    def step(self):
        """Return the same between ranks in a collective."""
        return self.latency + self.wait


# ---- the servers ----------------------------------------------------------


def residence(clients, think, service):
    """Return the seconds that a request spends at a server with one queue.

    Each of the clients has a request there, or thinks for so long before the
    next one.  Exact mean value analysis (Reiser and Lavenberg, 1980).
    """
    queue = 0.0
    for n in range(1, clients + 1):
        time = service * (1 + queue)
        throughput = n / (think + time)
        queue = throughput * time
        if throughput * service > 1 - 1e-9:  # nothing but the server counts
            return clients * service - think
    return time


def asking(requests, work, ranks, filesystem):
    """Return the seconds in which each rank makes so many requests, one after
    the other, and works for so long in between.
    """
    if requests <= 0:
        return work
    think = filesystem.rtt + work / requests
    service = 1 / filesystem.rate
    return requests * (think + residence(ranks, think, service))


def reading(requests, filesystem, threads=READERS):
    """Return the seconds in which rank 0's threads make the requests."""
    return requests * max(1 / filesystem.rate, filesystem.answer / threads)


# ---- stock Python ---------------------------------------------------------


def stock(program, filesystem, machine, ranks):
    """Return the start-up time of stock Python, without MPI_Init."""
    work = machine.work(program.cpu) + program.reads * filesystem.rtt
    copies = ranks
    requests = program.stock
    chain = 0.0
    if filesystem.remembers:
        copies = machine.nodes(ranks)
        requests = program.per_rank + program.per_node / machine.ranks_per_node
        # Somebody on the node has to wait for all of it.
        chain = program.per_rank + program.per_node
        chain = work + chain * filesystem.answer
    return max(
        asking(requests, work, ranks, filesystem),
        chain,
        copies * program.touched / filesystem.bandwidth,
    )


def names(program, filesystem, machine, ranks):
    """Return that of --strategy names: each rank reads the files."""
    work = machine.work(program.cpu_ours) + program.reads * filesystem.rtt
    return max(
        asking(program.names, work, ranks, filesystem),
        ranks * program.touched / filesystem.bandwidth,
    )


# ---- ours -----------------------------------------------------------------


def depth(members):
    """Return the steps of a message to so many members, by a binomial tree."""
    return math.ceil(math.log2(members)) if members > 1 else 0


def stream(size, machine, nodes):
    """Return the seconds of a broadcast of so many bytes to the leaders.

    Frames follow each other down a tree: the links' time for the bytes, and
    the way of the last frame's header and payload.
    """
    if nodes < 2:
        return 0.0
    return size / machine.bandwidth + 2 * depth(nodes) * machine.hop


def ring(size, machine, nodes):
    """Return the same where MPI broadcasts each frame by a scatter and a ring
    of all leaders, AHEAD frames beside each other.
    """
    if nodes < 2:
        return 0.0
    rounds = math.ceil(math.ceil(size / FRAME) / AHEAD)
    step = machine.latency + machine.looks * machine.poll
    steps = depth(nodes) * machine.hop + (nodes - 1) * step
    return 2 * size / machine.bandwidth + rounds * steps


def answer(machine, nodes, pause, message):
    """Return the most seconds until an ask is answered, if nothing has
    happened anywhere for so long before.

    message: seconds that root's pump needs for a message
    """
    nap = max(min(pause / PART, IDLE), 2 * machine.poll)
    steps = depth(nodes)
    payload = steps * machine.hop  # everybody is awake again
    if pause >= PARK:
        # Root's nap; it wakes everybody, who look at the same time.
        woken = 2 * nap + (nodes - 1) * message + machine.latency
        return woken + steps * machine.hop + payload
    return nap + steps * (machine.latency + nap) + payload


def agreement(machine, ranks):
    """Return the seconds of the start-up's collectives, by trees: over all
    ranks a copy of the communicator, a reduction, three gathers, three
    scatters and six broadcasts of the interpreter's start and the plan; over
    the leaders their list and their communicator.
    """
    nodes = machine.nodes(ranks)
    gathered = ranks * (CARD + SIGN + USER)
    scattered = ranks * (PLACE + SIGN + USAGE)
    steps = 14 * depth(ranks) + 2 * depth(nodes)
    size = gathered + scattered + STARTUP + depth(nodes) * nodes * LEADER
    return steps * machine.step + size / machine.bandwidth


def ours(program, filesystem, machine, ranks, manifest=False, rings=False):
    """Return the start-up time of python-mpi, without MPI_Init.

    A first run reads ahead while the interpreter and the program run; a
    manifest is read from the beginning, beside the interpreter's start.
    rings: with MPICH's own algorithm for full frames, else trees
    """
    move = ring if rings else stream
    work = machine.work(program.cpu_ours)
    start = program.start * filesystem.answer
    nodes = machine.nodes(ranks)
    bytes_ = program.size / min(filesystem.client, filesystem.bandwidth)
    bytes_ = max(bytes_, move(program.size, machine, nodes))
    if manifest:
        ahead = reading(program.manifest, filesystem)
        whole = max(start + work, ahead, bytes_)
    else:
        ahead = reading(program.first_run - program.start, filesystem)
        whole = start + max(work, ahead, bytes_)
    last = 2 * depth(nodes) * machine.hop  # what was read last has to arrive
    return agreement(machine, ranks) + whole + last


# ---- what grows with the job ----------------------------------------------


@dataclasses.dataclass(frozen=True)
class Cost:
    """Something that grows: bytes on rank 0, on every rank (0: on leaders
    only) and on every node, messages that rank 0 takes one by one, seconds.
    """

    name: str
    root: float
    each: float
    node: float
    messages: int
    seconds: float


def costs(machine, ranks, message):
    """Return the Costs of a job's bookkeeping.

    message: seconds that root's pump needs for a message
    """
    nodes = machine.nodes(ranks)
    tree = depth(ranks) * machine.step
    on_node = machine.ranks_per_node

    def each(name, size):
        """So much from every rank to rank 0, or back."""
        time = tree + ranks * size / machine.bandwidth
        return Cost(name, ranks * size, size, on_node * size, 0, time)

    def spread(name, size):
        time = tree + size / machine.bandwidth
        return Cost(name, size, size, on_node * size, 0, time)

    def listed(name, size):
        time = depth(nodes) * (machine.step + size / machine.bandwidth)
        return Cost(name, size, 0, size, 0, time)

    def served(name, count, size):
        time = count * message
        return Cost(name, count * size, 0, size, count, time)

    return [
        each("gather of cards", CARD),
        each("scatter of places", PLACE),
        each("gather of signs", SIGN),
        each("scatter of signs", SIGN),
        each("gather of users", USER),
        each("scatter of usages", USAGE),
        listed("list of the leaders", nodes * LEADER),
        spread("broadcast of the start", STARTUP),
        served("one ask by every node", nodes - 1, 100),
        served("leaders that are done", nodes - 1, 4),
        each("gather of numbers (--timing)", NUMBERS),
    ]
