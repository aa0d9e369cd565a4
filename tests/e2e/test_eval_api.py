"""POST /eval and /v1/baselines: the same results as the command, over HTTP."""

import io
import json
import struct
import subprocess
import xml.etree.ElementTree as ET
import zipfile

import numpy as np
import pytest
from PIL import Image

from conftest import BINARY, assert_problem, wait_for


def image_zip(maps):
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w", zipfile.ZIP_DEFLATED) as z:
        for name, pixels in maps.items():
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "PNG")
            z.writestr(name, png.getvalue())
    return b.getvalue()


def pairs(shift=1, noise=0):
    """Three sequences of a moving disc, and shifted copies as predictions."""
    rng = np.random.RandomState(noise)
    y, x = np.mgrid[:40, :52]
    pred, gt = {}, {}
    for s, n in (("bear", 6), ("cows", 5), ("dog", 7)):
        for t in range(n):
            name = f"{s}/{t:05d}.png"
            gt[name] = ((np.hypot(x - 14 - 2 * t, y - 20) < 10) * 255).astype(np.uint8)
            p = 255 - 14 * np.hypot(x - 14 - shift - 2 * t, y - 20) + 20 * rng.randn(40, 52)
            pred[name] = np.clip(p, 0, 230).astype(np.uint8)
    return pred, gt


def evaluate(service, pred, gt, status=200, accept=None, files=(), **params):
    files = {"pred": ("pred.zip", image_zip(pred)), "gt": ("gt.zip", image_zip(gt)), **dict(files)}
    r = service.post("/eval", files=files, params=params, headers={"Accept": accept} if accept else {})
    assert r.status_code == status, (r.status_code, r.text[:500])
    return r


def test_same_object_as_the_command(service, tmp_path):
    pred, gt = pairs()
    (tmp_path / "p.zip").write_bytes(image_zip(pred))
    (tmp_path / "g.zip").write_bytes(image_zip(gt))
    command = subprocess.run([BINARY, "eval", "--pred", tmp_path / "p.zip", "--gt", tmp_path / "g.zip", "--protocol",
                              "davis", "--skip", "none", "--min", "max_f=0.5"], capture_output=True, check=True)
    r = evaluate(service, pred, gt, protocol="davis", skip="none", min="max_f:0.5")
    assert r.headers["Content-Type"] == "application/json"
    assert r.json() == json.loads(command.stdout)


def test_gates_and_on_fail(service):
    pred, gt = pairs()
    assert evaluate(service, pred, gt, min="s_measure:0.99").json()["pass"] is False
    r = evaluate(service, pred, gt, status=422, min="s_measure:0.99", on_fail=422)
    assert r.json()["gates"][0]["status"] == "fail" and "overall" in r.json()
    assert evaluate(service, pred, gt, min="s_measure:0.1", on_fail=422).json()["pass"] is True


def test_reports_by_accept(service):
    pred, gt = pairs()
    md = evaluate(service, pred, gt, accept="text/markdown")
    assert md.headers["Content-Type"].startswith("text/markdown") and md.text.startswith("### ")
    junit = evaluate(service, pred, gt, accept="application/junit+xml", min="max_f:0.999")
    assert ET.fromstring(junit.content)[0].get("failures") == "1"
    assert ET.fromstring(evaluate(service, pred, gt, accept="image/svg+xml").content).tag.endswith("svg")
    assert evaluate(service, pred, gt, status=406, accept="image/png").json()["code"] == "not_acceptable"


