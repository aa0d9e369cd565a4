"""Exports load in the formats' own tools, imports take them back, and what is hostile is refused whole."""

import io
import json
import xml.etree.ElementTree as ET
import zipfile

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from conftest import assert_problem
from test_projects import FRAMES, H, W, Project, add_labels, clip_zip, mask, png

FORMATS = ("davis", "coco", "youtube-vos", "cvat")


def two_objects():
    a = np.zeros((H, W), np.uint8)
    a[4:20, 6:15] = 1
    a[18:40, 30:60:2] = 2
    image = Image.fromarray(a).convert("P")
    image = Image.new("P", (W, H))
    image.putdata(a.ravel().tolist())
    image.putpalette([v for i in range(256) for v in (i, 255 - i, i * 7 % 256)])
    return a, png(image)


def truth(project):
    """frame -> labels, as the service has them."""
    out = {}
    for f, l in project.labels().items():
        if l["mask"] and l["state"] == "accepted":
            image = Image.open(io.BytesIO(project.get(f"labels/{f}.png").content))
            a = np.array(image)
            out[f] = a if image.mode == "P" else (a > 0).astype(np.uint8)
    return out


@pytest.fixture(scope="module")
def full(service, tmp_path_factory):
    """A project with keyframes of one and two objects, accepted and proposed labels."""
    p = Project(service, clip_zip(tmp_path_factory.mktemp("clips") / "walk.zip", shift=3))
    p.put(0, two_objects()[1])
    p.put(10, mask(20))
    add_labels(service, p, range(1, 10), lambda f: f / 10)
    assert service.post(f"{p.base}/labels/accept", json={"min_confidence": 0.75}).json() == {"accepted": 2}
    assert sorted(truth(p)) == [0, 8, 9, 10]
    return p


def export(project, fmt, tmp_path=None, **params):
    r = project.service.get(f"/v1/projects/{project.id}/export", params={"format": fmt, **params})
    assert r.status_code == 200, r.text
    assert r.headers["Content-Disposition"] == f'attachment; filename="walk-{fmt}.zip"'
    z = zipfile.ZipFile(io.BytesIO(r.content))
    assert z.testzip() is None
    if tmp_path:
        z.extractall(tmp_path)
    return {n: z.read(n) for n in z.namelist()}


class DAVIS:
    """The data set class of davis2017-evaluation (davis2017/davis.py), which is on no package index: the same folders, the same
    globs, the same way of reading masks."""

    def __init__(self, root, subset="val", resolution="480p"):
        self.masks_at, self.images_at = root / "Annotations" / resolution, root / "JPEGImages" / resolution
        assert self.masks_at.is_dir()
        names = [x.strip() for x in (root / "ImageSets" / "2017" / f"{subset}.txt").read_text().splitlines()]
        self.sequences = {}
        for seq in names:
            images = sorted((self.images_at / seq).glob("*.jpg"))
            assert images, f"no images for {seq}"
            masks = sorted((self.masks_at / seq).glob("*.png"))
            masks.extend([-1] * (len(images) - len(masks)))
            self.sequences[seq] = {"images": images, "masks": masks}

    def elements(self, seq, kind):
        first = np.array(Image.open(self.sequences[seq][kind][0]))
        out = np.zeros((len(self.sequences[seq][kind]), *first.shape))
        for i, path in enumerate(self.sequences[seq][kind]):
            out[i] = np.array(Image.open(path))
        return out, [p.stem for p in self.sequences[seq][kind]]


