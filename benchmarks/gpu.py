"""What only a GPU shows, in some minutes and unattended, as lines for RESULTS.md. ``make gpu`` runs it.

    python benchmarks/gpu.py [PART ...]        with torch and quorate[serve] installed, and one CUDA device

Each part runs in a process of its own with a time limit: one that fails says so, and the others go on.

    context    what CUDA holds of the GPU for a process beside what torch allocates
    passes     members of one architecture: one by one, batched (vmap), each also recorded as CUDA graphs; fp32, bf16
    guard      a process that takes all that it can, capped to its part of the GPU, and a neighbour that computes on
    pinning    an ensemble on parts of the GPU: which processes hold it, what placement and ``stack`` make of latency

Without a CUDA device it says so. ``--rehearse`` runs all parts on the CPU with networks of toy size: it shows that the
script works, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_networks import build
from quorate.deployments.members.gpu_memory import CONTEXT_BYTES, allowed_bytes, cap_memory
from quorate.deployments.members.packing.choice import same_bits
from quorate.deployments.members.packing.cuda_graphs import CudaStream, Graphs, Recording, Stream, Way
from quorate.deployments.members.packing.stacking import Stack, StackError

FOLDER = Path(__file__).resolve().parent
# Seconds that each part may take; together eight minutes.
LIMITS_S = {"context": 40, "passes": 200, "guard": 60, "pinning": 180}
MIB = 1 << 20
# By name: what ``build`` is told, one row, how many members, numbers of rows; then the same at toy size.
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...], int]] = {
    "perceptron": ({"kind": "perceptron"}, (64,), 8),
    "resnet-50": ({"kind": "resnet"}, (3, 224, 224), 4),
    "vit-b": ({"kind": "vit"}, (3, 224, 224), 4),
    "bert-base": ({"kind": "bert"}, (128,), 4),
}
TOYS: dict[str, tuple[dict[str, Any], tuple[int, ...], int]] = {
    "perceptron": ({"kind": "perceptron"}, (64,), 8),
    "resnet-50": ({"kind": "resnet", "width": 4}, (3, 32, 32), 2),
    "vit-b": ({"kind": "vit", "side": 32, "width": 12, "depth": 1}, (3, 32, 32), 2),
    "bert-base": ({"kind": "bert", "vocabulary": 100, "tokens": 8, "width": 12, "depth": 1}, (8,), 2),
}
ROWS = (1, 8, 32)


class HostStream:
    """What a stream of a GPU is, on the CPU, to rehearse with."""

    def active(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def host(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(*shape, dtype=dtype)

    def device(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.zeros(*shape, dtype=dtype)

    def record(self, run: Callable[[], Tensor]) -> Recording:
        output = run()

        def replay() -> None:
            output.copy_(run())

        return Recording(replay, output)

    def wait(self) -> None:
        pass


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def stream() -> Stream:
    return CudaStream(device()) if torch.cuda.is_available() else HostStream()


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def context(rehearse: bool) -> None:
    """What CUDA holds beside torch, after kernels of all kinds have run."""
    if not torch.cuda.is_available():
        print("context     no GPU")
        return
    before, total = free_bytes()
    with torch.inference_mode():
        build("resnet", 0).cuda()(torch.zeros(1, 3, 224, 224, device="cuda"))
        build("vit", 0).cuda()(torch.zeros(1, 3, 224, 224, device="cuda"))
    synchronize()
    after = torch.cuda.mem_get_info()[0]
    held = before - after - torch.cuda.memory_reserved()
    found = f"{held / MIB:,.0f} MiB of {total / MIB:,.0f}"
    print(f"context     a process holds {found} beside what torch allocates; {CONTEXT_BYTES / MIB:,.0f} are planned")


def free_bytes() -> tuple[float, float]:
    """Free and total memory before this process has a context, as the driver's tool says it."""
    command = ["nvidia-smi", "-i", "0", "--query-gpu=memory.free,memory.total", "--format=csv,noheader,nounits"]
    free, total = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split(",")
    return float(free) * MIB, float(total) * MIB


