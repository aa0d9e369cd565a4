"""API keys: who gets in, what a key may do, whose resources it sees, and pages of other sites."""

import re
import socket
import subprocess

import pytest
from browser import SHOTS, browser, chromium, emulate, find, press, text, until  # noqa: F401 (fixtures)
from conftest import BINARY, ROOT, assert_problem, wait_for

SCOPES = ("read", "submit", "annotate", "admin")
ROUTES = re.findall(r'^ROUTE\((\w+), "([^"]+)", (\w+), \w+, (\w+),', (ROOT / "api" / "routes.def").read_text(), re.M)


def key(data, *args):
    """Runs `salient key` and returns its standard output."""
    r = subprocess.run([BINARY, "key", *args, "--data", str(data)], capture_output=True, text=True, check=True)
    return r.stdout.strip()


def counts(service, secret):
    """The service knows the key; a service that has not seen its first key yet says that it is open."""
    session = service.get("/v1/session", headers=bearer(secret)).json()
    return session["scopes"] and not session["open"]


def add_key(service, name="ci", **options):
    """A new key that the running service already knows."""
    args = [a for k, v in options.items() for a in (f"--{k.replace('_', '-')}", str(v))]
    secret = key(service.data, "add", name, *args)
    wait_for("the key to count", lambda: counts(service, secret))
    return secret


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def scopes_of(service, secret):
    return service.get("/v1/session", headers=bearer(secret)).json()["scopes"]