def test_davis(full, tmp_path):
    export(full, "davis", tmp_path)
    for subset in ("train", "val"):
        data = DAVIS(tmp_path, subset)
        assert list(data.sequences) == ["walk"]
        masks, ids = data.elements("walk", "masks")
        want = truth(full)
        assert ids == [f"{f:05d}" for f in want]
        for got, f in zip(masks, want):
            assert np.array_equal(got, want[f])
        pictures, _ = data.elements("walk", "images")
        assert pictures.shape == (4, H, W, 3)
    palette = Image.open(tmp_path / "Annotations/480p/walk/00000.png").getpalette()
    assert palette[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_davis_with_all_frames_and_proposals(full, tmp_path):
    names = export(full, "davis", states="accepted,proposed", frames="all")
    assert sum(n.endswith(".png") for n in names) == 11 and sum(n.endswith(".jpg") for n in names) == FRAMES


@pytest.mark.parametrize("name", ["annotations.json", "ytvis.json"])
def test_coco_loads_in_pycocotools(full, tmp_path, name):
    export(full, "coco", tmp_path)
    coco, want = COCO(tmp_path / name), truth(full)
    for a in coco.loadAnns(coco.getAnnIds()):
        image = coco.loadImgs(a["image_id"])[0]
        m = coco.annToMask(a)
        label = want[image["frame_id"]] == a["label"]
        assert np.array_equal(m, label) and a["area"] == label.sum() == coco_mask.area(a["segmentation"])
        assert a["bbox"] == list(coco_mask.toBbox(a["segmentation"]))
        with Image.open(tmp_path / "images" / image["file_name"]) as picture:
            assert picture.size == (W, H) == (image["width"], image["height"])
    if name == "annotations.json":
        assert len(coco.imgs) == 4 and len(coco.anns) == 5


def test_coco_tracks(full, tmp_path):
    export(full, "coco", tmp_path)
    doc, want = json.loads((tmp_path / "ytvis.json").read_text()), truth(full)
    video, = doc["videos"]
    assert video["length"] == 4 == len(video["file_names"])
    assert sorted(t["label"] for t in doc["annotations"]) == [1, 2]
    for t in doc["annotations"]:
        assert len(t["segmentations"]) == len(t["bboxes"]) == len(t["areas"]) == 4
        for rle, f in zip(t["segmentations"], want):
            m = coco_mask.decode(rle) if rle else np.zeros((H, W))
            assert np.array_equal(m, want[f] == t["label"])


def test_youtube_vos(full, tmp_path):
    names, want = export(full, "youtube-vos", tmp_path), truth(full)
    videos = json.loads(names["meta.json"])["videos"]
    assert list(videos) == ["walk"] and set(videos["walk"]["objects"]) == {"1", "2"}
    for label, o in videos["walk"]["objects"].items():
        assert o["frames"] == [f"{f:05d}" for f in want if (want[f] == int(label)).any()]
    for f in want:
        assert np.array_equal(np.array(Image.open(tmp_path / f"Annotations/walk/{f:05d}.png")), want[f])
    assert len(list((tmp_path / "JPEGImages/walk").iterdir())) == FRAMES


def cvat_masks(xml):
    out = {}
    for image in ET.fromstring(xml).iter("image"):
        a = np.zeros((int(image.get("height")), int(image.get("width"))), np.uint8)
        for m in image.iter("mask"):
            runs = [int(x) for x in m.get("rle").split(",")]
            flat = np.repeat(np.arange(len(runs)) % 2, runs)
            box = flat.reshape(int(m.get("height")), int(m.get("width")))
            y, x = int(m.get("top")), int(m.get("left"))
            a[y:y + box.shape[0], x:x + box.shape[1]][box == 1] = int(m.get("label").rsplit("_")[-1])
        if image.find("mask") is not None:
            out[int(image.get("name").rsplit("/")[-1].split(".")[0])] = a
    return out


def test_cvat(full):
    names, want = export(full, "cvat"), truth(full)
    got = cvat_masks(names["annotations.xml"])
    assert sorted(got) == sorted(want) and all(np.array_equal(got[f], want[f]) for f in want)
    labels = {x.text for x in ET.fromstring(names["annotations.xml"]).iter("name")}
    assert {"object_1", "object_2"} <= labels
    assert sum(n.startswith("images/walk/") for n in names) == FRAMES


def test_pictures_of_every_kind_of_clip(service, clips):
    """Video and PNG are decoded, in order; names are the frames' own where they are numbers."""
    project = service.post("/v1/projects", json={"name": "walk"}).json()["id"]
    for path in (clips["short"], clips["frames.zip"], clips["picture.png"]):
        with open(path, "rb") as f:
            assert service.post(f"/v1/projects/{project}/clips", files={"clip": f}).status_code == 201
    names = export_of(service, project, "youtube-vos")
    count = {d: sorted(n.rsplit("/")[-1] for n in names if n.startswith(f"JPEGImages/{d}/")) for d in ("short", "frames", "picture")}
    assert count == {"short": [f"{i:05d}.jpg" for i in range(12)], "frames": [f"{i:05d}.jpg" for i in range(5)], "picture": ["00000.jpg"]}
    bright = [np.array(Image.open(io.BytesIO(names[f"JPEGImages/short/{i:05d}.jpg"])))[:, :, 0].argmax(axis=1).mean() for i in range(12)]
    assert all(b > a for a, b in zip(bright[2:], bright[3:])), "the disc moves to the right"
    assert Image.open(io.BytesIO(names["JPEGImages/frames/00002.jpg"])).size == (80, 48)


def test_parameters(service, full):
    url = f"/v1/projects/{full.id}/export"
    for bad in ("", "?format=voc", "?format=coco&states=rejected", "?format=coco&frames=some", "?format=coco&x=1"):
        assert_problem(service.get(url + bad), 400)
    assert_problem(service.get(f"/v1/projects/{'0' * 26}/export?format=coco"), 404)
    empty = service.post("/v1/projects", json={"name": "walk"}).json()
    r = service.get(f"/v1/projects/{empty['id']}/export?format=davis")
    assert r.status_code == 200 and "salient.json" in zipfile.ZipFile(io.BytesIO(r.content)).namelist()


def test_a_client_that_leaves(service, full):
    for _ in range(12):  # more than may be made at once
        r = service.get(f"/v1/projects/{full.id}/export?format=cvat", stream=True)
        assert r.status_code == 200
        next(r.iter_content(10))
        r.close()
    export(full, "cvat")


# ---- import -------------------------------------------------------------------------------------------------------


def pack(entries, **kw):
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w", zipfile.ZIP_DEFLATED, **kw) as z:
        for name, data in entries.items():
            z.writestr(name, data)
    return b.getvalue()


def import_into(service, body, name="walk", project=None, **params):
    project = project or service.post("/v1/projects", json={"name": name}).json()["id"]
    return project, service.post(f"/v1/projects/{project}/import", params=params, data=body,
                                 headers={"Content-Type": "application/zip"})


def export_of(service, project, fmt, **params):
    r = service.get(f"/v1/projects/{project}/export", params={"format": fmt, **params})
    z = zipfile.ZipFile(io.BytesIO(r.content))
    return {n: z.read(n) for n in z.namelist()}


@pytest.mark.parametrize("fmt", FORMATS)
def test_export_import_export_is_the_same(service, full, fmt):
    first = export(full, fmt, states="accepted,proposed")
    project, r = import_into(service, pack(first))
    assert r.status_code == 200, r.text
    assert r.json() == {"format": fmt, "clips": 1, "keyframes": 2, "labels": 9}
    clips = service.get(f"/v1/projects/{project}/clips").json()["items"]
    assert [c["id"] for c in clips] == [full.clip["id"]], "the clip that is stored already was not found"
    assert export_of(service, project, fmt, states="accepted,proposed") == first
    again = import_into(service, pack(first), project=project)[1]  # changes nothing
    assert again.status_code == 200
    assert [a["action"] for a in service.get(f"/v1/projects/{project}/audit?limit=1000").json()["items"]].count("keyframe.put") == 2
    labels = {x["frame"]: x for x in service.get(f"/v1/projects/{project}/clips/{full.clip['id']}/labels").json()}
    for f, l in full.labels().items():
        same = ("source", "state", "confidence", "model", "flow", "left", "right", "mask")
        assert [labels[f][k] for k in same] == [l[k] for k in same]


def without_identity(entries):
    """Documents without what names the clip: elsewhere it is made of the archive's pictures."""
    out = dict(entries)
    for name in {"salient.json", "annotations.json", "ytvis.json"} & set(out):
        doc = out[name] = json.loads(out[name])
        for c in doc.get("clips", doc.get("salient", [])):
            for k in ("sha256", "frames", "name", "fps"):
                c.pop(k)
            for label in c["labels"]:
                for k in ("frame", "left", "right"):
                    label.pop(k)
        for i in doc.get("images", []):
            i.pop("frame_id")
    return out


def test_another_service_gets_the_same(make_service, full):
    other = make_service("--workers", 0, ready=False)
    for fmt in FORMATS:
        first = export(full, fmt)
        project, r = import_into(other, pack(first))
        assert r.status_code == 200 and r.json()["keyframes"] == 2 and r.json()["labels"] == 2, r.text
        assert without_identity(export_of(other, project, fmt)) == without_identity(first)


def test_what_other_tools_write(service, tmp_path):
    """DAVIS' own folders, a plain COCO file with counts that are not packed, CVAT without pictures for a clip that is there."""
    jpg, (a, two) = [], two_objects()
    with zipfile.ZipFile(clip_zip(tmp_path / "w.zip", 3, shift=21)) as z:
        jpg = [z.read(n) for n in sorted(z.namelist())]
    davis = {f"DAVIS/JPEGImages/480p/dog/{i:05d}.jpg": j for i, j in enumerate(jpg)}
    davis |= {f"DAVIS/Annotations/480p/dog/{i:05d}.png": two for i in range(3)}
    davis["DAVIS/ImageSets/2017/val.txt"] = "dog\n"
    project, r = import_into(service, pack(davis))
    assert r.status_code == 200 and r.json() == {"format": "davis", "clips": 1, "keyframes": 3, "labels": 0}, r.text
    clip, = service.get(f"/v1/projects/{project}/clips").json()["items"]
    assert clip["name"] == "dog.zip" and clip["frames"] == 3 and clip["counts"]["keyframes"] == 3

    flat = (a == 2).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    coco = {"images": [{"id": 7, "file_name": "a_1.jpg", "width": W, "height": H}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "segmentation": {"size": [H, W], "counts": counts}},
                            {"id": 2, "image_id": 7, "category_id": 3, "segmentation": {
                                "size": [H, W], "counts": coco_mask.encode(np.asfortranarray(a == 1, np.uint8))["counts"].decode()}}]}
    project, r = import_into(service, pack({"images/a_1.jpg": jpg[0], "annotations.json": json.dumps(coco)}))
    assert r.status_code == 200, r.text
    clip, = service.get(f"/v1/projects/{project}/clips").json()["items"]
    got = np.array(Image.open(io.BytesIO(service.get(f"/v1/projects/{project}/clips/{clip['id']}/keyframes/0").content)))
    assert np.array_equal(got, np.choose(a, [0, 2, 1]))  # numbered in the order of the file

    xml = (f'<?xml version="1.0"?>\n<annotations><!-- by hand > --><image id="0" name="clip/a_1.jpg" width="{W}" height="{H}">'
           '<tag label="night"/><mask label="a &amp; b" rle="1, 2, 1" left="3" top="2" width="2" height="2"></mask></image></annotations>')
    empty, r = import_into(service, pack({"annotations.xml": xml}))
    assert_problem(r, 422, "bad_archive")
    # without the pictures their names are not known: the clip's frames are numbered
    numbered = pack({"annotations.xml": xml.replace("a_1", "00000")})
    assert_problem(import_into(service, numbered, project=project)[1], 409)
    tag = service.get(f"/v1/projects/{project}/clips/{clip['id']}/keyframes/0").headers["ETag"]
    service.request("DELETE", f"/v1/projects/{project}/clips/{clip['id']}/keyframes/0", headers={"If-Match": tag})
    r = import_into(service, numbered, project=project)[1]
    assert r.status_code == 200, r.text
    got = np.array(Image.open(io.BytesIO(service.get(f"/v1/projects/{project}/clips/{clip['id']}/keyframes/0").content)))
    assert got.sum() == 2 and got[2, 4] == got[3, 3] == 1


