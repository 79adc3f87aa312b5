"""Fuzzes a running server from its own OpenAPI document. `cargo xtask fuzz` calls this; docs/http-api.md explains it.

Starts the sandbox and a server of their own on loopback, connects accounts, publishes and schedules something, and lets schemathesis send
requests that fit the document and requests that do not. What must not happen: an answer of 5xx, an answer that the document does not
describe, a wrong body taken for a right one, a line at ERROR in the server's log, the end of the server.
"""

import argparse
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import zlib

HERE = pathlib.Path(__file__).resolve().parent
ADMIN = "admin-key-of-the-fuzzer-0123456789"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Api:
    """Requests without anything between them and the server."""

    def __init__(self, port):
        self.port = port

    def send(self, method, path, key=None, body=None, headers=None):
        headers = dict(headers or {})
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers["Content-Type"] = "application/json"
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            line.request(method, path, body=body, headers=headers)
            answer = line.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            line.close()

    def json(self, method, path, key=None, body=None):
        status, _, text = self.send(method, path, key, body)
        if status >= 300:
            raise SystemExit(f"{method} {path} was answered with {status}: {text[:500]!r}")
        return json.loads(text) if text else None

    def connect(self, key, platform):
        """What a person does in a browser."""
        link = urllib.parse.urlsplit(self.json("POST", "/auth/links", key, {"platform": platform})["url"])
        _, headers, _ = self.send("GET", f"{link.path}?{link.query}")
        cookie = headers["Set-Cookie"].split(";")[0]
        consent = urllib.parse.urlsplit(headers["Location"])
        network = Api(consent.port)
        _, headers, _ = network.send("GET", f"{consent.path}?{consent.query}&auto=approve")
        back = urllib.parse.urlsplit(headers["Location"])
        status, _, text = self.send("GET", f"{back.path}?{back.query}", headers={"Cookie": cookie})
        if status != 200:
            raise SystemExit(f"{platform} could not be connected: {status} {text[:500]!r}")


def wait_for(port, path, child):
    for _ in range(300):
        if child.poll() is not None:
            raise SystemExit(f"{child.args[0]} ended with {child.returncode}")
        try:
            if Api(port).send("GET", path)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"nothing answers on port {port}")


