"""Lets ranks go wrong, and prints how soon and how well the others say so.

usage: faults.py FAULT_RANK [--runs N] [--kill-runs N] [--backends NAME...]
                 [--faults NAME...] [--seed N] [--check]

FAULT_RANK is the program of fault_rank.cpp. Each run starts 2 to 4 processes
that train, and one of them goes wrong:

  killed     SIGKILL from outside, at a random time
  stopped    SIGSTOP from outside, at a random time
  throw      throws; exit: calls exit(0); return: returns early; crash: SIGSEGV;
             stop: SIGSTOP in the place of a call; alone: the same, of the
             only rank of a host (network namespaces)
  shape, dtype, reduction, collective, root, order, too few, too many
             makes another call than the others
  link       the cable between two hosts (network namespaces) is pulled

A row has, for one backend and fault, the runs; the survivors that threw; those
whose error names the rank at fault as the cause, and those whose error names
the call that they were in; the seconds from the fault until the last survivor
of a run had thrown (median, 99th percentile, worst); and what was left behind:
processes, sockets that listen, files, shared memory.

Over mpi the ranks are mpirun's, which ends them when one has ended badly: there
a run counts as one survivor, and the first report suffices.

A row is marked where not every survivor named both, something was left, or the
time misses its target: 99 % within 2 s and all within 5 s; for a link 20 s, and
for one that stops alone 5 s.

--check  ends with 1 where a row is marked for another reason than the time
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TWO_HOSTS = str(pathlib.Path(__file__).resolve().parent.parent
                / "tests/testing/two_hosts.sh")

SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}
# Faults of the program, and which call after those that were done goes wrong.
CALLS = {"throw": 1, "exit": 1, "return": 1, "crash": 1, "shape": 1, "dtype": 1,
         "reduction": 1, "collective": 1, "root": 2, "order": 1, "too few": 1,
         "too many": 3, "stop": 1, "alone": 1}
ON_TWO_HOSTS = ["alone", "link"]
ENDS = ["throw", "exit", "return", "crash"]
DISAGREEMENTS = ["shape", "dtype", "reduction", "collective", "root", "order",
                 "too few", "too many"]
FAULTS = {
    "shm": [*SIGNALS, *ENDS, *DISAGREEMENTS],
    "gloo": [*SIGNALS, *ENDS, *DISAGREEMENTS, *ON_TWO_HOSTS],
    # mpirun ends all ranks at once where one is killed or exits.
    "mpi": ["stop", "throw", "return", *DISAGREEMENTS],
}
HANGS_AFTER = 90  # seconds, a run
ENDS_WITHIN = 2  # seconds that a killed process may take to be gone


def limits(fault):
    """The seconds within which 99 % and all survivors are to know."""
    return {"link": (20, 20), "alone": (5, 5)}.get(fault, (2, 5))


def clean_environment():
    """Ours, without the variables of a launcher."""
    prefixes = ("COLONNADE_", "OMPI_", "PMI", "MPI_", "SLURM_", "RANK",
                "WORLD_SIZE", "LOCAL_", "MASTER_", "TORCHELASTIC_")
    return {name: value for name, value in os.environ.items()
            if not name.startswith(prefixes)}


class Run:
    """Ranks of one run, their output in files of a folder of their own."""

    def __init__(self, program, backend, size, fault, rank, step):
        self.size = size
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="faults-"))
        self.memory = shared_memory()
        self.environment = clean_environment()
        self.environment |= {"TMPDIR": str(self.folder / "tmp"),
                             "COLONNADE_BACKEND": backend}
        (self.folder / "tmp").mkdir()
        kind = "none" if fault in SIGNALS else (
            "stop" if fault == "alone" else fault)
        command = [program, kind, str(rank),
                   str(1_000_000_000 if fault in SIGNALS else step)]
        self.processes = []
        if fault in ON_TWO_HOSTS:
            # Each rank's output is a file of its own, as below.
            script = f'exec "$@" >{self.folder}/out$COLONNADE_RANK 2>&1'
            self.start([TWO_HOSTS, str(size), "bash", "-c", script, "-",
                        *command], self.folder / "launcher")
        elif backend == "mpi":
            self.start(["mpirun", "--allow-run-as-root", "--oversubscribe",
                        "-n", str(size), *command], self.folder / "launcher")
        else:
            for rank in range(size):
                # As mpirun would, but without its ending the survivors.
                self.environment |= {
                    "OMPI_COMM_WORLD_RANK": str(rank),
                    "OMPI_COMM_WORLD_SIZE": str(size),
                    "OMPI_COMM_WORLD_LOCAL_SIZE": str(size)}
                self.start(command, self.folder / f"out{rank}")

    def start(self, command, out):
        with open(out, "w") as file:
            self.processes.append(subprocess.Popen(
                command, env=self.environment, stdout=file, stderr=file,
                start_new_session=True))

    def out(self, name):
        try:
            return (self.folder / name).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_until_it_trains(self):
        end = time.monotonic() + HANGS_AFTER
        for rank in range(self.size):
            while "running\n" not in self.out(f"out{rank}"):
                if time.monotonic() > end:
                    raise RuntimeError(f"rank {rank} does not train: "
                                       + self.out(f"out{rank}"))
                time.sleep(0.02)

    def send(self, rank, number):
        """Returns when it was sent, in nanoseconds."""
        now = time.monotonic_ns()
        os.kill(self.processes[rank].pid, number)
        return now

    def listening(self):
        """The sockets of the ranks that listen now."""
        mine = set()
        for process in self.processes:
            folder = f"/proc/{process.pid}/fd"
            try:
                for file in os.listdir(folder):
                    target = os.readlink(f"{folder}/{file}")
                    mine |= set(re.findall(r"socket:\[(\d+)\]", target))
            except OSError:  # it has ended meanwhile
                pass
        return mine & listening_sockets()

    def wait_for_errors(self, ranks):
        """Whether these have said what went wrong; all are ended then."""
        end = time.monotonic() + HANGS_AFTER
        waiting = set(ranks)
        while waiting and time.monotonic() < end:
            time.sleep(0.02)
            waiting = {rank for rank in waiting
                       if "\ncall " not in self.out(f"out{rank}")}
        for process in self.processes:
            process.kill()
        return not waiting

    def wait(self, but=None):
        """Whether all have ended; those that hang are killed."""
        end = time.monotonic() + HANGS_AFTER
        good = True
        for rank, process in enumerate(self.processes):
            if rank == but:
                continue
            try:
                process.wait(timeout=max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                good = False
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        return good

    def left(self, sockets):
        """What is still there, now that the ranks have ended."""
        found = [f"file {path.name}" for path in (self.folder / "tmp").iterdir()
                 if not path.name.startswith(("ompi.", "openmpi"))]
        found += [f"/dev/shm/{name}" for name in shared_memory() - self.memory]
        found += [f"socket {inode}" for inode in sockets & listening_sockets()]
        # mpirun does not wait until those that it has killed are gone.
        end = time.monotonic() + ENDS_WITHIN
        sessions = {process.pid for process in self.processes}
        while (alive := in_sessions(sessions)) and time.monotonic() < end:
            time.sleep(0.02)
        return found + alive

    def remove(self):
        shutil.rmtree(self.folder)


def shared_memory():
    return {name for name in os.listdir("/dev/shm")
            if name.startswith("colonnade")}


def listening_sockets():
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            for line in open(table):
                fields = line.split()
                if fields[3] == "0A":
                    inodes.add(fields[9])
        except OSError:
            pass
    return inodes


def in_sessions(sessions):
    """The processes of these sessions that live."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = open(f"/proc/{name}/stat").read()
            except OSError:
                continue
            state, _, _, its_session = stat[stat.rindex(")") + 2:].split()[:4]
            if int(its_session) in sessions and state not in "ZX":
                found.append(f"process {stat[:stat.rindex(')') + 1]} in state "
                             f"{state}")
    return found