def passes(rehearse: bool) -> None:
    """Every network in both types."""
    for name, (sizes, shape, members) in (TOYS if rehearse else NETWORKS).items():
        for dtype in (torch.float32, torch.bfloat16):
            label = f"passes      {name:10} x{members} {str(dtype).removeprefix('torch.'):8}"
            try:
                compare_passes(label, sizes, shape, members, dtype)
            except RuntimeError as error:  # out of memory, or a kernel that this GPU lacks
                print(f"{label} failed: {str(error).splitlines()[0][:150]}", flush=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def compare_passes(label: str, sizes: dict[str, Any], shape: tuple[int, ...], members: int, dtype: torch.dtype) -> None:
    """One by one as it comes is 1; then recorded, batched, and batched and recorded."""
    networks = [build(seed=seed, **sizes).to(device(), dtype) for seed in range(members)]
    calls = [network.forward for network in networks]
    one_by_one: Way = lambda tensors: torch.stack([call(*tensors) for call in calls])  # noqa: E731
    with torch.inference_mode():
        example = rows_of(sizes["kind"], 1, shape, dtype)
        found: dict[str, Way] = {"one by one": one_by_one}
        try:
            stack = Stack(networks, calls[0])
            stack.try_out([example.to(device())])
            found["batched"] = stack
        except StackError as error:
            print(f"{label} {error}", flush=True)
        lane = stream()
        recorded = {name: Graphs(lane, [way], [example], ROWS, same_bits, padded=False) for name, way in found.items()}
        for count in ROWS:
            rows = rows_of(sizes["kind"], count, shape, dtype)
            ways = {name: plain_pass(way, rows) for name, way in found.items()}
            ways |= {f"{name}, recorded": recorded_pass(graphs, rows) for name, graphs in recorded.items()}
            print_ways(f"{label} {count:3} rows", ways)


def plain_pass(way: Way, rows: Tensor) -> Callable[[], Tensor]:
    return lambda: way([rows.to(device())]).cpu()


def recorded_pass(graphs: Graphs, rows: Tensor) -> Callable[[], Tensor]:
    return lambda: graphs([rows], len(rows))


def rows_of(kind: str, count: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    random = torch.Generator().manual_seed(0)
    if kind == "bert":
        return torch.randint(0, 100, (count, *shape), generator=random)
    return torch.randn(count, *shape, generator=random).to(dtype)


def print_ways(label: str, ways: dict[str, Callable[[], Tensor]]) -> None:
    first = next(iter(ways.values()))().clone()
    said, plain_s = [], 0.0
    for name, run in ways.items():
        seconds, found = median_s(run), run()
        plain_s = plain_s or seconds
        bits = "" if same_bits(found, first) else f" (differs by {(found - first).abs().max().item():.1e})"
        said.append(f"{name} {1e3 * seconds:.3f} ms {plain_s / seconds:.2f}x{bits}")
    print(f"{label}  {'; '.join(said)}", flush=True)


def median_s(run: Callable[[], object], at_least: int = 5, for_s: float = 0.25) -> float:
    for _ in range(2):
        run()
    found: list[float] = []
    while len(found) < at_least or sum(found) < for_s:
        synchronize()
        started = time.perf_counter()
        run()
        synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def guard(rehearse: bool) -> None:
    """A neighbour computes in this process while another takes all that it is let."""
    if not torch.cuda.is_available():
        print("guard       no GPU")
        return
    part = 0.4
    total = torch.cuda.get_device_properties(0).total_memory
    cap_memory(part)
    network = build("resnet", 0).cuda()
    rows = torch.zeros(8, 3, 224, 224, device="cuda")
    greedy = subprocess.Popen([sys.executable, __file__, "--greedy", str(part)], stdout=subprocess.PIPE, text=True)
    passes = failed = 0
    with torch.inference_mode():
        while greedy.poll() is None:
            try:
                network(rows).cpu()
            except torch.OutOfMemoryError:
                failed += 1
            passes += 1
    assert greedy.stdout is not None
    took = float(greedy.stdout.read())
    allowed = allowed_bytes(part, total)
    print(
        f"guard       a process on num_gpus: {part} took {took / MIB:,.0f} MiB before torch refused it more, of "
        f"{allowed / MIB:,.0f} allowed and {total / MIB:,.0f} there; of {passes} passes beside it {failed} failed"
    )


def take_all(part: float) -> None:
    """Allocate until torch refuses, keep it for a while, and say how much that was."""
    cap_memory(part)
    held: list[Tensor] = []
    with contextlib.suppress(torch.OutOfMemoryError):
        while True:
            held.append(torch.zeros(64 * MIB, dtype=torch.uint8, device="cuda"))
    time.sleep(3)
    print(torch.cuda.memory_reserved())


def pinning(rehearse: bool) -> None:
    """Four members on a quarter of a GPU each; then sharing a process; then as one pass."""
    import ray
    from ray import serve

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    gpus: dict[str, Any] = {} if torch.cuda.is_available() else {"num_gpus": 1}  # a logical one, to rehearse with
    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False, num_cpus=16, **gpus)
    serve.start(proxy_location="Disabled")
    name = "perceptron" if rehearse else "resnet-50"
    try:
        for label, more, member in (
            ("apart", {"placement": "apart"}, {}),
            ("together", {"placement": "together"}, {"stack": False}),
            ("together, stack: true", {"placement": "together"}, {"stack": True}),
        ):
            with deployed(name, more, member) as (url, replicas, fusion_pid):
                print(f"pinning     {label}: {len(replicas)} processes, {holders(replicas, fusion_pid)}", flush=True)
                print(f"pinning     {label}: {asked(url, name)}", flush=True)
    finally:
        serve.shutdown()
        ray.shutdown()


@contextlib.contextmanager
def deployed(
    name: str, more: dict[str, Any], member: dict[str, Any]
) -> Iterator[tuple[str, dict[int, dict[str, Any]], int]]:
    """The ensemble's address, what its replicas say by their processes, and the process of the fusion."""
    from quorate.deployments import parse_spec
    from quorate.deployments.control.deploy import delete, deploy
    from quorate.deployments.control.describe import describe_fusion, describe_members

    sizes, shape, _ = NETWORKS[name]
    members = {
        f"m{seed}": {
            "model": "gpu_networks:build", "config": {**sizes, "seed": seed}, "inputs": ["x"], "max_batch_size": 32,
            "resources": {"num_gpus": 0.25, "num_cpus": 0.1}, **member,
        }
        for seed in range(4)
    }  # fmt: skip
    spec = parse_spec(
        {
            "name": "gpu", "inputs": {"x": {"datatype": "FP32", "shape": list(shape)}}, "members": members,
            "classes": [str(number) for number in range(10)], "fusion": {"rule": "mean", "deadline_s": 30},
            "serving": {"resources": {"num_cpus": 0.1}}, **more,
        }
    )  # fmt: skip
    found = deploy(spec, FOLDER)
    try:
        replicas = {one["pid"]: one for said in describe_members("gpu").values() for one in said}
        yield found.http, replicas, describe_fusion("gpu")[0]["pid"]
    finally:
        delete("gpu")


def holders(replicas: dict[int, dict[str, Any]], fusion_pid: int) -> str:
    """Who has the device open, and whether the fusion has."""
    places = {f"{one['device']} (GPU {','.join(map(str, one['gpu_ids']))})" for one in replicas.values()}
    open_in = sum(map(holds_the_device, replicas))
    fusion = "has" if holds_the_device(fusion_pid) else "has not"
    memory = max(one["memory"]["gpu_bytes"] for one in replicas.values())
    open_by = f"{open_in} have the GPU open, the fusion {fusion}"
    return f"on {', '.join(sorted(places))}, {open_by}, at most {memory / MIB:,.0f} MiB each"


def holds_the_device(pid: int) -> bool:
    with contextlib.suppress(OSError):
        links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
        return any(link.startswith("/dev/nvidia") for link in links)
    return False


def asked(url: str, name: str) -> str:
    """Latency of one client, rows one at a time, and rows per second of requests of 32."""
    from quorate.deployments import Client

    row = np.zeros((1, *NETWORKS[name][1]), np.float32)
    with Client(url) as client:
        for count in (1, 32):
            client.infer("gpu", {"x": np.repeat(row, count, axis=0)})
        single = median_s(lambda: client.infer("gpu", {"x": row}), 20, 2.0)
        many = median_s(lambda: client.infer("gpu", {"x": np.repeat(row, 32, axis=0)}), 5, 2.0)
    return f"one row {1e3 * single:.2f} ms; 32 rows {1e3 * many:.2f} ms, {32 / many:,.0f} rows/s"


PARTS: dict[str, Callable[[bool], None]] = {
    "context": context, "passes": passes, "guard": guard, "pinning": pinning,
}  # fmt: skip


def run_part(part: str, rehearse: bool) -> None:
    """In a process of its own: what has gone wrong on a GPU cannot always be put right in the same one."""
    command = [sys.executable, __file__, "--part", part, *(["--rehearse"] if rehearse else [])]
    started = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = process.communicate(timeout=LIMITS_S[part])[1]
        if process.returncode:
            print(f"{part:11} failed: {(said.strip().splitlines() or ['it ended'])[-1][:300]}")
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        print(f"{part:11} was not done after {LIMITS_S[part]} s")
    print(f"{part:11} took {time.monotonic() - started:.0f} s", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when left out")
    options.add_argument("--rehearse", action="store_true")
    options.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options.add_argument("--greedy", type=float, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.greedy:
        take_all(arguments.greedy)
    elif arguments.part:
        PARTS[arguments.part](arguments.rehearse)
    elif unknown := set(arguments.parts) - set(PARTS):
        options.error(f"no part is called {', '.join(sorted(unknown))}")
    elif not (arguments.rehearse or torch.cuda.is_available()):
        print("no CUDA device on this machine: nothing is measured (--rehearse runs the script on the CPU)")
    else:
        print(described(), flush=True)
        for part in arguments.parts or PARTS:
            run_part(part, arguments.rehearse)


def described() -> str:
    if not torch.cuda.is_available():
        return f"rehearsed on the CPU, torch {torch.__version__}: these figures mean nothing"
    found = torch.cuda.get_device_properties(0)
    return f"{found.name}, {found.total_memory / 2**30:.0f} GiB, torch {torch.__version__}, CUDA {torch.version.cuda}"


if __name__ == "__main__":
    main()
