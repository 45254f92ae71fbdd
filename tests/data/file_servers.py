"""Servers on loopback for tests and benchmarks: S3 by moto, and an HTTP server that fails as it is told."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

BUCKET = "videos"


@dataclass
class FlakyServer:
    """Serves `files` by path. `faults` are taken one a request: an HTTP status, "stall" or "break"."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[int | str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    slow_s: float = 0.0
    states_length: bool = True
    url: str = ""


@contextmanager
def http_server(served: FlakyServer) -> Iterator[FlakyServer]:
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.requests.append(self.path)
            fault = served.faults.pop(0) if served.faults else None
            body = served.files.get(self.path)
            if isinstance(fault, int) or body is None:
                self.send_response(fault if isinstance(fault, int) else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.close_connection = fault is not None or not served.states_length
            if served.states_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fault is not None:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                if fault == "stall":
                    ended.wait(30)
                return
            if served.slow_s:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                time.sleep(served.slow_s)
                body = body[len(body) // 2 :]
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def s3_server() -> Iterator[str]:
    """An S3 server with the bucket `videos`, and an environment that leads boto and s3fs there; yields its
    address."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    environment = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "loopback",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with patch.dict(os.environ, environment):
            forget_drivers()
            client().create_bucket(Bucket=BUCKET)
            yield address
    finally:
        forget_drivers()
        server.stop()


def client() -> Any:
    """A client of the server that the environment names."""
    import boto3

    return boto3.client("s3")


def upload(file: Path, key: str) -> str:
    """Put a file into the bucket; returns its URL."""
    client().put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())
    return f"s3://{BUCKET}/{key}"


def forget_drivers() -> None:
    """Drop drivers that hold the connections and credentials of an earlier server."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
