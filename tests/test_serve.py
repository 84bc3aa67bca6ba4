"""`kzoo serve`: the answers of both protocols, what is refused, switches of versions, and what Prometheus sees."""

import base64
import io
import json
import shlex
import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from ruamel.yaml import YAML
from starlette.testclient import TestClient

from kzoo.errors import ServeError
from kzoo.export.write import export_backbone
from kzoo.serve import server
from kzoo.serve.app import Limits, create_app
from kzoo.serve.refusal import Refusal
from kzoo.serve.tensors import Tensor, as_json, from_nested
from kzoo.serve.versions import Versions, find

SIZE = (4, 4, 3)
PREDICT, INFER = "/v1/models/tiny:predict", "/v2/models/tiny/infer"


def export(directory: Path, seed: int) -> Path:
    keras.utils.set_random_seed(seed)
    image = keras.Input(SIZE, name="image")
    flat = keras.layers.Flatten()(image)
    backbone = keras.Model(image, {"embedding": keras.layers.Dense(2)(flat)})

    def classify(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Brightness by hand, and a name that says which is brighter than half."""
        mean = tf.reduce_mean(pixels, [1, 2, 3])
        return {"brightness": mean, "name": tf.where(mean > 0.5, "bright", "dark")}

    return export_backbone(backbone, directory, name="tiny", metadata={}, signatures={"classify": classify})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export(tmp_path_factory.mktemp("exports"), 1).parent


@pytest.fixture(scope="module")
def versions(folder):
    return Versions(folder)


@pytest.fixture(scope="module")
def client(versions):
    with TestClient(create_app(versions, Limits(max_bytes=20_000)), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def right(folder):
    """right(signature, array): what the SavedModel itself returns."""
    signatures = tf.saved_model.load(str(folder / "1")).signatures
    return lambda name, array: {key: value.numpy() for key, value in signatures[name](tf.constant(array)).items()}


IMAGES = np.random.default_rng(0).integers(0, 256, (3, *SIZE), np.uint8)
FILE = tf.io.encode_png(IMAGES[0]).numpy()
FILE64 = {"b64": base64.b64encode(FILE).decode()}


# ---- TF Serving ------------------------------------------------------------------------------------------------------


def test_rows_and_columns_are_answered_as_the_saved_model_answers(client, right):
    expected = right("serving_default", IMAGES)["embedding"]
    for request, key in (
        ({"instances": IMAGES.tolist()}, "predictions"),
        ({"instances": [{"image": image} for image in IMAGES.tolist()]}, "predictions"),
        ({"inputs": IMAGES.tolist(), "signature_name": "serving_default"}, "outputs"),
        ({"inputs": {"image": IMAGES.tolist()}}, "outputs"),
    ):
        reply = client.post(PREDICT, json=request)
        assert reply.status_code == 200, reply.text
        np.testing.assert_array_equal(np.float32(reply.json()[key]), expected)
    same = client.post("/v1/models/tiny/versions/1:predict", json={"instances": IMAGES.tolist()})
    np.testing.assert_array_equal(np.float32(same.json()["predictions"]), expected)


def test_several_outputs_have_their_names(client):
    pixels = np.stack([np.zeros(SIZE, np.uint8), np.full(SIZE, 255, np.uint8)]).tolist()
    rows = client.post(PREDICT, json={"signature_name": "classify", "instances": pixels}).json()
    dark, bright = {"brightness": 0.0, "name": "dark"}, {"brightness": 1.0, "name": "bright"}
    assert rows == {"predictions": [dark, bright]}
    columns = client.post(PREDICT, json={"signature_name": "classify", "inputs": pixels}).json()
    assert columns == {"outputs": {"brightness": [0.0, 1.0], "name": ["dark", "bright"]}}


def test_files_come_as_base64(client, right):
    expected = right("serve_bytes", [FILE])["embedding"]
    for rows in ([FILE64], [{"image_bytes": FILE64}]):
        reply = client.post(PREDICT, json={"signature_name": "serve_bytes", "instances": rows})
        np.testing.assert_array_equal(np.float32(reply.json()["predictions"]), expected)


def test_the_status_and_the_signatures_are_told(client):
    fine = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/tiny", "/v1/models/tiny/versions/1"):
        assert client.get(path).json() == {"model_version_status": [fine]}
    told = client.get("/v1/models/tiny/metadata").json()
    assert told == client.get("/v1/models/tiny/versions/1/metadata").json()
    assert told["model_spec"] == {"name": "tiny", "signature_name": "", "version": "1"}
    image = told["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["image"]
    assert image["dtype"] == "DT_UINT8"
    assert [side["size"] for side in image["tensor_shape"]["dim"]] == ["-1", "4", "4", "3"]


# ---- Open Inference Protocol -----------------------------------------------------------------------------------------


def tensor(**changed):
    sent = {"name": "image", "shape": [3, *SIZE], "datatype": "UINT8", "data": IMAGES.reshape(-1).tolist()}
    return {key: value for key, value in (sent | changed).items() if value is not None}


def test_tensors_are_answered_flat_or_nested(client, right):
    expected = right("serving_default", IMAGES)["embedding"]
    for data in (IMAGES.reshape(-1).tolist(), IMAGES.tolist()):
        reply = client.post(INFER, json={"id": "7", "inputs": [tensor(data=data)]}).json()
        [output] = reply.pop("outputs")
        assert reply.pop("parameters") == {"signature_name": "serving_default"}
        assert reply == {"model_name": "tiny", "model_version": "1", "id": "7"}
        assert (output["name"], output["datatype"], output["shape"]) == ("embedding", "FP32", [3, 2])
        np.testing.assert_array_equal(np.float32(output["data"]).reshape(3, 2), expected)


def test_the_names_of_the_inputs_say_which_signature_is_meant(client, right):
    expected = right("serve_bytes", [FILE])["embedding"]
    sent = {"name": "image_bytes", "shape": [1], "datatype": "BYTES"}
    plain = {**sent, "data": [FILE64["b64"]], "parameters": {"content_type": "base64"}}
    for one in ({**sent, "data": [FILE64]}, plain):
        reply = client.post("/v2/models/tiny/versions/1/infer", json={"inputs": [one]}).json()
        np.testing.assert_array_equal(np.float32(reply["outputs"][0]["data"]), expected[0])
    request = {"parameters": {"signature_name": "classify"}, "inputs": [tensor()], "outputs": [{"name": "name"}]}
    [output] = client.post(INFER, json=request).json()["outputs"]
    assert output["name"] == "name"
    assert output["datatype"] == "BYTES"
    assert output["data"] == ["bright" if image.mean() > 127.5 else "dark" for image in IMAGES]


def test_health_and_the_tensors_are_told(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["name"] == "kzoo"
    for path in ("/v2/models/tiny/ready", "/v2/models/tiny/versions/1/ready"):
        assert client.get(path).json() == {"name": "tiny", "ready": True}
    told = client.get("/v2/models/tiny").json()
    assert told == client.get("/v2/models/tiny/versions/1").json()
    assert told["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, *SIZE]}]
    assert told["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 2]}]
    assert told["parameters"]["signatures"].keys() == {"serving_default", "serve_bytes", "classify"}


# ---- what is refused -------------------------------------------------------------------------------------------------

IMAGE = IMAGES[0].tolist()
BYTES = {"signature_name": "serve_bytes"}
WIDE = tf.io.encode_png(np.zeros((1, 5000, 3), np.uint8)).numpy()


def put(value):
    """The image with another value in one place."""
    return [[[[value, 0, 0], *IMAGE[0][1:]], *IMAGE[1:]]]


MALFORMED = [
    # path, body, status, what the message says
    (PREDICT, b"", 400, "not JSON"),
    (PREDICT, b"{", 400, "not JSON"),
    (PREDICT, b"\xff\xfe", 400, "not JSON"),
    (PREDICT, b'{"instances": [NaN]}', 400, "not JSON"),
    (PREDICT, b"[" * 9_000, 400, "not JSON"),
    (PREDICT, b'{"instances": [' + b"9," * 9_000 + b"9]}", 400, "lists 1 deep"),
    (PREDICT, b" " * 20_001, 413, "20000 bytes"),
    (PREDICT, [], 400, "a JSON object"),
    (PREDICT, "instances", 400, "a JSON object"),
    (PREDICT, {}, 400, "either"),
    (PREDICT, {"instances": [IMAGE], "inputs": [IMAGE]}, 400, "either"),
    (PREDICT, {"instances": None}, 400, "a list"),
    (PREDICT, {"instances": 1}, 400, "a list"),
    (PREDICT, {"instances": {"image": [IMAGE]}}, 400, "a list"),
    (PREDICT, {"instances": []}, 400, "an empty list"),
    (PREDICT, {"instances": [[]]}, 400, "an empty list"),
    (PREDICT, {"instances": IMAGE}, 400, "expected uint8 [N, 4, 4, 3]"),
    (PREDICT, {"instances": [IMAGE[:-1]]}, 400, "Received: [1, 3, 4, 3]"),
    (PREDICT, {"instances": [[IMAGE]]}, 400, "more than 4 deep"),
    (PREDICT, {"instances": [IMAGE, IMAGE[:-1]]}, 400, "lists of 3 and of 4"),
    (PREDICT, {"instances": [IMAGE, 5]}, 400, "Received: 5"),
    (PREDICT, {"instances": put(256)}, 400, "uint8 is 0 to 255. Received: 256"),
    (PREDICT, {"instances": put(-1)}, 400, "Received: -1"),
    (PREDICT, {"instances": put(10**30)}, 400, "1e+30"),
    (PREDICT, {"instances": put(0.5)}, 400, "the value 0.5"),
    (PREDICT, {"instances": put(True)}, 400, "the value True"),
    (PREDICT, {"instances": put("a\nb")}, 400, "the value 'a\\nb'"),
    (PREDICT, {"instances": put(None)}, 400, "the value None"),
    (PREDICT, {"instances": put({"b64": ""})}, 400, "the value {"),
    (PREDICT, {"instances": [{"picture": IMAGE}]}, 400, "objects with image"),
    (PREDICT, {"instances": [{"image": IMAGE}, IMAGE]}, 400, "objects with image"),
    (PREDICT, {"inputs": {"picture": [IMAGE]}}, 400, "object with image"),
    (PREDICT, {"inputs": "cat.jpg"}, 400, "lists 0 deep"),
    (
        PREDICT,
        {"signature_name": "depth", "instances": [IMAGE]},
        400,
        "there is classify, serve_bytes, serving_default",
    ),
    (PREDICT, {"signature_name": 3, "instances": [IMAGE]}, 400, "signature_name"),
    (PREDICT, {"signature_name": "__saved_model_init_op", "instances": [IMAGE]}, 400, "not served"),
    (PREDICT, {**BYTES, "instances": [7]}, 400, "expected text or"),
    (PREDICT, {**BYTES, "instances": ["cat.jpg"]}, 400, "image_bytes: not a JPEG or PNG file"),
    (PREDICT, {**BYTES, "instances": [{"b64": "?"}]}, 400, "not base64"),
    (PREDICT, {**BYTES, "instances": [{"b64": "é"}]}, 400, "not base64"),
    (PREDICT, {**BYTES, "instances": [{"b64": 7}]}, 400, "expected text or"),
    (PREDICT, {**BYTES, "instances": [{"b64": "", "path": ""}]}, 400, "expected text or"),
    (PREDICT, {**BYTES, "instances": [{"b64": base64.b64encode(FILE[:-20]).decode()}]}, 400, "ends early"),
    (PREDICT, {**BYTES, "instances": [{"b64": base64.b64encode(WIDE).decode()}]}, 400, "sides must be 1 to 4096"),
    (PREDICT, {**BYTES, "instances": [FILE64, FILE64["b64"]]}, 400, "not a JPEG or PNG file"),
    ("/v1/models/huge:predict", {"instances": [IMAGE]}, 404, "'tiny' is"),
    ("/v1/models/tiny/versions/9:predict", {"instances": [IMAGE]}, 404, "1 is"),
    ("/v1/models/tiny/versions/-1:predict", {"instances": [IMAGE]}, 404, "1 is"),
    ("/v1/models/tiny:explain", {"instances": [IMAGE]}, 405, "takes no POST"),
    ("/v1/models/tiny", {}, 405, "takes no POST"),
    ("/v3/models/tiny", {}, 404, "openapi.json"),
    ("/v2/models/huge/infer", {"inputs": [tensor()]}, 404, "'tiny' is"),
    (INFER, b"{", 400, "not JSON"),
    (INFER, {}, 400, "a list of tensors"),
    (INFER, {"inputs": {"image": [IMAGE]}}, 400, "a list of tensors"),
    (INFER, {"inputs": []}, 400, "takes image"),
    (INFER, {"inputs": [tensor(name=None)]}, 400, "each with a name"),
    (INFER, {"inputs": [tensor(name="picture")]}, 400, "takes image"),
    (INFER, {"inputs": [tensor(), tensor()]}, 400, "takes image"),
    (INFER, {"inputs": [tensor(datatype="FP32")]}, 400, "expected UINT8"),
    (INFER, {"inputs": [tensor(datatype=None)]}, 400, "expected UINT8"),
    (INFER, {"inputs": [tensor(shape=[3, -4, -4, 3])]}, 400, "whole numbers"),
    (INFER, {"inputs": [tensor(shape=[True, *SIZE])]}, 400, "whole numbers"),
    (INFER, {"inputs": [tensor(shape=[2, *SIZE])]}, 400, "holds 96 values. Received: 144"),
    (INFER, {"inputs": [tensor(shape=[2, *SIZE], data=IMAGES.tolist())]}, 400, "the data is [3, 4, 4, 3]"),
    (INFER, {"inputs": [tensor(shape=[0, *SIZE])]}, 400, "holds 0 values"),
    (INFER, {"inputs": [tensor(shape=[144])]}, 400, "Received: [144]"),
    (INFER, {"inputs": [tensor(data=None)]}, 400, "data: expected a list"),
    (INFER, {"inputs": [tensor(data=[])]}, 400, "an empty list"),
    (INFER, {"inputs": [tensor()], "parameters": 1}, 400, "parameters"),
    (INFER, {"inputs": [tensor()], "parameters": {"signature_name": None}}, 400, "signature_name"),
    (INFER, {"inputs": [tensor()], "outputs": 1}, 400, "outputs"),
    (INFER, {"inputs": [tensor()], "outputs": [{"name": "map"}]}, 400, "there is embedding"),
]


def test_what_is_malformed_is_refused_in_one_line(client):
    assert len(MALFORMED) >= 50
    for path, body, status, said in MALFORMED:
        reply = client.post(path, content=body if isinstance(body, bytes) else json.dumps(body).encode())
        assert reply.status_code == status, (path, body, reply.text)
        assert reply.headers["content-type"] == "application/json", (path, body, reply.text)
        assert said in reply.json()["error"], (path, body, reply.text)
        assert "\n" not in reply.json()["error"]
    assert client.post(PREDICT, json={"instances": [IMAGE]}).status_code == 200  # still there


def test_a_body_is_refused_while_it_arrives_where_its_length_is_not_told(client):
    reply = client.post(PREDICT, content=(b" " * 10_000 for _ in range(3)))
    assert (reply.status_code, reply.json()["error"][:28]) == (413, "a body of more than 20000 by")


def test_an_answer_that_takes_too_long_is_given_up(versions, monkeypatch):
    monkeypatch.setattr(type(versions.current), "answer", lambda *_: threading.Event().wait(1))
    with TestClient(create_app(versions, Limits(timeout=0.05))) as client:
        reply = client.post(PREDICT, json={"instances": [IMAGE]})
    assert (reply.status_code, reply.json()) == (
        504,
        {"error": "no answer within 0.05 seconds; send fewer examples at once"},
    )


def test_a_fault_of_the_server_is_told_as_one(versions, monkeypatch):
    monkeypatch.setattr(type(versions.current), "answer", lambda *_: 1 / 0)
    with TestClient(create_app(versions), raise_server_exceptions=False) as client:
        reply = client.post(PREDICT, json={"instances": [IMAGE]})
        assert (reply.status_code, list(reply.json())) == (500, ["error"])
        assert 'route="/v1/models/{name}:predict"' in client.get("/metrics").text
        assert client.get("/metrics").text.count('code="500"') == 2  # the count, and when it began


def test_values_have_the_type_that_is_asked_for():
    numbers = Tensor("x", "float32", (None, 2))
    assert from_nested([[1, 2.5]], numbers, "x").tolist() == [[1.0, 2.5]]
    with pytest.raises(Refusal, match="too large for float32"):
        from_nested([[1e39, 0]], numbers, "x")
    flags = Tensor("x", "bool", (None,))
    assert from_nested([True, False], flags, "x").tolist() == [True, False]
    with pytest.raises(Refusal, match=r"expected bool \[N\]. Received: the value 1"):
        from_nested([1], flags, "x")
    texts = np.array([[b"cat", b"\xff"]], object)
    assert as_json(texts, "name") == [["cat", {"b64": "/w=="}]]
    assert as_json(texts[:, 0], "name_bytes") == [{"b64": "Y2F0"}]


# ---- versions --------------------------------------------------------------------------------------------------------


def test_a_new_version_takes_over_and_what_has_begun_ends_on_the_old_one(folder, tmp_path):
    served = tmp_path / "tiny"
    shutil.copytree(folder, served)
    told: list[str] = []
    versions = Versions(served, told.append)
    old, begun = versions.current, versions.current.answer("serving_default", {"image": IMAGES})["embedding"]
    assert export(tmp_path, 2) == served / "2"
    versions.refresh()
    assert (versions.current.version, told) == (2, ["version 2 is served; version 1 finishes what it has begun"])
    np.testing.assert_array_equal(old.answer("serving_default", {"image": IMAGES})["embedding"], begun)
    new = versions.current.answer("serving_default", {"image": IMAGES})["embedding"]
    assert not np.allclose(new, begun)
    with pytest.raises(Refusal, match="version '1' is not served; 2 is"):
        versions.of("tiny", "1")

    # a version that is damaged, or half copied, is passed over and said once; whole again, it is served
    shutil.copytree(served / "1", served / "3")
    data = served / "3" / "variables" / "variables.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    versions.refresh()
    versions.refresh()
    assert versions.current.version == 2
    assert told[1:] == [
        "version 3 is not served: its files are not those it was written with, or not all are there yet"
    ]
    with TestClient(create_app(versions)) as client:
        states = client.get("/v1/models/tiny").json()["model_version_status"]
        assert [(one["version"], one["state"]) for one in states] == [("3", "END"), ("2", "AVAILABLE")]
        assert (
            "not those"
            in client.get("/v1/models/tiny/versions/3").json()["model_version_status"][0]["status"]["error_message"]
        )
        assert client.get("/v1/models/tiny/versions/4").status_code == 404
    data.write_bytes(whole)
    versions.refresh()
    assert versions.current.version == 3

    # the way back: the newest is taken away
    shutil.rmtree(served / "3")
    versions.refresh()
    assert versions.current.version == 2
    shutil.rmtree(served / "2")
    shutil.rmtree(served / "1")
    versions.refresh()
    assert versions.current.version == 2  # nothing else there: what is loaded goes on


def test_the_service_looks_for_new_versions_by_itself(folder, tmp_path):
    served = tmp_path / "tiny"
    shutil.copytree(folder, served)
    with TestClient(create_app(Versions(served, print), Limits(poll=0.01))) as client:
        shutil.copytree(folder / "1", tmp_path / "2")
        (tmp_path / "2").rename(served / "2")
        for _ in range(1_000):
            time.sleep(0.01)
            told = client.get("/v2/models/tiny").json()["versions"]
            if told == ["2"]:
                break
        assert told == ["2"]
        assert 'kzoo_model_version{model="tiny"} 2.0' in client.get("/metrics").text


def test_a_version_of_its_own_is_served_alone(folder, tmp_path):
    served = tmp_path / "tiny"
    shutil.copytree(folder, served)
    shutil.copytree(folder / "1", served / "2")
    assert find(served / "1").numbers == [1]
    assert find(served).numbers == [2, 1]


def test_what_is_no_export_is_told(folder, tmp_path):
    with pytest.raises(ServeError, match="no export; expected a folder of versions"):
        Versions(tmp_path)
    shutil.copytree(folder, tmp_path / "run" / "exports" / "tiny")
    with pytest.raises(ServeError, match=r"a run; serve its export, .*/run/exports/tiny$"):
        Versions(tmp_path / "run")
    graph = tmp_path / "run" / "exports" / "tiny" / "1" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-9])
    with pytest.raises(ServeError, match="tiny/1: its files are not those it was written with"):
        Versions(tmp_path / "run" / "exports" / "tiny")
    (graph.parent / "contract.json").unlink()  # nothing says what its files should be
    with pytest.raises(ServeError, match="tiny/1: "):
        Versions(tmp_path / "run" / "exports" / "tiny")


# ---- what is told of it ----------------------------------------------------------------------------------------------


def test_prometheus_sees_requests_by_route_and_answer(versions):
    with TestClient(create_app(versions)) as client:
        client.post(PREDICT, json={"instances": [IMAGE]})
        client.post(PREDICT, json={"instances": [IMAGE]})
        client.post(PREDICT, json={"instances": []})
        client.get("/nowhere/else")
        told = client.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain")
    route = 'model="tiny",route="/v1/models/{name}:predict"'
    for line in (
        f'kzoo_requests_total{{code="200",{route}}} 2.0',
        f'kzoo_requests_total{{code="400",{route}}} 1.0',
        'kzoo_requests_total{code="404",model="tiny",route="none"} 1.0',
        f"kzoo_request_seconds_count{{{route}}} 3.0",
        'kzoo_model_version{model="tiny"} 1.0',
        'kzoo_requests_running{model="tiny"} 1.0',  # this one
    ):
        assert line in told.text


def test_the_call_that_is_shown_works(versions, client):
    line = server.example(versions.current, "http://somewhere/v1/models/tiny")
    curl, d, body, url = shlex.split(line)
    assert (curl, d, url) == ("curl", "-d", "http://somewhere/v1/models/tiny:predict")
    assert client.post(PREDICT, content=body).status_code == 200


def test_the_start_says_what_is_served_and_where(versions):
    console = Console(width=80, record=True, file=io.StringIO())
    server.introduce(console, versions, "http://127.0.0.1:8501")
    told = console.export_text()
    assert told.startswith("tiny, version 1 of ")
    assert "image: uint8 [N, 4, 4, 3]" in told
    assert "http://127.0.0.1:8501/v2/models/tiny/infer" in told
    assert "curl -d" in told


def test_a_port_that_is_taken_is_told():
    with server._listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=rf"127.0.0.1:{port}: .*; choose another --host or --port"):
            server._listen("127.0.0.1", port)


# ---- the page --------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[1] / "docs" / "serving.md").read_text()


def fence(start: str) -> str:
    """The block of code that begins so."""
    return PAGE.partition(f"```{start}\n")[2].partition("```")[0]


def test_the_page_shows_calls_that_work(client, right, tmp_path, monkeypatch):
    (tmp_path / "cat.png").write_bytes(FILE)
    answered = lambda url, body: io.BytesIO(client.post(url.replace("quickstart", "tiny"), content=body).content)  # noqa: E731
    monkeypatch.setattr("urllib.request.urlopen", answered)
    scope: dict = {}
    exec(fence("python"), scope)
    vectors = scope["embed"](tmp_path / "cat.png", tmp_path / "cat.png")
    np.testing.assert_array_equal(np.float32(vectors), right("serve_bytes", [FILE, FILE])["embedding"])
    request = json.loads(fence("json").replace("28, 28, 1", "4, 4, 3").replace("[0, 0, 255]", str([9] * 48)))
    assert client.post(INFER, json=request).json()["parameters"] == {"signature_name": "classify"}


def test_the_page_has_every_route(client):
    for path in client.get("/openapi.json").json()["paths"]:
        assert path.replace("/versions/{version}", "").replace("{name}", "NAME") in PAGE, path


def test_the_file_for_kserve_has_what_an_inference_service_needs():
    service = YAML(typ="safe").load(fence('yaml title="inference-service.yaml"'))
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    model = service["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "tensorflow"}
    assert model["storageUri"].startswith("pvc://")
    assert service["metadata"]["name"]


def test_the_file_for_ray_serve_builds_the_service(folder, monkeypatch):
    """Without Ray, whose decorators stand aside here: what they are given is the service itself."""
    serve = SimpleNamespace(
        deployment=lambda **how: lambda cls: SimpleNamespace(bind=lambda: cls),
        ingress=lambda build: lambda cls: type(cls.__name__, (cls,), {"build": staticmethod(build)}),
    )
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(serve=serve))
    monkeypatch.setenv("KZOO_EXPORT", str(folder))
    scope: dict = {}
    exec(fence('py title="ray_app.py"'), scope)
    with TestClient(scope["app"].build()) as client:
        assert client.post(PREDICT, json={"instances": [IMAGE]}).status_code == 200