def test_baselines(service):
    pred, gt = pairs()
    first = evaluate(service, pred, gt).json()
    assert service.get("/v1/baselines/main").status_code == 404
    r = service.request("PUT", "/v1/baselines/main", json=first)
    assert r.status_code == 201 and r.json()["overall"] == first["overall"]
    assert service.get("/v1/baselines/main").json() == first
    drop = {"baseline": "main", "max_drop": "max_f:0.001,mae:0.001", "on_fail": 422}
    assert evaluate(service, pred, gt, **drop).json()["pass"] is True
    other = evaluate(service, pairs(noise=9)[0], gt, baseline="main", max_drop="max_f:0,mae:0,j_mean:0").json()
    assert other["pass"] and {g["status"] for g in other["gates"]} <= {"pass", "noise"}
    worse = evaluate(service, pairs(shift=8)[0], gt, status=422, **drop).json()
    assert [g["status"] for g in worse["gates"]] == ["fail", "fail"]
    sent = evaluate(service, pred, gt, files={"baseline": ("base.json", json.dumps(first))}.items(), max_drop="mae:0.01")
    assert sent.json()["pass"] is True
    assert service.request("PUT", "/v1/baselines/main", json=worse).status_code == 200
    history = service.get("/v1/baselines/main/history").json()["items"]
    assert [h["overall"]["mae"] for h in history] == [first["overall"]["mae"], worse["overall"]["mae"]]
    assert history[0]["created_at"] <= history[1]["created_at"]
    listed = service.get("/v1/baselines").json()["items"]
    assert [(b["name"], b["versions"]) for b in listed] == [("main", 2)]
    assert service.request("DELETE", "/v1/baselines/main").status_code == 204
    assert service.get("/v1/baselines").json()["items"] == []
    assert evaluate(service, pred, gt, status=422, **drop).json()["code"] == "no_such_baseline"


def test_document_is_not_an_upload(make_service):
    """A document's memory once was read as a form's fields: with freed memory overwritten, that shows."""
    service = make_service(env={"MALLOC_PERTURB_": "165"})
    pred, gt = pairs()
    report = evaluate(service, pred, gt).json()
    for status in (201, 200, 200):
        assert service.request("PUT", "/v1/baselines/main", json=report).status_code == status