def png():
    """A picture of one grey pixel."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (1).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b"")


def furnish(api):
    """Users, keys, accounts, files and posts, so that requests find something."""
    user = api.json("POST", "/users", ADMIN, {"email": "fuzz@example.com"})["id"]
    make_key = lambda name: api.json("POST", "/keys", ADMIN, {"user_id": user, "name": name})
    key = make_key("fuzz")["key"]
    api.connect(key, "x")
    api.connect(key, "linkedin")
    accounts = api.json("GET", "/accounts", key)["items"]
    connections = api.json("GET", "/connections", key)["items"]
    of = lambda items, platform: [one["id"] for one in items if one["platform"] == platform]
    media = json.loads(api.send("POST", "/media", key, png(), {"Content-Type": "image/png"})[2])
    posts = []
    for number, extra in enumerate([{}, {"scheduled_time": "2030-01-01T09:00:00Z"}, {"media": [{"id": media["id"]}]}]):
        body = {"content": f"fuzz {number}", "accounts": of(accounts, "x")} | extra
        posts.append(api.json("POST", "/post/schedule", key, body)["id"])
    for _ in range(200):
        if api.json("GET", f"/posts/{posts[0]}", key)["status"] == "published":
            break
        time.sleep(0.1)
    shown = [api.json("GET", f"/posts/{post}", key) for post in posts]
    known = {
        "users": [user],
        "accounts": of(accounts, "x"),
        "spare_accounts": of(accounts, "linkedin"),
        "spare_connections": of(connections, "linkedin"),
        "posts": posts,
        "deliveries": [delivery["id"] for post in shown for delivery in post["deliveries"]],
        "media": [media["id"]],
        "tokens": [media["url"].rsplit("/", 1)[1]],
        "platforms": ["x", "linkedin"],
        "spare_keys": [make_key(f"spare {number}")["id"] for number in range(5)],
    }
    return key, known


def fuzz(port, key, known, options, folder, selection):
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json"]
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    if program.exists():
        command = [str(program), "run", f"http://127.0.0.1:{port}/openapi.json"]
    checks = [check for check in CHECKS if not (options.only_answers and check == "negative_data_rejection")]
    command += ["--header", f"Authorization: Bearer {key}", "--checks", ",".join(checks), "--phases", "examples,coverage,fuzzing"]
    command += ["--max-examples", str(options.examples), "--seed", str(options.seed), "--continue-on-failure"]
    command += ["--request-timeout", "30", "--warnings", "off", *selection]
    environment = os.environ | {"FUZZ_KNOWN": json.dumps(known), "SCHEMATHESIS_HOOKS": "hooks", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(HERE)}
    # It keeps what it learns in its working folder.
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def statuses(api):
    """How often the server answered with what, as it counted itself."""
    found = {}
    for line in api.send("GET", "/metrics", ADMIN)[2].decode().splitlines():
        if line.startswith("social_http_requests_total{"):
            labels, count = line.rsplit(" ", 1)
            status = labels.split('status="')[1].split('"')[0]
            found[status] = found.get(status, 0) + int(float(count))
    return dict(sorted(found.items()))


def errors_of(log):
    found = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            level = json.loads(line).get("level")
        except ValueError:
            level = "ERROR" if "panicked" in line else None
        if level == "ERROR":
            found.append(line)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder with social-server and social-sandbox")
    parser.add_argument("--only-answers", action="store_true", help="look at what is answered, not at what is accepted")
    parser.add_argument("--examples", type=int, default=200, help="requests of each kind for each operation")
    parser.add_argument("--seed", type=int, default=20261122)
    options = parser.parse_args()
    # Whoever ends this ends what it started as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="social-fuzz-") as name:
        folder = pathlib.Path(name)
        sandbox_port, port = free_port(), free_port()
        started = []
        try:
            with open(folder / "sandbox.log", "wb") as log:
                command = [options.bin / "social-sandbox", "--listen", f"127.0.0.1:{sandbox_port}"]
                command += ["--processing-ms", "0", "--limits", "off"]
                started.append(subprocess.Popen(command, stdout=log, stderr=log))
            wait_for(sandbox_port, "/", started[0])
            keys = subprocess.check_output([options.bin / "social-server", "keys", "generate"], text=True).strip()
            environment = {name: value for name, value in os.environ.items() if not name.startswith("SOCIAL_")}
            environment |= {
                "SOCIAL_DATABASE_URL": f"sqlite://{folder / 'social.db'}",
                "SOCIAL_LISTEN": f"127.0.0.1:{port}",
                "SOCIAL_MASTER_KEYS": keys,
                "SOCIAL_ADMIN_KEY": ADMIN,
                "SOCIAL_MEDIA_DIR": str(folder / "media"),
                "SOCIAL_REQUEST_LIMITS": "off",
                "SOCIAL_RATE_LIMITS": "off",
                "SOCIAL_LOG_FORMAT": "json",
                "SOCIAL_LOG": "warn",
            }
            for network in ("x", "linkedin"):
                environment[f"SOCIAL_{network.upper()}_CLIENT_ID"] = f"sandbox-{network}-client"
                environment[f"SOCIAL_{network.upper()}_CLIENT_SECRET"] = f"sandbox-{network}-secret"
                environment[f"SOCIAL_{network.upper()}_BASE_URL"] = f"http://127.0.0.1:{sandbox_port}/{network}"
            with open(folder / "server.log", "wb") as log:
                command = [options.bin / "social-server", "serve"]
                started.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log))
            wait_for(port, "/readyz", started[1])
            key, known = furnish(Api(port))
            # Events never end, so they cannot be waited for; they have tests of their own.
            of_users = ["--exclude-tag", "admin", "--exclude-path", "/events", "--exclude-path", "/metrics"]
            of_the_admin = ["--include-tag", "admin", "--include-path", "/metrics"]
            codes = [
                fuzz(port, key, known, options, folder, of_users),
                fuzz(port, ADMIN, known, options, folder, of_the_admin),
            ]
            alive = started[1].poll() is None and Api(port).send("GET", "/readyz")[0] == 200
            answers = statuses(Api(port)) if alive else {}
            errors = errors_of(folder / "server.log")
        finally:
            for child in reversed(started):
                child.terminate()
            for child in reversed(started):
                try:
                    child.wait(30)
                except subprocess.TimeoutExpired:
                    child.kill()
        for line in errors[:20]:
            print(f"logged at ERROR: {line}")
        held = not any(codes) and alive and not errors
        summary = {"held": held, "schemathesis": codes, "alive": alive, "errors": len(errors), "seed": options.seed}
        print(json.dumps(summary | {"answers": answers}))
        sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
