"""Very many requests of the stock tritonclient, over HTTP and over gRPC, made from its own environment.

    python stock_client_load.py HTTP_ADDRESS GRPC_ADDRESS REQUESTS

Says "warm" when it has made its first, waits for a line, and prints how many bytes it grows by with the others.
"""

import os
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient

WARM_UP = 500
ROWS = np.array([[0.5, -1.0], [2.0, 0.25]], np.float32)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def ask(module, client, requests):
    for _ in range(requests):
        x = module.InferInput("x", ROWS.shape, "FP32")
        x.set_data_from_numpy(ROWS)
        answer = client.infer("pair", [x]).as_numpy("fused")
        assert answer.shape == (2, 3)


def main(http, grpc, requests):
    clients = [
        (module, module.InferenceServerClient(address)) for module, address in ((httpclient, http), (grpcclient, grpc))
    ]
    for module, client in clients:
        ask(module, client, WARM_UP)
    print("warm", flush=True)
    sys.stdin.readline()
    before = resident_bytes()
    for module, client in clients:
        ask(module, client, requests // 2)
    print(resident_bytes() - before, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