def key_id(data, name):
    return next(line.split()[0] for line in key(data, "list").splitlines() if f" {name} " in line)


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A service with keys, one for each single scope."""
    from conftest import Service, check_clean
    s = Service(tmp_path_factory.mktemp("locked") / "data", ["--workers", 0], ready=False)
    s.keys = {scope: add_key(s, scope, scopes=scope) for scope in SCOPES}
    yield s
    check_clean(s)


def request(service, method, pattern, headers):
    path = re.sub(r"\{n\}", "0", re.sub(r"\{(?!n\})\w+\}", "x", pattern))
    return service.request(method, path, headers=headers)


@pytest.mark.parametrize("method,pattern,operation,scope", [r for r in ROUTES if r[3] != "OPEN"],
                         ids=lambda v: v if str(v).islower() and "/" not in v else "")
def test_every_route_wants_its_scope(locked, method, pattern, operation, scope):
    assert_problem(request(locked, method, pattern, {}), 401, "unauthorized")
    assert_problem(request(locked, method, pattern, bearer("salient_" + "0" * 64)), 401, "unauthorized")
    for name, secret in locked.keys.items():
        answer = request(locked, method, pattern, bearer(secret))
        if name in (scope.lower(), "admin"):
            assert answer.status_code not in (401, 403), answer.text
        else:
            assert_problem(answer, 403, "insufficient_scope")


def test_the_health_of_a_locked_service_is_open(locked):
    for path in ("/healthz", "/version", "/openapi.json", "/", "/js/main.js"):
        assert locked.get(path).status_code == 200
    answer = locked.get("/v1/jobs")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_secrets_are_not_stored_or_logged(locked):
    secret = locked.keys["read"]
    locked.get("/v1/jobs", headers=bearer(secret))
    assert re.fullmatch("salient_[0-9a-f]{64}", secret)
    for path in [*locked.data.glob("salient.db*"), locked.log_path]:
        assert secret.encode() not in path.read_bytes()


def test_keys_end(locked):
    secret = add_key(locked, "brief", scopes="read")
    name = key_id(locked.data, "brief")
    fresh = key(locked.data, "rotate", name, "--grace", "0")
    wait_for("the new secret", lambda: scopes_of(locked, fresh) == ["read"])
    assert scopes_of(locked, secret) == []
    kept = key(locked.data, "rotate", name, "--grace", "600")
    wait_for("the newer secret", lambda: scopes_of(locked, kept) == ["read"])
    assert scopes_of(locked, fresh) == ["read"]
    key(locked.data, "revoke", name)
    wait_for("the revocation", lambda: scopes_of(locked, kept) == [])
    assert_problem(locked.get("/v1/jobs", headers=bearer(fresh)), 401, "unauthorized")
    r = subprocess.run([BINARY, "key", "revoke", name, "--data", locked.data], capture_output=True, text=True)
    assert r.returncode == 1 and "revoked" in r.stderr


def test_tenants_do_not_see_each_other(locked, clips):
    a, b = (add_key(locked, t, scopes="read,submit", tenant=t) for t in ("left", "right"))
    with open(clips["short"], "rb") as f:
        clip = locked.post("/v1/clips", files={"clip": f}, headers=bearer(a)).json()
    job = locked.post("/v1/saliency", json={"clip_id": clip["id"]}, headers=bearer(a))
    assert job.status_code in (202, 503), job.text  # no worker is running here
    assert locked.get(f"/v1/clips/{clip['id']}", headers=bearer(a)).status_code == 200
    assert_problem(locked.get(f"/v1/clips/{clip['id']}", headers=bearer(b)), 404)
    assert_problem(locked.request("DELETE", f"/v1/clips/{clip['id']}", headers=bearer(b)), 404)
    assert clip["id"] not in locked.get("/v1/clips", headers=bearer(b)).text
    assert clip["id"] in locked.get("/v1/clips", headers=bearer(locked.keys["admin"])).text


def test_a_browser_keeps_its_key_in_a_cookie(locked):
    assert_problem(locked.post("/v1/session"), 401, "unauthorized")
    assert_problem(locked.post("/v1/session", headers=bearer("salient_nonsense")), 401)
    answer = locked.post("/v1/session", headers={**bearer(locked.keys["read"]), "X-Forwarded-Proto": "https"})
    cookie = answer.headers["Set-Cookie"]
    assert answer.json()["scopes"] == ["read"]
    assert all(rule in cookie for rule in ("HttpOnly", "SameSite=Strict", "Secure", "Path=/"))
    crumb = {"Cookie": "theme=dark; " + cookie.split(";")[0]}
    assert locked.get("/v1/jobs", headers=crumb).status_code == 200
    assert_problem(locked.post("/v1/clips", headers=crumb), 403, "insufficient_scope")
    assert "Max-Age=0" in locked.request("DELETE", "/v1/session").headers["Set-Cookie"]


def test_the_page_asks_for_a_key(locked, browser):  # noqa: F811
    browser.get(f"{locked.url}/#/queue")
    until(browser, lambda: find(browser, "dialog.signin input"), "the question")
    find(browser, "#api-key")[0].send_keys("salient_wrong\n")
    until(browser, lambda: "does not know" in text(browser, "dialog.signin .error"), "the refusal")
    browser.save_screenshot(str(SHOTS / "signin.png"))
    emulate(browser, 390, 844, dark=True, mobile=True)
    browser.save_screenshot(str(SHOTS / "signin-phone.png"))
    find(browser, "#api-key")[0].clear()
    find(browser, "#api-key")[0].send_keys(locked.keys["read"])
    press(browser, "Continue")
    until(browser, lambda: not find(browser, "dialog"), "the end of the question")
    browser.refresh()
    until(browser, lambda: find(browser, "#main table") or find(browser, "#main p"), "the queue, without a question")
    assert not find(browser, "dialog")
    assert locked.keys["read"] not in browser.execute_script("return document.cookie + JSON.stringify(sessionStorage)")
    browser.delete_all_cookies()


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": "null"},
                                     {"Sec-Fetch-Site": "cross-site"}], ids=str)
def test_pages_of_other_sites_change_nothing(service, clips, headers):
    with open(clips["picture.png"], "rb") as f:
        answer = service.post("/v1/clips", files={"clip": f}, headers=headers)
    assert_problem(answer, 403, "cross_site")
    own = {"Origin": service.url, "Sec-Fetch-Site": "same-origin"}
    with open(clips["picture.png"], "rb") as f:
        assert service.post("/v1/clips", files={"clip": f}, headers=own).status_code in (200, 201)


def test_a_rebound_name_does_not_reach_an_open_service(service):
    assert_problem(service.get("/v1/jobs", headers={"Host": "evil.example:8080"}), 403, "unknown_host")
    for host in ("localhost:1", "127.0.0.1", "[::1]:80"):
        assert service.get("/v1/jobs", headers={"Host": host}).status_code == 200


def test_an_open_service_does_not_listen_to_other_machines(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [BINARY, "serve", "--listen", f"0.0.0.0:{port}", "--data", tmp_path / "data", "--workers", "0"]
    r = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert r.returncode == 1 and "no API key" in r.stderr and "--open" in r.stderr


@pytest.mark.parametrize("unlocked", ["key", "open"])
def test_with_a_key_or_by_order_it_does(make_service, tmp_path, unlocked):
    if unlocked == "key":
        secret = key(tmp_path / "data", "add", "admin", "--scopes", "admin")
    args = ["--listen", "0.0.0.0:0", "--workers", 0, *(["--open"] if unlocked == "open" else [])]
    s = make_service(*args, ready=False)
    answer = s.get("/v1/jobs", headers={"Host": "salient.example"})
    if unlocked == "open":
        assert answer.status_code == 200
    else:
        assert_problem(answer, 401)
        assert s.get("/v1/jobs", headers=bearer(secret)).status_code == 200


def test_bad_keys_of_the_command_line(tmp_path):
    for args, said in ((["add", "x", "--scopes", "fly"], "'fly' is not a scope"), (["add", "x", "--scopes", ""], "needs a scope"),
                       (["revoke", "nobody"], "no API key"), (["add"], "say:"), ([], "say:"), (["dance"], "say:")):
        r = subprocess.run([BINARY, "key", *args, "--data", tmp_path], capture_output=True, text=True, check=False)
        assert r.returncode == 1 and said in r.stderr, (args, r.stderr)
