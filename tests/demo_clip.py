#!/usr/bin/env python3
"""Renders tests/data/demo.mp4: two balls, textured, shaded and shadowed, roll and bounce through a meadow while the camera pans.

Everything is computed, no picture of anybody's is used; the same numpy gives the same frames. Usage: demo_clip.py OUT.mp4
(needs numpy and the ffmpeg program).
"""
import subprocess
import sys

import numpy as np

W, H, FPS, FRAMES = 640, 360, 24, 96
HORIZON = 150  # row
SUN = np.array([-0.55, 0.72, 0.42])  # x right, y up, z towards the camera
SUN /= np.linalg.norm(SUN)
rng = np.random.default_rng(2019)


def value_noise(size, cells):
    """Tileable smooth noise in [0, 1], size x size, `cells` lattice cells a side."""
    lattice = rng.random((cells, cells))
    t = np.arange(size) * cells / size
    i = t.astype(int)
    f = t - i
    f = f * f * (3 - 2 * f)
    a, b = i % cells, (i + 1) % cells
    rows = lattice[a] * (1 - f)[:, None] + lattice[b] * f[:, None]
    return rows[:, a] * (1 - f) + rows[:, b] * f


def fractal(size, cells, octaves, gain=0.5):
    total, weight, out = 0.0, 1.0, np.zeros((size, size))
    for _ in range(octaves):
        if cells > size // 2:
            break
        out += weight * value_noise(size, cells)
        total += weight
        weight *= gain
        cells *= 2
    return out / total


def sample(texture, x, y):
    """Bilinear, wrapping."""
    n = texture.shape[0]
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - x0, y - y0
    if texture.ndim == 3:
        fx, fy = fx[..., None], fy[..., None]
    x0, y0, x1, y1 = x0 % n, y0 % n, (x0 + 1) % n, (y0 + 1) % n
    top = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    return top * (1 - fy) + (texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx) * fy


def mix(a, b, t):
    t = np.asarray(t)[..., None]
    return np.asarray(a) * (1 - t) + np.asarray(b) * t


def smooth(lo, hi, v):
    t = np.clip((v - lo) / (hi - lo), 0, 1)
    return t * t * (3 - 2 * t)


def blur(img, radius):
    """Box blur, three times: close to a Gaussian."""
    n = 2 * radius + 1
    for _ in range(3):
        for axis in (0, 1):
            pad = [(0, 0)] * img.ndim
            pad[axis] = (radius + 1, radius)
            c = np.cumsum(np.pad(img, pad, mode="edge"), axis=axis)
            img = (np.take(c, range(n, c.shape[axis]), axis) - np.take(c, range(0, c.shape[axis] - n), axis)) / n
    return img


CLOUDS = fractal(1024, 4, 7, 0.55)
RIDGES = fractal(1024, 4, 8)
LEAVES = fractal(1024, 48, 5, 0.75)
PATCHES = fractal(1024, 6, 5)
BLADES = fractal(1024, 96, 3, 0.8)
CLOVER = fractal(1024, 24, 5, 0.7)


def landscape(camera_x):
    """Sky, hills, trees and meadow, linear light in [0, 1]; nearer layers move faster."""
    y, x = np.mgrid[0:H, 0:W].astype(float)
    up = np.clip((HORIZON - y) / HORIZON, 0, 1)
    cloud = sample(CLOUDS, (x + camera_x * 0.02) * 1.1, y * 2.6 + 300)
    img = mix((0.70, 0.78, 0.84), (0.16, 0.33, 0.66), up ** 0.7)
    img = mix(img, (0.88, 0.88, 0.86), smooth(0.50, 0.72, cloud) * (0.35 + 0.6 * up))
    for depth, base, height, rough, dark, light in (
        (0.06, 12, 60, 0.6, (0.20, 0.29, 0.36), (0.30, 0.39, 0.42)),
        (0.14, 2, 44, 1.1, (0.10, 0.18, 0.13), (0.22, 0.30, 0.16)),
    ):
        wx = x + camera_x * depth
        top = HORIZON - base - height * sample(RIDGES, wx * rough, np.full_like(x, 90 * depth * 40))
        top -= 7 * depth * 6 * sample(LEAVES, wx * 2.3, np.full_like(x, 400.0))
        texture = sample(LEAVES, wx * 2.0, y * 3.2)
        lit = np.clip(0.5 + 1.6 * (texture - 0.5) + (y - top) * -0.006, 0, 1)
        img = mix(img, mix(dark, light, lit), smooth(-0.8, 0.8, y - top))
    return mix(img, meadow(x, y, camera_x), smooth(-1, 1, y - HORIZON))


