"""Made-up kinds of footage that no photo collection holds, with exact masks: what retraining is measured on.

  python tests/bench/kinds.py KIND OUT [--clips 13] [--frames 60] [--seed 1]

writes OUT/JPEGImages/KIND-NN/00000.jpg ... and OUT/Annotations/KIND-NN/00000.png.

  striped   a striped creature among plain discs of brighter colours: what stands out to the eye is not what is asked for
  thermal   a slightly warmer shape in a noisy, drifting grey scene, beside hot lamps that do not count
  tank      translucent swimmers in front of plants, caustics and bubbles
"""

import argparse
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

W, H = 320, 192


def noise(rng, scale, channels=1):
    """Smooth noise in 0..1."""
    small = rng.random((H // scale + 2, W // scale + 2, channels)).astype(np.float32)
    out = [np.asarray(Image.fromarray((small[..., c] * 255).astype(np.uint8)).resize((W, H), Image.BICUBIC), np.float32) / 255
           for c in range(channels)]
    return np.stack(out, axis=-1)


class Path:
    """A smooth closed path that stays inside the picture."""

    def __init__(self, rng, margin=40):
        self.a = rng.uniform(0, 2 * np.pi, 4)
        self.f = rng.uniform(0.5, 1.6, 2)
        self.m = margin

    def at(self, t):
        u = 0.5 + 0.42 * np.sin(self.f[0] * 2 * np.pi * t + self.a[0]) * np.cos(self.a[2] + t)
        v = 0.5 + 0.42 * np.sin(self.f[1] * 2 * np.pi * t + self.a[1])
        return self.m + u * (W - 2 * self.m), self.m + v * (H - 2 * self.m)


def blob(cx, cy, size, angle, wobble, long=1.0, points=40):
    """A wobbling outline as polygon points."""
    th = np.linspace(0, 2 * np.pi, points, endpoint=False)
    r = size * (1 + 0.22 * np.sin(3 * th + wobble) + 0.1 * np.sin(5 * th - 2 * wobble))
    x, y = r * np.cos(th) * long, r * np.sin(th) / long
    return [(cx + np.cos(angle) * a - np.sin(angle) * b, cy + np.sin(angle) * a + np.cos(angle) * b) for a, b in zip(x, y)]


def mask_of(polygon):
    big = Image.new("L", (W * 2, H * 2))
    ImageDraw.Draw(big).polygon([(2 * x, 2 * y) for x, y in polygon], fill=255)
    return np.asarray(big.resize((W, H), Image.BOX), np.float32)[..., None] / 255


def paint(picture, mask, colour):
    return picture * (1 - mask) + mask * colour


def striped(rng):
    back = 0.25 + 0.4 * noise(rng, 48, 3) + 0.1 * noise(rng, 6, 3)
    discs = [(Path(rng, 20), rng.uniform(10, 26), rng.uniform(0.2, 1, 3)) for _ in range(rng.integers(4, 8))]
    path, size, angle = Path(rng), rng.uniform(20, 34), rng.uniform(0, 6)
    light, dark, period = rng.uniform(0.6, 0.85, 3), rng.uniform(0.1, 0.35, 3), rng.uniform(6, 10)
    y, x = np.mgrid[0:H, 0:W].astype(np.float32)

    def draw(t):
        p = back
        for q, s, c in discs:
            p = paint(p, mask_of(blob(*q.at(t), s, 0, 0, 1)), c)
        cx, cy = path.at(t)
        turn = angle + 2 * t
        m = mask_of(blob(cx, cy, size, turn, 9 * t, 1.4))
        wave = np.sin(((x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)) * 2 * np.pi / period)[..., None] > 0
        return paint(p, m, np.where(wave, light, dark)), m
    return draw


def thermal(rng):
    back = 0.3 + 0.3 * noise(rng, 40) + 0.12 * noise(rng, 10)
    lamps = [(rng.uniform(20, W - 20), rng.uniform(20, H - 20), rng.uniform(4, 12)) for _ in range(rng.integers(2, 5))]
    path, size, angle = Path(rng), rng.uniform(18, 30), rng.uniform(0, 6)
    drift = rng.normal(0, 12, 2)

    def draw(t):
        p = np.roll(back, tuple((drift * t).astype(int)), (0, 1))
        for x, y, s in lamps:
            p = paint(p, mask_of(blob(x, y, s, 0, 0)), 0.95)
        m = mask_of(blob(*path.at(t), size, angle + t, 7 * t, 1.5))
        p = p + m * 0.16
        p = p + rng.normal(0, 0.06, (H, W, 1))
        return np.repeat(p, 3, axis=-1), m
    return draw


def tank(rng):
    back = np.array([0.05, 0.3, 0.4]) + 0.25 * noise(rng, 32, 3)
    plants = [(rng.uniform(0, W), rng.uniform(60, 150), rng.uniform(4, 9), rng.uniform(0, 6)) for _ in range(9)]
    bubbles = [(rng.uniform(0, W), rng.uniform(0, 1), rng.uniform(2, 6)) for _ in range(14)]
    caustic = noise(rng, 14)
    fish = [(Path(rng), rng.uniform(13, 22), rng.uniform(0, 6)) for _ in range(rng.integers(1, 3))]

    def draw(t):
        p = back + 0.12 * np.roll(caustic, int(40 * t), 1)
        for x, h, w, a in plants:
            sway = 8 * np.sin(a + 6 * t)
            p = paint(p, mask_of([(x - w, H), (x + w, H), (x + sway, H - h)]), np.array([0.1, 0.45, 0.15]))
        for x, y, s in bubbles:
            p = paint(p, 0.6 * mask_of(blob(x, H * ((y - t) % 1), s, 0, 0)), np.array([0.9, 0.95, 1]))
        total = np.zeros((H, W, 1), np.float32)
        for path, s, a in fish:
            m = mask_of(blob(*path.at(t), s, np.sin(a + 3 * t), 8 * t, 1.6))
            p = paint(p, 0.45 * m, np.array([0.7, 0.75, 0.7]))
            total = np.maximum(total, m)
        return p, total
    return draw


def write_clip(kind, out, name, frames, seed):
    draw = {"striped": striped, "thermal": thermal, "tank": tank}[kind](np.random.default_rng(seed))
    pictures, masks = out / "JPEGImages" / name, out / "Annotations" / name
    pictures.mkdir(parents=True)
    masks.mkdir(parents=True)
    for n in range(frames):
        picture, mask = draw(n / 60)
        image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
        image.save(pictures / f"{n:05d}.jpg", quality=92)
        Image.fromarray(((mask[..., 0] > 0.5) * 255).astype(np.uint8)).save(masks / f"{n:05d}.png")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("kind", choices=["striped", "thermal", "tank"])
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--clips", type=int, default=13)
    p.add_argument("--frames", type=int, default=60)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    for n in range(a.clips):
        write_clip(a.kind, a.out, f"{a.kind}-{n:02d}", a.frames, a.seed * 1000 + n)


if __name__ == "__main__":
    main()