def test_requests_that_cannot_work_say_why(service):
    pred, gt = pairs()
    less = {k: v for k, v in pred.items() if k != "cows/00002.png"}
    r = evaluate(service, less, gt, status=422).json()
    assert r["code"] == "bad_data" and "cows/00002" in r["detail"]
    broken = image_zip(pred)
    r = service.post("/eval", files={"pred": ("p.zip", broken[: len(broken) // 2]), "gt": ("g.zip", image_zip(gt))})
    assert r.status_code == 422 and "pred: " in r.json()["detail"] and "/" not in r.json()["detail"].split(":")[0]
    assert evaluate(service, pred, gt, status=400, protocol="mine").json()["code"] == "malformed"
    assert evaluate(service, pred, gt, status=400, min="quality:1").json()["code"] == "malformed"
    assert evaluate(service, pred, gt, status=400, colour="red").json()["code"] == "malformed"
    r = service.post("/eval", files={"pred": ("p.zip", image_zip(pred))})
    assert r.status_code == 400 and "ground truth" in r.json()["detail"]
    assert service.request("PUT", "/v1/baselines/..%2fx", json={"overall": {}}).status_code in (400, 404)
    assert service.request("PUT", "/v1/baselines/x", json={"a": 1}).status_code == 400


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_other_methods(service, method):
    r = service.request(method, "/eval")
    assert r.status_code == 405 and "POST" in r.headers["Allow"]


# ---- what strangers send ----------------------------------------------------------------------------------------------


def raw_zip(entries, method=zipfile.ZIP_STORED):
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w", method) as z:
        for name, data in entries.items():
            z.writestr(name, data)
    return b.getvalue()


def encoded(image, kind="PNG"):
    b = io.BytesIO()
    image.save(b, kind)
    return b.getvalue()


def link(name):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


def claim(data, size):
    """The first entry says it has another unpacked size."""
    at = data.index(b"PK\x01\x02")
    return data[: at + 24] + struct.pack("<I", size) + data[at + 28 :]


GREY = np.zeros((40, 52), np.uint8)
HOSTILE = {
    "traversal": (raw_zip({"../../etc/cron.d/x.png": encoded(Image.fromarray(GREY))}), "../../etc/cron.d/x.png"),
    "absolute": (raw_zip({"/etc/x.png": encoded(Image.fromarray(GREY))}), "/etc/x.png"),
    "backslash": (raw_zip({"a\\..\\x.png": encoded(Image.fromarray(GREY))}), "x.png"),
    "link": (raw_zip({link("a/0.png"): "/etc/passwd"}), "symbolic link"),
    "bomb": (raw_zip({"a/0.png": bytes(300 << 20)}, zipfile.ZIP_DEFLATED), "over the limit"),
    "claims less": (claim(raw_zip({"a/0.png": bytes(4 << 20)}, zipfile.ZIP_DEFLATED), 1000), "another size than it claims"),
    "huge picture": (raw_zip({"a/0.png": encoded(Image.fromarray(GREY)).replace(struct.pack(">II", 52, 40), struct.pack(">II", 60000, 60000))}), "a/0.png"),
    "no zip": (b"hello", "pred: "),
    "empty": (raw_zip({}), "no PNG or JPEG images"),
    "torn": (raw_zip({"a/0.png": encoded(Image.fromarray(GREY))})[:-30], "pred: "),
    "tiff": (raw_zip({"a/0.tif": b"II*"}), "a/0.tif: not a PNG or JPEG"),
    "torn picture": (raw_zip({"a/0.png": encoded(Image.fromarray(GREY + np.arange(52, dtype=np.uint8)))[:90]}), "a/0.png"),
    "another size": (raw_zip({"a/0.png": encoded(Image.new("L", (26, 20)))}), "26 x 20"),
    "another name": (raw_zip({"a/1.png": encoded(Image.fromarray(GREY))}), "a/0"),
    "twice": (raw_zip({"a/0.png": encoded(Image.fromarray(GREY)), "a/0.jpg": encoded(Image.fromarray(GREY), "JPEG")}), "two files for one frame"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_predictions_are_refused_by_name(service, kind):
    data, says = HOSTILE[kind]
    r = service.post("/eval", files={"pred": ("p.zip", data), "gt": ("g.zip", image_zip({"a/0.png": GREY}))})
    assert r.status_code in (413, 422), r.text
    assert_problem(r, r.status_code)
    assert says in r.json()["detail"] and str(service.data) not in r.text, r.json()
    wait_for("the uploads to go", lambda: not service.temp_files(), 10)


def test_forms_of_predictions(service):
    """16-bit, palette, bilevel, colour and JPEG predictions of one mask measure as the grey ones do."""
    y, x = np.mgrid[:40, :52]
    gt = ((np.hypot(x - 20, y - 20) < 10) * 255).astype(np.uint8)
    palette = Image.frombytes("P", (52, 40), (gt > 0).astype(np.uint8).tobytes())
    palette.putpalette([0, 0, 0, 128, 0, 0])
    forms = {"deep.png": Image.fromarray(gt.astype(np.uint16) * 257), "labels.png": palette, "bilevel.png": Image.fromarray(gt > 0),
             "colour.png": Image.fromarray(np.stack([gt] * 3, -1)), "alpha.png": Image.fromarray(gt).convert("LA")}
    pred = {f"a/{name}": encoded(image) for name, image in forms.items()} | {"a/photo.jpg": encoded(Image.fromarray(gt), "JPEG")}
    masks = image_zip({f"a/{name.rsplit('/')[-1].rsplit('.')[0]}.png": gt for name in pred})
    r = service.post("/eval", files={"pred": ("p.zip", raw_zip(pred)), "gt": ("g.zip", masks)}, params={"per_frame": "true"})
    assert r.status_code == 200, r.text
    for frame in r.json()["sequences"][0]["per_frame"]:
        assert frame["mae"] == pytest.approx(0, abs=0.03 if frame["frame"] == "photo" else 1e-12), frame
        assert frame["j_mean"] == 1, frame
    resized = service.post("/eval", files={"pred": ("p.zip", image_zip({"a/0.png": gt[::2, ::2]})), "gt": ("g.zip", image_zip({"a/0.png": gt}))},
                           params={"resize": "bilinear"})
    assert resized.status_code == 200 and resized.json()["overall"]["j_mean"] > 0.85, resized.text[:300]