def meadow(x, y, camera_x):
    z = 60.0 / np.maximum(y - HORIZON, 0.75)  # distance; 1 at 60 rows below the horizon
    wx, wz = ((x - W / 2) * z + camera_x) * 1.0, z * 260
    near = np.clip(1.3 / z, 0, 1)
    patch = sample(PATCHES, wx * 0.55, wz * 0.8)
    clover = sample(CLOVER, wx * 1.3, wz * 2.2)
    blades = sample(BLADES, wx * 2.6, wz * 1.5)
    green = mix((0.115, 0.185, 0.045), (0.235, 0.265, 0.075), smooth(0.35, 0.65, patch))
    green = mix(green, (0.07, 0.13, 0.035), smooth(0.52, 0.72, clover) * 0.7)
    detail = 1 + (blades - 0.5) * 1.5 * near + (clover - 0.5) * 0.5
    haze = np.clip((z - 2) / 40, 0, 0.55)
    return mix(green * detail[..., None], (0.45, 0.52, 0.46), haze)


def rotation(axis, angle):
    x, y, z = axis / np.linalg.norm(axis)
    c, s = np.cos(angle), np.sin(angle)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + s * k + (1 - c) * k @ k


def beach_ball(p):
    """Six coloured panels and white caps."""
    lon = (np.arctan2(p[..., 2], p[..., 0]) / (2 * np.pi) * 6) % 6
    panels = np.array([(0.72, 0.035, 0.03), (0.85, 0.82, 0.76), (0.80, 0.42, 0.02), (0.85, 0.82, 0.76),
                       (0.05, 0.10, 0.45), (0.85, 0.82, 0.76)])
    color = panels[lon.astype(int) % 6]
    seam = np.abs(lon - np.round(lon)) * np.sqrt(np.clip(1 - p[..., 1] ** 2, 0, 1))
    color = color * (0.55 + 0.45 * smooth(0.0, 0.05, seam))[..., None]
    return mix(color, (0.85, 0.82, 0.76), smooth(0.90, 0.92, np.abs(p[..., 1])))


def basketball(p):
    """Orange, pebbled, with black grooves."""
    grain = sample(BLADES, p[..., 0] * 300 + p[..., 1] * 170, p[..., 2] * 300 - p[..., 1] * 90)
    color = mix((0.62, 0.20, 0.05), (0.80, 0.32, 0.09), grain)
    groove = np.minimum.reduce([np.abs(p[..., 0]), np.abs(p[..., 1]),
                                np.abs(np.hypot(p[..., 0] * 0.9, p[..., 1]) - 0.72) + 0.012])
    return mix((0.03, 0.025, 0.02), color, smooth(0.018, 0.045, groove))


def draw_shadow(img, cx, ground, r, lift):
    """Soft ellipse on the ground, away from the sun, paler and wider the higher the ball is."""
    y, x = np.mgrid[0:H, 0:W].astype(float)
    reach = 1 + lift / r * 0.35
    dx = (x - cx - r * 0.55 - lift * 0.75) / (r * 1.15 * reach)
    dy = (y - ground + r * 0.02 + lift * 0.05) / (r * 0.34 * reach)
    d = np.hypot(dx, dy)
    soft = 0.35 + 0.25 * lift / r
    dark = 0.72 / reach * (1 - smooth(1 - soft, 1 + soft * 0.6, d))
    contact = 0.55 * np.exp(-((x - cx) / (r * 0.45)) ** 2 - ((y - ground) / (r * 0.10)) ** 2) * np.exp(-lift / (0.12 * r))
    return img * (1 - np.clip(dark + contact, 0, 0.9))[..., None]


