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