def names_cause(text, fault, rank, size, own):
    """Whether the error says, first of all, which rank was at fault."""
    if fault == "link":  # of a rank on the other host
        first_on_right = (size + 1) // 2
        others = [other for other in range(size)
                  if (other < first_on_right) != (own < first_on_right)]
        return any(text.startswith(f"rank {other} ") for other in others)
    if fault in DISAGREEMENTS and size == 2:  # either may be right
        return re.match(r"ranks 0 and 1 did not make the same call", text)
    return text.startswith(f"rank {rank} ")


class Row:
    def __init__(self, backend, fault):
        self.backend, self.fault = backend, fault
        self.runs = self.survivors = self.threw = 0
        self.right_rank = self.right_call = 0
        self.seconds, self.left, self.wrong = [], [], []

    def note(self, survivors, threw, right_rank, right_call, seconds, left,
             text):
        self.runs += 1
        self.survivors += survivors
        self.threw += threw
        self.right_rank += right_rank
        self.right_call += right_call
        if seconds is not None:
            self.seconds.append(seconds)
        self.left += left
        if min(threw, right_rank, right_call) < survivors or left:
            self.wrong.append(text)

    def percentile(self, part):
        times = sorted(self.seconds)
        if not times:
            return float("nan")
        return times[min(len(times) - 1, int(part * len(times)))]

    def is_right(self):
        return (min(self.threw, self.right_rank, self.right_call)
                == self.survivors and not self.left)

    def is_in_time(self):
        soon, latest = limits(self.fault)
        return (self.percentile(0.99) <= soon
                and self.percentile(1) <= latest)

    HEADER = (f"{'backend':8}{'fault':12}{'runs':>5}{'survivors':>10}"
              f"{'threw':>6}{'rank':>6}{'call':>6}{'median':>9}{'p99':>8}"
              f"{'worst':>8}{'left':>5}")

    def __str__(self):
        return (f"{self.backend:8}{self.fault:12}{self.runs:5}"
                f"{self.survivors:10}{self.threw:6}{self.right_rank:6}"
                f"{self.right_call:6}{self.percentile(0.5):8.3f}s"
                f"{self.percentile(0.99):7.3f}s{self.percentile(1):7.3f}s"
                f"{len(self.left):5}"
                + ("" if self.is_right() else "  WRONG")
                + ("" if self.is_in_time() else "  LATE"))