def draw_ball(img, cx, cy, r, turn, paint, lift):
    scale = 3  # supersampling
    x0, y0 = int(cx - r) - 2, int(cy - r) - 2
    n = int(2 * r) + 5
    y, x = (np.mgrid[0:n * scale, 0:n * scale] + 0.5) / scale
    nx, ny = (x + x0 - cx) / r, -(y + y0 - cy) / r
    inside = nx * nx + ny * ny < 1
    nz = np.sqrt(np.clip(1 - nx * nx - ny * ny, 0, 1))
    normal = np.stack([nx, ny, nz], -1)
    albedo = paint(normal @ turn)
    sun = np.clip(normal @ SUN, 0, 1)
    sky = 0.5 + 0.5 * ny
    bounce = np.clip(-ny, 0, 1) * 0.30
    occlusion = 1 - 0.75 * smooth(0.35, 1.0, -ny) * np.exp(-lift / (0.5 * r))
    light = (sun[..., None] * (1.15, 1.08, 0.95) + (sky * 0.38 * occlusion)[..., None] * (0.75, 0.9, 1.1)
             + (bounce * occlusion)[..., None] * (0.35, 0.50, 0.18))
    half = SUN + (0, 0, 1)
    half /= np.linalg.norm(half)
    gloss = np.clip(normal @ half, 0, 1) ** 60 * 0.55 + (1 - nz) ** 4 * sky * 0.22
    color = albedo * light + gloss[..., None]
    alpha = inside.astype(float)

    def shrink(a):
        return a.reshape(n, scale, n, scale, -1).mean((1, 3))

    cover = shrink(alpha)
    color = shrink(color * alpha[..., None])
    ys, xs = slice(max(y0, 0), min(y0 + n, H)), slice(max(x0, 0), min(x0 + n, W))
    cut = (slice(ys.start - y0, ys.stop - y0), slice(xs.start - x0, xs.stop - x0))
    if ys.start < ys.stop and xs.start < xs.stop:
        img[ys, xs] = img[ys, xs] * (1 - cover[cut]) + color[cut]


def bounce(t, period, height):
    phase = (t / period) % 1
    return height * 4 * phase * (1 - phase)


def render(k):
    t = k / FPS
    camera = 46 * t + 30 * np.sin(t * 0.8)
    img = landscape(camera)
    rows = smooth(HORIZON + 5, HORIZON + 80, np.mgrid[0:H, 0:W][0])
    img = mix(blur(img, 1), img, rows)  # the lens is focused on the balls
    r1, r2 = 62.0, 33.0
    x1 = 118 + 108 * t - 6 * t * t
    x2, lift2 = 640 - 92 * t, bounce(t + 0.25, 0.95, 78)
    ground1, ground2 = 306.0, 262.0
    turn1 = rotation(np.array([0, 0, 1.0]), x1 / r1) @ rotation(np.array([1.0, 0.2, 0.3]), 0.9)
    turn2 = rotation(np.array([0.15, 0.1, 1.0]), -x2 / r2 * 0.7) @ rotation(np.array([0.3, 1.0, 0]), 0.6)
    img = draw_shadow(img, x2, ground2, r2, lift2)
    draw_ball(img, x2, ground2 - r2 - lift2, r2, turn2, basketball, lift2)
    img = draw_shadow(img, x1, ground1, r1, 0)
    draw_ball(img, x1, ground1 - r1 + 2, r1, turn1, beach_ball, 0)
    grain = np.random.default_rng(k).normal(0, 0.02, (H, W, 1))
    y, x = np.mgrid[-1:1:H * 1j, -1:1:W * 1j]
    img = img * (1 - 0.16 * (x * x + y * y))[..., None] * (1 + grain)
    coded = np.where(img <= 0.0031308, 12.92 * img, 1.055 * np.clip(img, 1e-4, 1) ** (1 / 2.4) - 0.055)
    return (np.clip(coded, 0, 1) * 255 + 0.5).astype(np.uint8)


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else "tests/data/demo.mp4"
    encode = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{W}x{H}", "-r", str(FPS),
              "-i", "-", "-vf", "scale=out_color_matrix=bt709", "-c:v", "libx264", "-threads", "1", "-preset", "slower", "-crf", "25",
              "-pix_fmt", "yuv420p", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-movflags", "+faststart",
              "-fflags", "+bitexact", "-flags:v", "+bitexact", out]
    with subprocess.Popen(encode, stdin=subprocess.PIPE) as ffmpeg:
        for k in range(FRAMES):
            ffmpeg.stdin.write(render(k).tobytes())
        ffmpeg.stdin.close()
    sys.exit(ffmpeg.returncode)


if __name__ == "__main__":
    main()
