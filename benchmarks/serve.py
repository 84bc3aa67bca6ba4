"""A real server under two clients while its version changes: no request may fail, each answer is one version's.

    python benchmarks/serve.py [--json benchmarks/results/serve.json]

`kzoo serve` runs in a process of its own, from an export of a small ResNet. Two clients, processes too, send 1,000
requests: images as rows, as columns and as tensors of the Open Inference Protocol, and files. Meanwhile a second
version is put beside the first. Then 50 malformed requests, each of which must be answered with 4xx and a message.
"""

import argparse
import base64
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from record import origin

ROOT = Path(__file__).parents[1]
SIZE = (28, 28, 1)
REQUESTS, CLIENTS, MALFORMED = 1_000, 2, 50
TOLERANCE = 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "serve.json")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, images, files, right = prepare(Path(scratch))
        server, port = start(folder)
        try:
            measured = hammer(folder, port, images, files, right, chosen.requests)
            measured["malformed"] = send_malformed(port, images)
            measured["server_memory_mib"] = memory(server.pid)
        finally:
            server.terminate()
            server.wait(60)
    print(json.dumps(measured, indent=1))
    assert measured["failed"] == 0, measured
    assert measured["of_neither_version"] == 0, measured
    assert min(measured["of_version"].values()) > 0, "the version changed before or after all requests"
    assert all(400 <= int(code) < 500 for code in measured["malformed"]["codes"]), measured
    chosen.json.write_text(json.dumps({**origin(), "clients": CLIENTS, **measured}, indent=1) + "\n")


def prepare(scratch: Path) -> tuple[Path, np.ndarray, list[bytes], dict[str, np.ndarray]]:
    """Two versions, the second still elsewhere; images, files, and what each version makes of both."""
    import keras
    import tensorflow as tf

    import kzoo
    from kzoo.export.write import export_backbone

    images = np.random.default_rng(0).integers(0, 256, (64, *SIZE), np.uint8)
    files = [tf.io.encode_png(image).numpy() for image in images]
    right = {}
    for version in (1, 2):
        keras.utils.set_random_seed(version)
        backbone = kzoo.build_backbone("small_resnet", input_shape=SIZE)
        made = export_backbone(backbone, scratch / f"from-{version}", name="digits", metadata={})
        serve = tf.saved_model.load(str(made)).signatures["serving_default"]
        right[str(version)] = serve(tf.constant(images))["embedding"].numpy()
    folder = scratch / "from-1" / "digits"
    return folder, images, files, right


