"""Everything that HTTP itself can get wrong ends in a fitting status and `{"error"}`."""

import http.client

import pytest
from harness import PATIENCE, PREDICT

BODY = '{"instances":[{"prompt":"a","num_inference_steps":1}]}'
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/v1/models/other:predict", 404, "there is no model 'other' here, only 'model'"),
        ("GET", "/v1/models/other", 404, "other"),
        ("GET", "/v2/models/other", 404, "other"),
        ("GET", "/v2/models/other/ready", 404, "other"),
        ("POST", "/v1/models/model:explain", 405, "Method Not Allowed"),
        ("GET", "/nowhere", 404, "/nowhere"),
        ("GET", "/v1/models/", 404, "/v1/models/"),
        ("GET", "/docs", 404, "/docs"),
        ("GET", PREDICT, 405, "Method Not Allowed"),
        ("PUT", PREDICT, 405, "Method Not Allowed"),
        ("DELETE", "/v1/models/model", 405, "Method Not Allowed"),
        ("POST", "/health", 405, "Method Not Allowed"),
    ],
)
def test_wrong_names_and_methods(runtime, method, path, status, message):
    response = runtime.client.request(method, path, content=BODY, headers=JSON)
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert message in response.json()["error"]
    assert "location" not in response.headers
    if status == 405:
        assert response.headers["allow"]


@pytest.mark.parametrize("host", ["[", "a b", "\u00e9", ""])
def test_a_malformed_host_header_changes_nothing(runtime, host):
    headers = {"Host": host.encode("latin-1")}
    assert runtime.client.get("/nowhere", headers=headers).status_code == 404
    assert runtime.client.get("/health", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "application/json-patch+json"],
)
def test_a_body_that_does_not_say_it_is_json(runtime, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    response = runtime.client.post(PREDICT, content=BODY, headers=headers)
    assert response.status_code == 415
    assert "allowed: application/json" in response.json()["error"]


def test_a_json_content_type_may_carry_a_charset(runtime):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert runtime.client.post(PREDICT, content=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize("size", [65537, 5_000_000])
def test_a_declared_body_over_the_limit(runtime, size):
    response = runtime.client.post(PREDICT, content=b" " * size, headers=JSON)
    assert response.status_code == 413
    assert "65536 bytes" in response.json()["error"]


def test_a_body_that_declares_too_much_is_refused_before_it_is_sent(runtime):
    connection = http.client.HTTPConnection("127.0.0.1", runtime.port, timeout=PATIENCE)
    connection.putrequest("POST", PREDICT)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "10000000000")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_body_at_the_limit_is_read(runtime):
    response = runtime.client.post(PREDICT, content=BODY.ljust(65536), headers=JSON)
    assert response.status_code == 200


def test_an_undeclared_body_is_refused_once_it_is_over_the_limit(runtime):
    # Sent in chunks and never ended: the answer can only come from counting.
    connection = http.client.HTTPConnection("127.0.0.1", runtime.port, timeout=PATIENCE)
    connection.putrequest("POST", PREDICT)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for _ in range(5):
        connection.send(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
    response = connection.getresponse()
    assert response.status == 413
    connection.close()


def test_a_client_that_leaves_within_its_body_hurts_nobody(runtime):
    connection = http.client.HTTPConnection("127.0.0.1", runtime.port, timeout=PATIENCE)
    connection.putrequest("POST", PREDICT)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b'{"instances"')
    connection.close()
    assert runtime.client.post(PREDICT, content=BODY, headers=JSON).status_code == 200


def test_a_bug_answers_without_telling_its_cause(runtime, monkeypatch):
    def broken(*_):
        raise KeyError("a private cause")

    monkeypatch.setattr(runtime.worker, "submit", broken)
    response = runtime.client.post(PREDICT, content=BODY, headers=JSON)
    assert response.status_code == 500
    assert list(response.json()) == ["error"]
    assert "private" not in response.text
