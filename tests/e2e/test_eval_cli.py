"""`salient eval`: protocols, layouts, gates, reports and refusals, against the real binary."""

import io
import json
import os
import pathlib
import struct
import subprocess
import xml.etree.ElementTree as ET
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("SALIENT", ROOT / "build" / "salient")).resolve()
SHARED = pathlib.Path(os.environ.get("SALIENT_SHARED", ROOT / ".." / "shared"))
LENGTHS = {"bear": 7, "cows": 5, "dog-agility": 9}


def run(pred, gt, *args):
    return subprocess.run([BINARY, "eval", "--pred", str(pred), "--gt", str(gt), *map(str, args)], capture_output=True,
                          text=True, timeout=120)


def evaluate(pred, gt, *args, status=0):
    r = run(pred, gt, *args)
    assert r.returncode == status, r.stderr + r.stdout[:500]
    return json.loads(r.stdout)


def refused(pred, gt, *args):
    """The one line that a run which must fail prints."""
    r = run(pred, gt, *args)
    assert r.returncode == 1 and r.stdout == "" and r.stderr.count("\n") == 1, (r.returncode, r.stdout[:300], r.stderr)
    return r.stderr


def frames(seed=0, lengths=LENGTHS, size=(40, 52)):
    """{sequence: [(prediction, mask)]}: a disc that moves, and a noisy, shifted, soft copy of it."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    out = {}
    for s, (name, n) in enumerate(lengths.items()):
        out[name] = []
        for t in range(n):
            d = np.hypot(x - 14 - 2 * t, y - 20 + s)
            p = np.clip(255 - 14 * np.hypot(x - 15 - 2 * t, y - 21 + s) + 30 * rng.randn(*size), 0, 230)
            out[name].append((p.astype(np.uint8), ((d < 9 + s) * 255).astype(np.uint8)))
    return out


def save(root, data, pattern="{}/{:05d}.png"):
    for i, side in enumerate(("pred", "gt")):
        for name, pairs in data.items():
            for t, pair in enumerate(pairs):
                path = root / side / pattern.format(name, t)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pair[i]).save(path)
    return root / "pred", root / "gt"


@pytest.fixture
def video(tmp_path):
    return save(tmp_path, frames())


def pack(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for f in sorted(folder.rglob("*.*")):
            z.write(f, prefix + str(f.relative_to(folder)))
    return path


# ---- values -----------------------------------------------------------------------------------------------------------


def test_reference_values():
    folder = SHARED / "golden" / "metrics"
    if not folder.exists():
        pytest.skip(f"no reference values at {folder}")
    cases = json.loads((folder / "expected.json").read_text())["cases"]
    names = {"MAE": "mae", "S": "s_measure", "wF": "weighted_f", "adpF": "adaptive_f", "maxF": "max_f",
             "meanF": "mean_f", "adpE": "adaptive_e", "maxE": "max_e", "meanE": "mean_e", "J": "j_mean",
             "F_boundary": "f_mean"}
    got = evaluate(folder / "pred", folder / "gt", "--per-frame")
    assert len(got["sequences"][0]["per_frame"]) == len(cases)
    for frame in got["sequences"][0]["per_frame"]:
        for theirs, ours in names.items():
            want = cases[frame["frame"]][theirs]
            if want == "nan":
                assert frame[ours] is None, (frame["frame"], ours)
            else:
                assert frame[ours] == pytest.approx(want, rel=1e-9, abs=1e-9), (frame["frame"], ours)


def f_curve(p, g, thresholds):
    p, g = p / 255, g > 128
    if p.max() != p.min():
        p = (p - p.min()) / (p.max() - p.min())
    out = []
    for t in range(256):
        on = (p * 255).astype(np.uint8) >= t if thresholds == "u8" else p >= 1 - (255 - t) / 255
        tp = (on & g).sum()
        precision, recall = tp / max(on.sum(), 1), tp / max(g.sum(), 1)
        out.append(1.3 * precision * recall / (0.3 * precision + recall) if tp else 0.0)
    return np.array(out)


def davis_statistics(v):
    v = np.array(v)
    ids = np.round(np.linspace(1, len(v), 5) + 1e-10).astype(int) - 1
    return v.mean(), (v > 0.5).mean(), v[ids[0] : ids[1] + 1].mean() - v[ids[3] : ids[4] + 1].mean()


def test_every_averaging(video):
    data = frames()
    cut = {"none": slice(None), "first": slice(1, None), "last": slice(None, -1), "first_last": slice(1, -1)}
    for thresholds, skip, averaging, peak in [  # every pair of words at least once, not every combination
            ("u8", "none", "frames", "dataset"), ("double", "first_last", "sequences", "dataset"),
            ("u8", "first_last", "frames", "sequence"), ("double", "none", "sequences", "frame"),
            ("double", "first", "frames", "frame"), ("u8", "last", "sequences", "sequence")]:
        got = evaluate(*video, "--thresholds", thresholds, "--skip", skip, "--averaging", averaging, "--peak", peak,
                       "--resamples", 10, "--per-frame")
        curves = [np.array([f_curve(p, g, thresholds) for p, g in pairs[cut[skip]]]) for pairs in data.values()]
        n = np.array([len(c) for c in curves])
        weights = n / n.sum() if averaging == "frames" else np.ones(len(n)) / len(n)
        means = np.array([c.mean(axis=0) for c in curves])
        want = {"dataset": (weights @ means).max(), "sequence": weights @ means.max(axis=1),
                "frame": weights @ np.array([c.max(axis=1).mean() for c in curves])}[peak]
        assert got["overall"]["max_f"] == pytest.approx(want, abs=1e-12), (thresholds, skip, averaging, peak)
        assert got["overall"]["mean_f"] == pytest.approx((weights @ means).mean(), abs=1e-12)
        assert got["protocol"]["averaging"] == averaging and got["protocol"]["skip"] == skip
        for k, s in enumerate(got["sequences"]):
            assert s["frames"] == n[k] == len(s["per_frame"])
            for name in "jf":
                mean, recall, decay = davis_statistics([f[f"{name}_mean"] for f in s["per_frame"]])
                assert [s[f"{name}_{x}"] for x in ("mean", "recall", "decay")] == pytest.approx([mean, recall, decay])
        assert got["overall"]["j_mean"] == pytest.approx(weights @ [s["j_mean"] for s in got["sequences"]])
        assert got["overall"]["j_decay"] == pytest.approx(np.mean([s["j_decay"] for s in got["sequences"]]))


def test_protocols_and_overrides(video):
    pysod, davsod, davis = (evaluate(*video, "--protocol", p)["protocol"] for p in ("pysod", "davsod", "davis"))
    assert (pysod["skip"], pysod["averaging"], pysod["thresholds"]) == ("none", "frames", "u8")
    assert (davsod["skip"], davsod["averaging"], davsod["thresholds"]) == ("first_last", "sequences", "double")
    assert (davis["skip"], davis["averaging"], davis["thresholds"]) == ("first_last", "sequences", "u8")
    changed = evaluate(*video, "--protocol", "davis", "--skip", "none", "--thresholds", "u8")["protocol"]
    assert changed["skip"] == "none" and changed["overridden"] == ["skip"]
    assert "pysod, davsod or davis" in refused(*video, "--protocol", "ava")
    assert "none|first|last" in refused(*video, "--skip", "some")


def test_results_do_not_depend_on_threads(video):
    one, two = (run(*video, "--threads", n).stdout for n in (1, 3))
    assert one == two


# ---- layouts and files --------------------------------------------------------------------------------------------------


def test_layouts_agree(tmp_path, video):
    pred, gt = video
    want = evaluate(pred, gt)["overall"]
    zips = pack(pred, tmp_path / "p.zip", "results/v3/"), pack(gt, tmp_path / "g.zip", "DAVIS/Annotations/480p/")
    with zipfile.ZipFile(zips[1], "a") as z:
        z.writestr("DAVIS/JPEGImages/480p/bear/00000.jpg", b"not read")
        z.writestr("DAVIS/README.md", "text")
        z.writestr("__MACOSX/DAVIS/Annotations/480p/bear/._00000.png", b"litter")
    assert evaluate(*zips)["overall"] == want
    assert evaluate(zips[0], gt)["overall"] == want
    nested = save(tmp_path / "n", frames(), "{}/ground-truth/{:05d}.png")[1]
    assert evaluate(pred, nested)["overall"] == want
    flat = save(tmp_path / "f", frames(), "{}_{:05d}.png")
    got = evaluate(*flat)
    assert [s["name"] for s in got["sequences"]] == [""] and got["frames"] == 21
    assert got["overall"]["mae"] == pytest.approx(want["mae"], abs=1e-15)


def test_unmatched_frames_are_named(tmp_path, video):
    pred, gt = video
    (pred / "cows" / "00003.png").rename(pred / "cows" / "00033.png")
    message = refused(pred, gt)
    assert "cows/00003" in message and "cows/00033" in message and "without a prediction" in message
    (pred / "cows" / "00033.png").rename(pred / "cows" / "00003.png")
    Image.new("L", (52, 40)).save(pred / "cows" / "extra.png")
    assert "cows/extra" in refused(pred, gt)
    assert "left out" in evaluate(pred, gt, "--extra", "ignore")["notes"][0]
    (pred / "cows" / "extra.png").rename(pred / "cows" / "00003.jpg")
    assert "two files for one frame" in refused(pred, gt)


def test_sizes(tmp_path, video):
    pred, gt = video
    Image.new("L", (26, 20)).save(pred / "bear" / "00002.png")
    message = refused(pred, gt)
    assert "bear/00002" in message and "26 x 20" in message and "52 x 40" in message
    for how in ("nearest", "bilinear"):
        assert evaluate(pred, gt, "--resize", how)["protocol"]["resize"] == how


def png(rows, filters, bits=8):
    """A PNG of byte rows with the given filter types."""
    raw, up = b"", bytes(len(rows[0]))
    for row, f in zip(rows, filters):
        line, a, c = bytearray(), 0, 0
        for v, b in zip(row, up):
            pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
            paeth = a if pa <= pb and pa <= pc else b if pb <= pc else c
            line.append((v - [0, a, b, (a + b) // 2, paeth][f]) % 256)
            a, c = v, b
        raw, up = raw + bytes([f]) + bytes(line), row

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(rows[0]) * 8 // bits, len(rows), bits, 0, 0, 0, 0)
    data = zlib.compress(raw)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tEXt", b"Software\0test") +
            chunk(b"IDAT", data[:7]) + chunk(b"IDAT", data[7:]) + chunk(b"IEND", b""))


def test_pixel_formats(tmp_path):
    """Every form of file gives the grey values that Pillow (16 bits: OpenCV) reads; seen through MAE against black."""
    rng = np.random.RandomState(3)
    g = rng.randint(0, 256, (11, 24)).astype(np.uint8)
    g[4:, 3:20] = 77  # filters have short ways through flat areas
    (tmp_path / "p").mkdir()
    forms = {"grey": Image.fromarray(g), "bilevel": Image.fromarray(g > 99), "colour": Image.fromarray(rng.randint(0, 256, (11, 24, 3)).astype(np.uint8)),
             "grey_palette": Image.fromarray(g).quantize(256), "grey_palette_4": Image.fromarray(g).quantize(16)}
    want = {}
    for name, image in forms.items():
        image.save(tmp_path / "p" / f"{name}.png")
        want[name] = np.asarray(Image.open(tmp_path / "p" / f"{name}.png").convert("L")).mean()
    Image.fromarray(g).save(tmp_path / "p" / "jpeg.jpg", quality=80)
    want["jpeg"] = np.asarray(Image.open(tmp_path / "p" / "jpeg.jpg").convert("L")).mean()
    deep = rng.randint(0, 65536, (11, 24)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "p" / "deep.png")
    want["deep"] = (deep >> 8).mean()
    labels = Image.frombytes("P", (24, 11), rng.randint(0, 3, (11, 24)).astype(np.uint8).tobytes())
    labels.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    labels.save(tmp_path / "p" / "labels.png")
    want["labels"] = (np.asarray(labels) > 0).mean() * 255
    (tmp_path / "p" / "filters.png").write_bytes(png([bytes(r) for r in g], [0, 1, 2, 3, 4, 4, 3, 2, 1, 1, 4]))
    want["filters"] = g.mean()
    (tmp_path / "p" / "filters_2.png").write_bytes(png([bytes(r) for r in g], [4, 1, 2, 3, 4, 4, 3, 2, 1, 0, 4], 2))
    want["filters_2"] = np.mean([v >> s & 3 for v in g.ravel() for s in (6, 4, 2, 0)]) * 85
    (tmp_path / "g").mkdir()
    for f in (tmp_path / "p").iterdir():
        Image.new("L", Image.open(f).size).save(tmp_path / "g" / f"{f.stem}.png")
    got = evaluate(tmp_path / "p", tmp_path / "g", "--normalize", "none", "--per-frame")
    for frame in got["sequences"][0]["per_frame"]:
        assert frame["mae"] * 255 == pytest.approx(want.pop(frame["frame"]), abs=1e-9), frame["frame"]
    assert not want


def test_masks_coded_0_and_1_are_noticed(tmp_path, video):
    pred, gt = video
    for f in gt.rglob("*.png"):
        Image.fromarray((np.asarray(Image.open(f)) // 255)).save(f)
    got = evaluate(pred, gt)
    assert "gt_threshold=0" in got["notes"][0]
    assert evaluate(pred, gt, "--gt-threshold", 0)["overall"]["j_mean"] > 0.5


# ---- gates --------------------------------------------------------------------------------------------------------------


def worsen(pred, names, by):
    for name in names:
        for f in (pred / name).glob("*.png"):
            p = np.asarray(Image.open(f)).astype(int)
            Image.fromarray(np.clip(np.roll(p, by, 1), 0, 255).astype(np.uint8)).save(f)


def test_min_gates(video):
    got = evaluate(*video, "--min", "s_measure=0.5,max_f:0.5", "--min", "mae=0.5")
    assert got["pass"] and [g["status"] for g in got["gates"]] == ["pass"] * 3
    got = evaluate(*video, "--min", "s_measure=0.5,max_f=0.999", status=3)
    assert not got["pass"] and [g["pass"] for g in got["gates"]] == [True, False]
    got = evaluate(*video, "--min", "mae=0.0001", status=3)  # lower is better: the largest value that passes
    assert "at most" in got["gates"][0]["message"]
    assert "no metric" in refused(*video, "--min", "quality=1")
    assert "not a number" in refused(*video, "--min", "mae=low")
    assert "baseline" in refused(*video, "--max-drop", "max_f=0.1")


def test_regression_is_caught_and_noise_is_not(tmp_path, video):
    pred, gt = video
    base = tmp_path / "base.json"
    base.write_text(run(pred, gt).stdout)
    gates = "--baseline", base, "--max-drop", "max_f=0.001,s_measure=0.001,mae=0.001"
    assert evaluate(pred, gt, *gates)["pass"]

    for name, pairs in frames(seed=5).items():  # other noise, the same quality
        for t, (p, _) in enumerate(pairs):
            Image.fromarray(p).save(pred / name / f"{t:05d}.png")
    got = evaluate(pred, gt, "--baseline", base, "--max-drop", "max_f=0,s_measure=0,mae=0,j_mean=0,weighted_f=0")
    assert got["pass"], got["gates"]
    noisy = [g for g in got["gates"] if g["drop"] > 0]
    assert noisy and all(g["status"] == "noise" and "noise" in g["message"] for g in noisy)
    assert all(g["drop_interval"][0] < 0 < g["drop_interval"][1] for g in noisy)

    worsen(pred, ["dog-agility"], 9)  # one sequence alone
    got = evaluate(pred, gt, *gates, status=3)
    assert [g["status"] for g in got["gates"]] == ["fail"] * 3 and got["gates"][0]["drop"] > 0.01
    worsen(pred, LENGTHS, 9)
    assert evaluate(pred, gt, *gates, status=3)["gates"][0]["drop_interval"][0] > 0


def test_flat_sets_are_paired_by_frame(tmp_path):
    pred, gt = save(tmp_path, frames(), "{}_{:05d}.png")
    base = tmp_path / "base.json"
    base.write_text(run(pred, gt).stdout)
    for f in sorted(pred.iterdir()):
        Image.fromarray(np.roll(np.asarray(Image.open(f)), 1, 1)).save(f)
    got = evaluate(pred, gt, "--baseline", base, "--max-drop", "j_mean=0.001", status=3)
    assert got["confidence"]["over"] == "frames" and got["gates"][0]["drop_interval"][0] > 0


def test_baselines_must_be_comparable(tmp_path, video):
    base = tmp_path / "base.json"
    base.write_text(run(*video, "--protocol", "davis").stdout)
    assert "another protocol: its skip differs" in refused(*video, "--baseline", base)
    base.write_text(run(*video).stdout.replace('"dog-agility"', '"dog"'))
    assert "dog" in refused(*video, "--baseline", base)
    base.write_text("{}")
    assert "overall" in refused(*video, "--baseline", base)
    base.write_text('{"overall": {"max_f": 1.0}}')
    got = evaluate(*video, "--baseline", base, "--max-drop", "max_f=0.01", status=3)
    assert "noise cannot be told" in " ".join(got["notes"])


# ---- reports ------------------------------------------------------------------------------------------------------------


def test_reports(tmp_path, video):
    args = "--min", "max_f=0.99,mae=0.9", "--plot", tmp_path / "plot.svg"
    md = run(*video, *args, "--format", "md")
    assert md.returncode == 3 and "**FAIL**" in md.stdout and "dog-agility" in md.stdout
    junit = run(*video, *args, "--format", "junit", "--output", tmp_path / "junit.xml")
    assert junit.returncode == 3 and junit.stdout == ""
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]
    assert suite.get("tests") == "3" and suite.get("failures") == "1"
    assert [c.get("name") for c in suite.iter("testcase") if c.find("failure") is not None] == ["max_f min 0.99"]
    assert ET.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")
    got = evaluate(*video, "--worst", 3)
    assert len(got["worst"]) == 3 and len(got["curves"]["precision"]) == 256
    values = [w["s_measure"] for w in got["worst"]]
    assert values == sorted(values)
    assert got["confidence"]["intervals"]["s_measure"][0] <= got["overall"]["s_measure"] <= got["confidence"]["intervals"]["s_measure"][1]


# ---- hostile input ------------------------------------------------------------------------------------------------------


def zip_with(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in entries.items():
            z.writestr(name, data)
    return path


def a_png(size=(52, 40)):
    b = io.BytesIO()
    Image.new("L", size, 7).save(b, "PNG")
    return b.getvalue()


def test_hostile_zips(tmp_path, video):
    gt = video[1]
    good = a_png()
    assert "../x.png" in refused(zip_with(tmp_path / "a.zip", {"../x.png": good}), gt)
    assert "/etc/x.png" in refused(zip_with(tmp_path / "b.zip", {"/etc/x.png": good}), gt)
    link = zipfile.ZipInfo("bear/00000.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    assert "symbolic link" in refused(zip_with(tmp_path / "c.zip", {link: "/etc/passwd"}), gt)
    bomb = zip_with(tmp_path / "d.zip", {f"{s}/{t:05d}.png": bytes(4 << 20) for s, n in LENGTHS.items() for t in range(n)})
    data = bytearray(bomb.read_bytes())
    record = data.index(b"PK\x01\x02")
    for claim, answer in ((1 << 30, "over the limit"), (1000, "another size than it claims")):
        data[record + 24 : record + 28] = struct.pack("<I", claim)
        bomb.write_bytes(data)
        message = refused(bomb, gt)
        assert "bear/00000.png" in message and answer in message
    whole = pack(video[0], tmp_path / "e.zip").read_bytes()
    (tmp_path / "e.zip").write_bytes(whole[: len(whole) // 2])
    assert "e.zip" in refused(tmp_path / "e.zip", gt)
    (tmp_path / "f.zip").write_bytes(whole[:2000] + bytes(64) + whole[2064:])
    assert "f.zip" in refused(tmp_path / "f.zip", gt) or "bear" in refused(tmp_path / "f.zip", gt)
    assert "neither a folder nor a zip" in refused(zip_png(tmp_path), gt)


def zip_png(tmp_path):
    (tmp_path / "x.png").write_bytes(a_png())
    return tmp_path / "x.png"


def test_a_zip_whose_entries_overlap_is_refused(tmp_path, video):
    """A quoted-overlap bomb: two directory records for the same bytes."""
    path = zip_with(tmp_path / "o.zip", {"bear/00000.png": a_png(), "bear/00001.png": a_png()})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)
    path.write_bytes(data)
    assert "overlaps" in refused(path, video[1])


def test_damaged_images_are_named(video):
    pred, gt = video
    whole = (pred / "cows" / "00001.png").read_bytes()
    (pred / "cows" / "00001.png").write_bytes(whole[:200])
    assert "cows" in refused(pred, gt) and "00001" in refused(pred, gt)
    (pred / "cows" / "00001.png").write_bytes(b"GIF89a")
    assert "00001" in refused(pred, gt)
    (pred / "cows" / "00001.png").write_bytes(png([bytes(4)] * 4, [0] * 4).replace(struct.pack(">II", 4, 4), struct.pack(">II", 60000, 60000)))
    assert "00001" in refused(pred, gt)


def test_too_short_for_the_protocol(tmp_path):
    pred, gt = save(tmp_path, frames(lengths={"a": 5, "b": 2}))
    assert "'b' has 2 frames" in refused(pred, gt, "--protocol", "davis")