def start(folder: Path) -> tuple[subprocess.Popen, int]:
    server = subprocess.Popen(
        [sys.executable, "-m", "kzoo", "serve", str(folder), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    for line in server.stdout:
        if found := re.search(r"127\.0\.0\.1:(\d+)/v1/models/digits:predict$", line.strip()):
            return server, int(found[1])
    raise SystemExit("the server did not start")


def hammer(folder: Path, port: int, images: Any, files: Any, right: Any, requests: int) -> dict[str, Any]:
    begun = time.perf_counter()
    with ProcessPoolExecutor(CLIENTS, get_context("spawn")) as pool:
        share = requests // CLIENTS
        running = [pool.submit(client, port, images, files, share, number) for number in range(CLIENTS)]
        while metric(port, "kzoo_requests_total") < requests * 0.3:  # then the second version arrives
            time.sleep(0.05)
        os.rename(folder.parents[1] / "from-2" / "digits" / "1", folder / "2")
        results = [result for one in running for result in one.result()]
    seconds = time.perf_counter() - begun
    versions = Counter(verdict(result, right) for result in results)
    waits = np.sort([result["seconds"] for result in results]) * 1e3
    return {
        "requests": len(results),
        "failed": sum(result["status"] != 200 for result in results),
        "of_version": {name: versions[name] for name in right},
        "of_neither_version": versions["neither"],
        "largest_difference": max(result.get("difference", 0.0) for result in results),
        "requests_per_second": round(len(results) / seconds, 1),
        "milliseconds": {f"p{share}": round(float(np.percentile(waits, share)), 1) for share in (50, 95, 99, 100)},
    }


def client(port: int, images: np.ndarray, files: list[bytes], count: int, seed: int) -> list[dict[str, Any]]:
    """Send `count` requests over one connection, four kinds in turn, each with one to four images."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    random, results = np.random.default_rng(seed), []
    for number in range(count):
        chosen = random.integers(0, len(images), random.integers(1, 5))
        path, body, read = KINDS[number % len(KINDS)](images[chosen], [files[one] for one in chosen])
        begun = time.perf_counter()
        connection.request("POST", path, json.dumps(body))
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        result = {"status": reply.status, "seconds": time.perf_counter() - begun, "chosen": chosen}
        results.append(result | ({"vectors": np.float32(read(answer))} if reply.status == 200 else {"told": answer}))
    return results


def _rows(images: np.ndarray, files: list[bytes]) -> tuple[str, Any, Any]:
    return "/v1/models/digits:predict", {"instances": images.tolist()}, lambda answer: answer["predictions"]


def _columns(images: np.ndarray, files: list[bytes]) -> tuple[str, Any, Any]:
    return "/v1/models/digits:predict", {"inputs": {"image": images.tolist()}}, lambda answer: answer["outputs"]


def _files(images: np.ndarray, files: list[bytes]) -> tuple[str, Any, Any]:
    rows = [{"b64": base64.b64encode(file).decode()} for file in files]
    request = {"signature_name": "serve_bytes", "instances": rows}
    return "/v1/models/digits:predict", request, lambda answer: answer["predictions"]


def _tensors(images: np.ndarray, files: list[bytes]) -> tuple[str, Any, Any]:
    sent = {"name": "image", "shape": list(images.shape), "datatype": "UINT8", "data": images.reshape(-1).tolist()}

    def read(answer: Any) -> Any:
        [output] = answer["outputs"]
        return np.reshape(output["data"], output["shape"])

    return "/v2/models/digits/infer", {"inputs": [sent]}, read


KINDS = (_rows, _columns, _files, _tensors)


def verdict(result: dict[str, Any], right: dict[str, np.ndarray]) -> str:
    """Which version a result is of; its difference is noted."""
    if "vectors" not in result:
        return "neither"
    differences = {
        name: float(np.abs(result["vectors"] - all_[result["chosen"]]).max()) for name, all_ in right.items()
    }
    name = min(differences, key=differences.get)
    result["difference"] = differences[name]
    return name if differences[name] <= TOLERANCE * max(1.0, float(np.abs(right[name]).max())) else "neither"


def send_malformed(port: int, images: np.ndarray) -> dict[str, Any]:
    """Requests that are wrong in as many ways; how often each code came."""
    image, predict, infer = images[0].tolist(), "/v1/models/digits:predict", "/v2/models/digits/infer"
    tensor = {"name": "image", "shape": [1, *SIZE], "datatype": "UINT8", "data": images[0].reshape(-1).tolist()}
    values = [None, True, -1, 256, 0.5, 1e300, "1", {}, [], {"b64": ""}, [[1]], "\x00"]
    bodies: list[tuple[str, Any]] = [
        (predict, {"instances": [[[[value], *image[0][1:]], *image[1:]]]}) for value in values
    ]
    whole = [None, 1, "a", {}, [], [[]], image, [image[:-1]], [[image]], [image, image[1:]], [{"picture": image}]]
    bodies += [(predict, {"instances": value}) for value in whole]
    bodies += [(predict, {"inputs": value}) for value in ({}, {"picture": [image]}, "cat.jpg", [image[1:]])]
    named = ({"signature_name": "depth"}, {"signature_name": 1}, {"inputs": [image]})
    bodies += [(predict, {"instances": [image], **more}) for more in named]
    files = [1, "cat.jpg", {"b64": "?"}, {"b64": 1}, {"b64": base64.b64encode(b"\xff\xd8\xff").decode()}]
    bodies += [(predict, {"signature_name": "serve_bytes", "instances": [value]}) for value in files]
    changes = [
        {"name": "picture"},
        {"datatype": "FP32"},
        {"shape": [2, *SIZE]},
        {"shape": [-1, *SIZE]},
        {"data": []},
        {"data": 1},
    ]
    bodies += [(infer, {"inputs": [{**tensor, **change}]}) for change in changes]
    bodies += [(infer, {"inputs": value}) for value in (None, [], {}, [tensor, tensor])]
    bodies += [(predict, raw) for raw in (b"", b"{", b"\xff", b'{"instances": [NaN]}', b"[" * 100_000)]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    codes: Counter[str] = Counter()
    for path, body in bodies[:MALFORMED]:
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body))
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        assert "\n" not in answer["error"], answer
        codes[str(reply.status)] += 1
    return {"requests": sum(codes.values()), "codes": dict(codes)}


def metric(port: int, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and "/metrics" not in line)


def memory(process: int) -> int:
    """The most that the process ever held, in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024


if __name__ == "__main__":
    main()