def broken():
    jpg = io.BytesIO()
    Image.new("RGB", (W, H)).save(jpg, "JPEG")
    jpg, one = jpg.getvalue(), mask(label=1)
    good = {"JPEGImages/480p/a/00000.jpg": jpg, "Annotations/480p/a/00000.png": one}
    coco = {"images": [{"id": 1, "file_name": "a/0.jpg", "width": W, "height": H}], "annotations": [
        {"id": 1, "image_id": 1, "segmentation": {"size": [H, W], "counts": [W * H]}}]}

    def with_coco(**change):
        doc = json.loads(json.dumps(coco))
        doc["annotations"][0].update(change)
        return pack({"images/a/0.jpg": jpg, "annotations.json": json.dumps(doc)})

    def with_cvat(body):
        return pack({"images/a/0.jpg": jpg, "annotations.xml": f'<annotations><image id="0" name="a/0.jpg" width="{W}" height="{H}">{body}</image></annotations>'})

    traversal = pack({**good, "../../evil.png": one})
    huge = pack({**good, "Annotations/480p/a/00000.png": one[:16] + (30000).to_bytes(4, "big") * 2 + one[24:]})
    lying = bytearray(pack(good))
    at = lying.rindex(b"PK\x01\x02")
    lying[at + 24:at + 28] = (1 << 20).to_bytes(4, "little")
    return {
        "not a zip": (b"not a zip at all" * 10, 422), "empty": (pack({}), 422), "other files": (pack({"readme.txt": b"x"}), 422),
        "traversal": (traversal, 422), "wrong size": (pack({**good, "Annotations/480p/a/00000.png": mask(size=(W, H + 2))}), 422),
        "huge": (huge, 422), "sizes that lie": (bytes(lying), 422), "cut off": (pack(good)[:-30], 422),
        "mask without picture": (pack({**good, "Annotations/480p/a/00009.png": one}), 422),
        "two resolutions": (pack({**good, "Annotations/1080p/a/00000.png": one}), 422),
        "no picture at all": (pack({"Annotations/480p/a/00000.png": one}), 422),
        "a picture that is none": (pack({**good, "JPEGImages/480p/a/00001.jpg": b"nothing"}), 422),
        "soft mask": (pack({**good, "Annotations/480p/a/00000.png": png(Image.linear_gradient("L").resize((W, H)))}), 422),
        "json": (pack({"annotations.json": b"{"}), 422), "polygon": (with_coco(segmentation=[[1, 2, 3, 4, 5, 6]]), 422),
        "runs too long": (with_coco(segmentation={"size": [H, W], "counts": [1, W * H]}), 422),
        "runs too short": (with_coco(segmentation={"size": [H, W], "counts": [5]}), 422),
        "runs negative": (with_coco(segmentation={"size": [H, W], "counts": [-5, W * H + 5]}), 422),
        "packed runs that are none": (with_coco(segmentation={"size": [H, W], "counts": "ooooooooooooooo"}), 422),
        "no such image": (with_coco(image_id=5), 422),
        "entity": (pack({"annotations.xml": '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>'}), 422),
        "cvat polygon": (with_cvat('<polygon points="1,2;3,4"/>'), 422),
        "cvat box outside": (with_cvat('<mask label="x" rle="0, 4" left="63" top="0" width="2" height="2"/>'), 422),
        "cvat runs": (with_cvat('<mask label="x" rle="0, 5" left="0" top="0" width="2" height="2"/>'), 422),
        "cvat cut": (with_cvat('<mask label="x" rle="0, 5'), 422),
    }


BROKEN = broken()


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_refused_leaves_nothing(service, name):
    body, status = BROKEN[name]
    before = {c["id"] for c in service.get("/v1/clips?limit=1000").json()["items"]}
    project, r = import_into(service, body)
    doc = assert_problem(r, status)
    assert len(doc["detail"]) > 10
    assert {c["id"] for c in service.get("/v1/clips?limit=1000").json()["items"]} == before
    counts = service.get(f"/v1/projects/{project}").json()
    assert counts["clips"] == 0 and counts["counts"]["keyframes"] == 0