def fault_of(out):
    """When the rank said that it goes wrong, and after how many calls."""
    found = re.search(r"^fault (\d+) (\d+)$", out, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


def judge(out, fault, rank, size, own, number):
    """When the rank threw, whether it names the rank, and the call."""
    error = re.search(r"^error (\d+) (.*)$", out, re.MULTILINE)
    call = re.search(r"^call (\d+) (.*)$", out, re.MULTILINE)
    if not error or not call:
        return None
    text = error[2]
    right_call = (call[2] in text and f'call {call[1]} of group "' in text
                  and (number is None or int(call[1]) == number))
    return (int(error[1]), bool(names_cause(text, fault, rank, size, own)),
            right_call)


def place_of(fault, dice):
    """How many ranks there are, and which goes wrong."""
    if fault == "alone":  # also the one that serves the store
        return dice.choice([(2, 0), (2, 1), (3, 2)])
    size = dice.randint(2, 4)
    return size, dice.randrange(size)


def try_fault(row, program, dice):
    size, rank = place_of(row.fault, dice)
    step = dice.randint(4, 12)
    run = Run(program, row.backend, size, row.fault, rank, step)
    fault = None
    if row.fault in SIGNALS:
        run.wait_until_it_trains()
        time.sleep(dice.random())
        sockets = run.listening()
        fault = (run.send(rank, SIGNALS[row.fault]), None)
    else:
        sockets = run.listening()
    survivors = [i for i in range(size)
                 if i != rank or row.fault in DISAGREEMENTS
                 or row.fault == "link"]
    all_ended = (row.fault != "alone" or run.wait_for_errors(survivors))
    all_ended &= run.wait(but=rank if row.fault == "stopped" else None)
    outs = ([run.out("launcher")] if row.backend == "mpi"
            else [run.out(f"out{i}") for i in range(size)])
    fault = fault or next(filter(None, map(fault_of, outs)), None)
    text = f"{row.backend}, {row.fault} of rank {rank} of {size}:\n" + "\n".join(
        f"  {line}" for out in [run.out("launcher"), *outs]
        for line in out.splitlines())
    number = None
    # The last bytes of a call may reach some ranks before the link is cut.
    if fault and fault[1] is not None and row.fault != "link":
        number = fault[1] + CALLS.get(row.fault, 1)
    if row.backend == "mpi":
        note_first_report(row, run, outs[0], fault, rank, size, number, text)
    else:
        verdicts = [judge(outs[i], row.fault, rank, size, i, number)
                    for i in survivors]
        threw = list(filter(None, verdicts))
        row.note(len(survivors), len(threw), sum(v[1] for v in threw),
                 sum(v[2] for v in threw),
                 (max(v[0] for v in threw) - fault[0]) / 1e9
                 if threw and fault else None,
                 run.left(sockets) + ([] if all_ended else ["ranks that hang"]),
                 text)
    run.remove()


def note_first_report(row, run, out, fault, rank, size, number, text):
    """Over mpi: any rank's report will do, and mpirun mixes their lines."""
    verdicts = []
    for line in out.splitlines():
        error = re.match(r"error (\d+) (.*)$", line)
        if error:
            verdicts.append((
                int(error[1]),
                bool(names_cause(error[2], row.fault, rank, size, None)),
                f'call {number} of group "' in error[2]))
    first = min(verdicts, default=None)
    row.note(1, int(first is not None), int(first is not None and first[1]),
             int(first is not None and first[2]),
             (first[0] - fault[0]) / 1e9 if first and fault else None,
             run.left(set()), text)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kill-runs", type=int, default=200)
    parser.add_argument("--backends", nargs="+", default=list(FAULTS))
    parser.add_argument("--faults", nargs="+")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()

    why_no_link = subprocess.run([TWO_HOSTS, "--why-not"], text=True,
                                 capture_output=True).stdout.strip()
    rows = []
    print(Row.HEADER)
    for backend in options.backends:
        if backend == "mpi" and not shutil.which("mpirun"):
            print("mpi: there is no mpirun here")
            continue
        for fault in FAULTS[backend]:
            if options.faults and fault not in options.faults:
                continue
            if fault in ON_TWO_HOSTS and why_no_link:
                print(f"{backend}, link: {why_no_link}")
                continue
            dice = random.Random(f"{options.seed} {backend} {fault}")
            row = Row(backend, fault)
            for _ in range(options.kill_runs if fault == "killed"
                           else options.runs):
                try_fault(row, options.program, dice)
            print(row, flush=True)
            rows.append(row)
    for row in rows:
        for text in row.wrong:
            print(f"\nA run that went wrong:\n{text}")
        if row.left:
            print("left: " + ", ".join(row.left))
    return 1 if options.check and not all(r.is_right() for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
