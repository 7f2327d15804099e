#!/usr/bin/env python3
"""Makes every sample file that `handout demo` ships.

    python3 -m venv .test/samples
    .test/samples/bin/pip install pillow==13.0.0 numpy==2.4.6 reportlab==5.1.0
    .test/samples/bin/python samples/make.py            # all of them, about a minute
    .test/samples/bin/python samples/make.py dunes costs  # only the named ones

The clip and the sound are encoded by `ffmpeg` (Debian package of that name) and are left alone where it is missing.

Nothing here is a photograph and nothing is copied: each picture is a small world (a height map, a few ridges, a sky)
that is lit and looked at. All randomness is seeded, so the same versions make the same files. The names are chosen to
be troublesome on purpose: spaces, umlauts, plus signs, a percent sign, an apostrophe, emoji, dashes that are not ASCII.
"""

import csv
import datetime
import io
import math
import pathlib
import random
import shutil
import subprocess
import sys
import wave

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

HERE = pathlib.Path(__file__).resolve().parent
REPORTS = HERE / "reports"
DAY1 = HERE / "gallery" / "Day 1"
DAY2 = HERE / "gallery" / "Day 2"


# --------------------------------------------------------------------------------------------------------------------
# Paint: arrays of float RGB in 0..1, rows first
# --------------------------------------------------------------------------------------------------------------------


def rgb(hexa):
    """Turns "#rrggbb" into three floats."""
    return np.array([int(hexa[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def gradient(stops, t):
    """Colours an array of positions `t` (0..1) along `stops`, a list of (position, "#rrggbb")."""
    places = [place for place, _ in stops]
    colours = np.array([rgb(hexa) for _, hexa in stops])
    return np.stack([np.interp(t, places, colours[:, channel]) for channel in range(3)], axis=-1)


def mix(below, above, amount):
    """Blends `above` over `below`; `amount` may be a number or a plane."""
    amount = np.asarray(amount)
    if amount.ndim == 2:
        amount = amount[..., None]
    return below * (1 - amount) + above * amount


def smooth(low, high, value):
    """The usual smoothstep from `low` to `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(height, width, roughness, seed, stretch=1.0):
    """A tileable plane of fractal noise in 0..1. A larger `roughness` is smoother; `stretch` draws it out sideways."""
    rng = np.random.default_rng(seed)
    fy = np.fft.fftfreq(height)[:, None] * height
    fx = np.fft.rfftfreq(width)[None, :] * width * stretch * height / width
    frequency = np.sqrt(fy * fy + fx * fx)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / frequency**roughness
    spectrum[0, 0] = 0
    plane = np.fft.irfft2(spectrum, s=(height, width))
    low, high = np.percentile(plane, [0.5, 99.5])
    return np.clip((plane - low) / (high - low), 0, 1)


def ridge(width, roughness, seed):
    """A line of fractal noise, mean 0 and deviation 1."""
    rng = np.random.default_rng(seed)
    frequency = np.arange(width + 1, dtype=float)
    frequency[0] = 1
    spectrum = np.fft.rfft(rng.standard_normal(2 * width)) / frequency**roughness
    spectrum[0] = 0
    line = np.fft.irfft(spectrum)[:width]
    return (line - line.mean()) / line.std()


def grain(picture, amount, seed):
    """A little film grain, which also hides banding."""
    rng = np.random.default_rng(seed)
    return picture + rng.standard_normal(picture.shape[:2])[..., None] * amount


def image(picture):
    return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))


def drawn(picture, paint, factor=3):
    """Lets `paint` draw over a picture with smooth edges: it gets a pen and the factor by which all is larger."""
    height, width = picture.shape[:2]
    sheet = Image.new("RGBA", (width * factor, height * factor), (0, 0, 0, 0))
    paint(ImageDraw.Draw(sheet), factor)
    ink = np.asarray(sheet.resize((width, height), Image.BOX), float) / 255
    alpha = ink[..., 3]
    colour = ink[..., :3] / np.maximum(alpha, 1e-6)[..., None]  # the box filter has darkened the edges
    return mix(picture, np.clip(colour, 0, 1), alpha)


def save_jpeg(picture, path, size, kilobytes, orientation=None):
    """Scales down to `size` and writes the best quality that fits. `orientation` 8 stores the picture turned, as a
    camera held sideways does: a viewer that honours EXIF shows it upright."""
    if isinstance(picture, np.ndarray):
        picture = image(picture)
    picture = picture.resize(size, Image.LANCZOS)
    options = {"optimize": True, "progressive": True}
    if orientation is not None:
        assert orientation == 8, "only the one turn that we need"
        picture = picture.transpose(Image.ROTATE_270)
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[0x0110] = "Handout sample"
        options["exif"] = exif
    for quality in range(92, 40, -1):
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=quality, subsampling=2, **options)
        if out.tell() <= kilobytes * 1000:
            break
    write(path, out.getvalue())


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    print(f"{len(data):8,}  {path.relative_to(HERE)}")


# --------------------------------------------------------------------------------------------------------------------
# Land: a height map, its light, and a camera
# --------------------------------------------------------------------------------------------------------------------


class Land:
    """A square, tileable height map of side 1, lit by one sun."""

    def __init__(self, heights, sun):
        self.heights = heights
        self.size = len(heights)
        step = 1 / self.size
        slope_x = (np.roll(heights, -1, 1) - np.roll(heights, 1, 1)) / (2 * step)
        slope_z = (np.roll(heights, -1, 0) - np.roll(heights, 1, 0)) / (2 * step)
        length = np.sqrt(slope_x**2 + slope_z**2 + 1)
        self.normal = np.stack([-slope_x / length, 1 / length, -slope_z / length])
        self.sun = np.array(sun) / np.linalg.norm(sun)
        lambert = np.tensordot(self.sun, self.normal, axes=1)
        self.light = np.clip(lambert, 0, 1) * self._open_to_the_sun()

    def _open_to_the_sun(self):
        """1 where the sun is seen, 0 in cast shadow, soft between."""
        x, y, z = self.sun
        flat = math.hypot(x, z)
        rise = y / flat / self.size
        excess = np.full_like(self.heights, -1)
        step = 1.0
        while step < self.size / 4:
            shift = (round(-z / flat * step), round(-x / flat * step))
            excess = np.maximum(excess, np.roll(self.heights, shift, (0, 1)) - self.heights - rise * step)
            step = max(step + 1, step * 1.02)
        return 1 - smooth(0, 0.004, excess)

    def look(self, size, eye, heading, horizon, lens, far, near=0.02, steps=2400):
        """For each pixel of `size`: how far the land is (nan for sky), and a sampler for planes over the land."""
        width, height = size
        depth = near * (far / near) ** np.linspace(0, 1, steps)
        across = (np.arange(width) - width / 2) / width / lens
        sin, cos = math.sin(heading), math.cos(heading)
        at_x = eye[0] + depth[:, None] * (sin + across[None, :] * cos)
        at_z = eye[2] + depth[:, None] * (cos - across[None, :] * sin)
        rows = horizon * height - (bilinear(self.heights, at_x, at_z) - eye[1]) / depth[:, None] * width * lens
        skyline = np.minimum.accumulate(rows, axis=0)
        seen = np.empty((height, width))
        pixel_rows = np.arange(height)
        for column in range(width):
            line = skyline[:, column]
            seen[:, column] = np.interp(-pixel_rows, -line + np.arange(steps) * 1e-9, np.arange(steps))
            seen[pixel_rows < line[-1], column] = np.nan
        distance = near * (far / near) ** (seen / (steps - 1))
        place_x = eye[0] + distance * (sin + across[None, :] * cos)
        place_z = eye[2] + distance * (cos - across[None, :] * sin)
        land = ~np.isnan(distance)
        return distance, land, lambda plane: bilinear(plane, np.nan_to_num(place_x), np.nan_to_num(place_z))


def bilinear(plane, x, z):
    """Samples a tileable plane over the unit square."""
    size = len(plane)
    x, z = x % 1 * size, z % 1 * size
    left, top = np.floor(x).astype(int), np.floor(z).astype(int)
    u, v = x - left, z - top
    right, bottom = (left + 1) % size, (top + 1) % size
    left, top = left % size, top % size
    upper = plane[top, left] * (1 - u) + plane[top, right] * u
    lower = plane[bottom, left] * (1 - u) + plane[bottom, right] * u
    return upper * (1 - v) + lower * v


# --------------------------------------------------------------------------------------------------------------------
# The pictures
# --------------------------------------------------------------------------------------------------------------------


def conifers(skyline, seed, low, high, every):
    """Plants spruces on a skyline (rows, smaller is higher): returns the new skyline."""
    rng = np.random.default_rng(seed)
    line = skyline.copy()
    width = len(line)
    columns = np.arange(width)
    for root in np.arange(0, width, every) + rng.uniform(-every, every, len(np.arange(0, width, every))):
        tall = rng.uniform(low, high) * rng.choice([0.55, 0.8, 1, 1.15])
        broad = tall * rng.uniform(0.17, 0.26)
        from_stem = np.abs(columns - root)
        near = from_stem < broad
        t = from_stem[near] / broad
        # Branches: the outline steps in and out as it falls from the top.
        profile = (1 - t**0.85) + 0.07 * np.sign(np.sin(t * 38 + root)) * (1 - t) * t * 2
        base = skyline[int(np.clip(root, 0, width - 1))]
        line[near] = np.minimum(line[near], base + tall * 0.1 - tall * profile)
    return line


def below(skyline, height):
    """A soft mask of everything under a skyline."""
    return np.clip(np.arange(height)[:, None] - skyline[None, :] + 0.5, 0, 1)


def sunrise():
    """A sun above a still lake, mountains between."""
    width, height = 1800, 1200
    shore = 690
    y, x = np.mgrid[0:shore, 0:width].astype(float)
    t = y / shore
    sky = gradient(
        [(0, "#1d2b58"), (0.3, "#4d4a86"), (0.55, "#b4678f"), (0.75, "#f08d6c"), (0.9, "#fdc478"), (1, "#ffe6a8")], t
    )
    sun_x, sun_y = 1130, 560
    from_sun = np.hypot(x - sun_x, (y - sun_y) * 1.15)
    sky = mix(sky, rgb("#ffd98a"), 0.75 * np.exp(-((from_sun / 330) ** 1.1)))
    cloud = noise(2048, 2048, 1.55, 11, stretch=3)[:shore, 100 : 100 + width]
    fine = noise(2048, 2048, 1.2, 12, stretch=3)[:shore, :width]
    cover = smooth(0.5, 0.82, 0.8 * cloud + 0.2 * fine) * smooth(1.0, 0.55, t) * smooth(-0.1, 0.25, t)
    lit = gradient([(0, "#8b5f93"), (0.5, "#f28f7f"), (1, "#ffd9a0")], np.clip(np.exp(-from_sun / 620) * 1.25, 0, 1))
    sky = mix(sky, lit, cover * 0.85)
    sky = mix(sky, rgb("#fffbe6"), smooth(64, 58, np.hypot(x - sun_x, y - sun_y)))
    ranges = [(620, 46, 1.35, 21, "#a8688c", 0.55), (648, 38, 1.25, 22, "#6d4878", 0.8), (668, 24, 1.15, 23, "#3c2f5c", 1)]
    for base, rise, rough, seed, colour, weight in ranges:
        line = base - rise * ridge(width, rough, seed)
        if seed == 23:
            line = conifers(line, 24, 16, 34, 9)
        veil = mix(np.broadcast_to(rgb(colour), sky.shape), rgb("#ffb98a"), 0.6 * np.exp(-from_sun / 420))
        sky = mix(sky, veil, below(line, shore) * weight)
    # The lake mirrors the sky; waves grow towards us and bend what is mirrored.
    rows = np.arange(height - shore)[:, None].astype(float)
    wave_plane = noise(1024, 2048, 1.05, 31, stretch=8)[: height - shore, :width] - 0.5
    near = rows / (height - shore)
    stretch = shore - 1 - rows * 1.32
    source = np.clip(stretch + wave_plane * (8 + 230 * near), 0, shore - 1).astype(int)
    side = np.clip(np.arange(width)[None, :] + wave_plane * 26 * near, 0, width - 1).astype(int)
    still = mix(sky, rgb("#ffdf9c"), 0.85 * smooth(110, 40, np.hypot(x - sun_x, y - sun_y)))  # a sun on water has no edge
    lake = still[source, side]
    lake = mix(lake, rgb("#22305e"), 0.16 + 0.42 * near**1.3 * np.ones((1, width)))
    glint = smooth(0.3, 0.5, wave_plane + 0.25) * np.exp(-(((np.arange(width)[None, :] - sun_x) / (50 + 210 * near)) ** 2))
    lake = mix(lake, rgb("#ffe2a4"), 0.8 * glint * (1 - 0.5 * near))
    picture = np.concatenate([sky, lake])
    # Reeds and a boat, dark before the light.
    dark, shade = (24, 22, 46, 255), (24, 22, 46, 120)

    def foreground(draw, k):
        def hull(cx, cy, side):
            rim = [(-150 + i * 10, -14 * ((i - 15) / 15) ** 2 * (1.5 if i < 15 else 1)) for i in range(31)]
            keel = [(150 - i * 10 - (i - 15) * 1.5, 36 * (1 - abs((i - 15) / 15) ** 2.6) - 3) for i in range(31)]
            return [((cx + dx) * k, (cy + side * dy) * k) for dx, dy in rim + keel]

        draw.polygon(hull(470, 905, 1), fill=dark)
        for i in range(26):  # its image, broken by the ripples
            top, reach = 941 + i * 3, 128 - i * 3.2 + 16 * math.sin(i * 2.1)
            draw.rectangle([(470 - reach) * k, top * k, (462 + reach) * k, (top + 1.8) * k], fill=shade)
        draw.line([(520 * k, 893 * k), (655 * k, 938 * k)], fill=dark, width=4 * k)
        rng = random.Random(5)
        for _ in range(120):
            root = rng.triangular(1220, 1860, 1780)
            tall = rng.uniform(150, 430) * (0.4 + 0.6 * (root - 1220) / 580)
            lean = rng.uniform(-70, 26)
            stem = [(root + lean * (i / 20) ** 2, 1215 - tall * i / 20) for i in range(21)]
            draw.line([(px * k, py * k) for px, py in stem], fill=dark, width=round(rng.uniform(2, 3.6) * k))
            if rng.random() < 0.30:
                head_x, head_y = stem[17]
                draw.rounded_rectangle([(head_x - 5) * k, (head_y - 26) * k, (head_x + 5) * k, (head_y + 22) * k], 5 * k, fill=(46, 30, 44, 255))
            elif rng.random() < 0.6:  # a blade that hangs over
                bx, by = stem[rng.randrange(7, 14)]
                reach, drop = rng.choice([-1, 1]) * rng.uniform(30, 90), rng.uniform(-70, 10)
                blade = [(bx + reach * q, by + drop * math.sin(q * 2.6)) for q in (0, 0.2, 0.4, 0.6, 0.8, 1)]
                draw.line([(px * k, py * k) for px, py in blade], fill=dark, width=2 * k)

    picture = drawn(picture, foreground)
    save_jpeg(grain(picture, 0.006, 1), DAY1 / "Sunrise over the lake.jpg", (1200, 800), 62)


def fog():
    """Hill behind hill of spruces, with the morning fog between them."""
    width, height = 1800, 1350
    y, x = np.mgrid[0:height, 0:width].astype(float)
    t = y / height
    picture = gradient([(0, "#9fc3c4"), (0.25, "#cfdfd2"), (0.5, "#f3ead2"), (1, "#e3e5d4")], t)
    light = np.hypot(x - 560, (y - 330) * 1.1)
    picture = mix(picture, rgb("#fff6dc"), 0.9 * np.exp(-((light / 420) ** 1.4)))
    drift = noise(2048, 2048, 1.7, 41, stretch=2.8)[:height, :width]
    hills = [
        (430, 62, "#b7cbc4", 8, 15, 7),
        (530, 66, "#94b4b0", 14, 26, 9),
        (640, 70, "#6d979a", 24, 44, 12),
        (770, 70, "#457780", 40, 74, 18),
        (930, 66, "#27535f", 66, 122, 27),
        (1150, 60, "#12343f", 120, 225, 46),
    ]
    for i, (base, rise, colour, low, high, every) in enumerate(hills):
        line = base - rise * ridge(width, 1.5, 50 + i) + (x[0] - width / 2) * 0.05 * (-1) ** i
        wood = conifers(line, 60 + i, low, high, every)
        shade = np.broadcast_to(rgb(colour), picture.shape)
        # Fog lies in the valley: it thickens down from the ridge, and drifts.
        depth = np.clip((y - line[None, :]) / (210 + 40 * i), 0, 1)
        fog_here = depth**1.1 * (0.62 + 0.6 * (drift - 0.3)) * (0.98 - 0.06 * i)
        if i == len(hills) - 1:
            fog_here = fog_here * 0.35
        mist = gradient([(0, "#e8ebdc"), (1, "#c6d8d5")], np.clip(light / 1500, 0, 1))
        shade = mix(shade, mist, np.clip(fog_here, 0, 1))
        shade = mix(shade, rgb("#fff1cf"), 0.28 * np.exp(-((light / 560) ** 2)) * (1 - i / 6))
        picture = mix(picture, shade, below(wood, height))

    def birds(draw, k):
        for bx, by, span in [(1090, 250, 30), (1166, 222, 23), (1222, 266, 19), (1296, 238, 16), (1006, 214, 17)]:
            for side in (-1, 1):
                wing = [(bx + side * span * q, by - span * 0.42 * math.sin(q * 2.5)) for q in np.linspace(0, 1, 9)]
                draw.line([(px * k, py * k) for px, py in wing], fill=(62, 92, 102, 255), width=round(3.2 * k), joint="curve")

    picture = drawn(picture, birds, 2)
    save_jpeg(grain(picture, 0.005, 2), DAY1 / "Nebel über den Hügeln.jpg", (1200, 900), 62)


def dunes():
    """Sand in low light: gentle backs, sharp crests, blue shadows."""
    size = 2048
    v, u = np.mgrid[0:size, 0:size] / size
    bend = noise(size, size, 3.4, 71) - 0.5
    tall = 0.45 + 0.85 * noise(size, size, 3.2, 72)
    phase = (2 * u + 3 * v + 1.15 * bend) % 1
    back, face = phase / 0.74, (1 - phase) / 0.26
    profile = np.where(phase < 0.74, back**1.5, face**1.25)
    second = (5 * u - 2 * v + 1.6 * bend + 0.3) % 1
    small = np.where(second < 0.7, second / 0.7, (1 - second) / 0.3) ** 1.4
    heights = 0.062 * profile * tall + 0.010 * small
    ripple = np.sin(2 * np.pi * (130 * u + 60 * v + 30 * bend + 3 * noise(size, size, 2.6, 73)))
    land = Land(heights + 0.00003 * ripple, sun=(-0.86, 0.36, 0.32))
    width, height = 2100, 1400
    distance, ground, at = land.look((width, height), (0.30, 0.122, 0.06), 0.42, 0.235, 1.0, 3.2)
    light = at(land.light)
    sky_light = at(land.normal[1])
    sand = gradient([(0, "#43304f"), (0.16, "#7c4a50"), (0.42, "#cf7d47"), (0.72, "#f3b266"), (1, "#ffe0a0")], np.clip(light * 1.22, 0, 1))
    sand = mix(sand, rgb("#6d6596"), (0.30 * smooth(0.25, 0, light) * sky_light))
    t = np.arange(height)[:, None] / (height * 0.235) * np.ones((1, width))
    sky = gradient([(0, "#6f9fc4"), (0.55, "#b9cfd3"), (1, "#f7dcb4")], np.clip(t, 0, 1))
    haze = 1 - np.exp(-np.nan_to_num(distance, nan=9) * 0.75)
    sand = mix(sand, rgb("#f3cfa4"), np.clip(haze - 0.10, 0, 1) * 0.9)
    picture = np.where(ground[..., None], sand, sky)
    save_jpeg(grain(picture, 0.004, 3), DAY2 / "Dunes + long shadows.jpg", (1200, 800), 66)


def alps():
    """Snow peaks above a sea of fog in the last light, as a panorama."""
    size = 2048
    v, u = np.mgrid[0:size, 0:size] / size
    eye = (0.13, 0.066, 0.35)
    from_eye = np.hypot((u - eye[0] + 0.5) % 1 - 0.5, (v - eye[2] + 0.5) % 1 - 0.5)
    heights = 0.070 * ridges(size, 85) ** 1.3 * (0.55 + 0.6 * noise(size, size, 3.0, 84))
    heights = heights * (0.25 + 0.75 * smooth(0.12, 0.40, from_eye))  # we stand over a valley
    fog_top = np.percentile(heights, 66) + 0.0035 * (noise(size, size, 1.9, 86) - 0.5)
    land = Land(np.maximum(heights, fog_top), sun=(-0.80, 0.34, 0.50))
    width, height = 2700, 900
    distance, ground, at = land.look((width, height), eye, 0.95, 0.36, 1.15, 3.0, near=0.08)
    light, up, high = at(land.light), at(land.normal[1]), at(heights)
    patchy = at(noise(size, size, 1.0, 82))
    snow = smooth(0.60, 0.74, up + 0.22 * (patchy - 0.5) + 3.0 * (high - 0.024))
    rock = [(0, "#2c3862"), (0.3, "#5a4d6b"), (0.75, "#c47a62"), (1, "#e9a87c")]
    white = [(0, "#4f6dac"), (0.18, "#7f8fc6"), (0.45, "#eeae9b"), (0.71, "#ffdfc0"), (0.9, "#fff6e8")]
    sea = [(0, "#8593c9"), (0.17, "#b3acd2"), (0.31, "#eec3bb"), (0.48, "#ffe9d2"), (0.7, "#fff8ec")]
    scene = mix(gradient(rock, light), gradient(white, light), snow)
    scene = mix(scene, gradient(sea, light), at(smooth(-0.0035, 0.0015, fog_top - heights)))
    haze = 1 - np.exp(-np.nan_to_num(distance, nan=9) * 0.7)
    scene = mix(scene, rgb("#c3b6d6"), np.clip(haze * 0.85 - 0.12, 0, 0.9))
    y, x = np.mgrid[0:height, 0:width].astype(float)
    t = y / height
    sky = gradient([(0, "#3d62a9"), (0.15, "#8698cf"), (0.285, "#dcb6c6"), (0.38, "#ffcfae")], t)
    cloud = noise(2048, 4096, 1.5, 83, stretch=4)[:height, :width]
    sky = mix(sky, rgb("#ffe3d2"), 0.75 * smooth(0.5, 0.9, cloud) * smooth(0.0, 0.22, t))
    sky = mix(sky, rgb("#fdfaf2"), 0.92 * smooth(31, 29, np.hypot(x - 2160, y - 130)))
    picture = np.where(ground[..., None], scene, sky)
    save_jpeg(picture, DAY2 / "Panorama – Alpenglühen.jpg", (1800, 600), 96)


def ridges(size, seed, cells=4, octaves=9, gain=0.46):
    """Ridged noise in 0..1: each octave is sharp where it crosses zero and grows best on the ridges before it."""
    rng = np.random.default_rng(seed)
    fy = np.fft.fftfreq(size)[:, None] * size
    fx = np.fft.rfftfreq(size)[None, :] * size
    octave_of = np.log2(np.hypot(fy, fx) + 1e-9)
    total, before = 0, 1
    for octave in range(octaves):
        band = np.exp(-((octave_of - math.log2(cells * 2**octave)) ** 2) / 0.6)
        plane = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * band, s=(size, size))
        sharp = 1 - np.abs(np.tanh(plane / plane.std() * 0.8))
        total = total + sharp * (0.45 + 0.55 * before) * gain**octave
        before = sharp
    return (total - total.min()) / (total.max() - total.min())


def night():
    """The Milky Way over spruces, upright."""
    width, height = 1350, 1800
    y, x = np.mgrid[0:height, 0:width].astype(float)
    t = y / height
    picture = gradient([(0, "#070b21"), (0.45, "#0f1d42"), (0.72, "#1f3c63"), (0.86, "#3f6a7a"), (0.95, "#8fa58a")], t)
    along = (x - 420) * 0.50 + (y - 1500) * 0.866
    across = (x - 420) * 0.866 - (y - 1500) * 0.50 - 560
    across = across + 90 * (noise(2048, 2048, 2.0, 91)[:height, :width] - 0.5)
    dust = noise(2048, 2048, 1.35, 92)[:height, :width]
    body = np.exp(-((across / 215) ** 2))
    core = np.exp(-((across / 95) ** 2))
    lane = smooth(0.46, 0.74, dust + 0.30 * np.exp(-(((across + 14) / 46) ** 2)) - 0.08)
    glow = body * (0.35 + 0.75 * noise(2048, 2048, 1.6, 93)[:height, :width])
    fade = smooth(1.02, 0.55, t)
    picture = mix(picture, rgb("#8390c8"), np.clip(0.60 * glow * fade, 0, 1))
    picture = mix(picture, rgb("#f0cfc0"), np.clip(0.62 * core * glow * fade * smooth(-1500, 200, along), 0, 1))
    picture = mix(picture, rgb("#141531"), 0.66 * lane * np.clip(core * 1.25, 0, 1) * fade)
    rng = np.random.default_rng(94)
    stars = np.zeros((height, width, 3))
    tints = np.array([rgb("#ffffff"), rgb("#cfdcff"), rgb("#ffe6c4"), rgb("#aebfff")])
    wanted = 5200
    sx, sy = rng.uniform(0, width, wanted * 3), rng.uniform(0, height * 0.9, wanted * 3)
    chance = 0.16 + 0.84 * body[sy.astype(int), sx.astype(int)]
    kept = rng.uniform(0, 1, wanted * 3) < chance
    for px, py in zip(sx[kept].astype(int), sy[kept].astype(int)):
        bright = rng.pareto(1.75) * 0.26 + 0.10
        tint = tints[rng.integers(4)]
        radius = 1 if bright < 0.5 else 2 if bright < 1.5 else 4
        top, left = max(py - 8, 0), max(px - 8, 0)
        patch = stars[top : py + 9, left : px + 9]
        py_grid, px_grid = np.mgrid[top : top + patch.shape[0], left : left + patch.shape[1]]
        spot = np.exp(-(((py_grid - py) ** 2 + (px_grid - px) ** 2) / (0.55 * radius**2)))
        patch += spot[..., None] * tint * min(bright, 1.6)
    picture = picture + stars * smooth(0.93, 0.62, t)[..., None]
    hill = 1600 - 46 * ridge(width, 1.7, 95) - 30 * np.cos(np.arange(width) / width * 6.3)
    picture = mix(picture, rgb("#1c3a4a"), below(conifers(hill - 70, 96, 40, 90, 20), height))
    picture = mix(picture, rgb("#060d1c"), below(conifers(hill + 60, 97, 130, 400, 50), height))
    # One shooting star.
    canvas = image(picture)
    streak = Image.new("L", canvas.size, 0)
    draw = ImageDraw.Draw(streak)
    for i in range(120):
        px, py = 1120 - i * 2.3, 300 + i * 1.4
        draw.ellipse([px - 2, py - 2, px + 2, py + 2], fill=int(250 * (i / 119) ** 1.6))
    canvas.paste((235, 242, 255), mask=streak.filter(ImageFilter.GaussianBlur(1.1)))
    save_jpeg(canvas, DAY1 / "Ann's night sky ✨.jpg", (900, 1200), 70)


def balloons():
    """Balloons over hills in the evening; stored turned by a quarter, as cameras do."""
    width, height = 2400, 1800
    y, x = np.mgrid[0:height, 0:width].astype(float)
    t = y / height
    picture = gradient([(0, "#2f7fb5"), (0.35, "#79bccd"), (0.62, "#f6dcae"), (0.76, "#fbb987")], t)
    cloud = noise(2048, 4096, 1.6, 101, stretch=2.5)[:height, :width]
    fine = noise(2048, 4096, 1.25, 102, stretch=2)[:height, :width]
    picture = mix(picture, rgb("#fff5e4"), 0.85 * smooth(0.52, 0.86, 0.82 * cloud + 0.18 * fine) * smooth(0.02, 0.3, t))
    hills = [(1330, 44, 1.5, "#d99a86"), (1420, 52, 1.5, "#a8788a"), (1520, 54, 1.6, "#6f5c83"), (1640, 60, 1.6, "#43426d"), (1760, 46, 1.7, "#272c51")]
    for i, (base, rise, rough, colour) in enumerate(hills):
        line = base - rise * ridge(width, rough, 110 + i)
        shade = mix(np.broadcast_to(rgb(colour), picture.shape), rgb("#fbc79c"), 0.55 * np.clip((y - line[None, :]) / 260, 0, 1) * (1 - i / 5))
        picture = mix(picture, shade, below(conifers(line, 120 + i, 6 + 9 * i, 14 + 20 * i, 8 + 5 * i) if i > 1 else line, height))
    flock = [
        (520, 1010, 74, ["#27496d", "#f2f0e4"]),
        (2075, 880, 92, ["#2a9d8f", "#e9c46a"]),
        (1170, 1120, 52, ["#e76f51", "#ffd9a0"]),
        (905, 540, 196, ["#f4a259", "#8c2f39", "#f6e7cb"]),
        (1610, 640, 268, ["#d1495b", "#fff1d6", "#edae49", "#fff1d6"]),
    ]
    for cx, cy, radius, cloth in flock:
        picture = balloon(picture, x, y, cx, cy, radius, cloth)
    save_jpeg(grain(picture, 0.004, 6), DAY2 / "Ballons über Südtirol 🎈.jpg", (1200, 900), 60, orientation=8)


def balloon(picture, x, y, cx, cy, radius, cloth):
    """Paints one hot-air balloon: a gored envelope lit from the left, lines, a basket."""
    u, v = (x - cx) / radius, (y - cy) / radius
    # The half width of the envelope at each height: a sphere above, drawn in to the mouth below.
    half = np.where(v < 0.1, np.sqrt(np.clip(1 - v * v, 0, 1)), np.interp(v, np.linspace(0.1, 1.42, 34), mouth()))
    inside = smooth(0, 0.02, half - np.abs(u)) * ((v > -1) & (v < 1.40))
    turn = np.arcsin(np.clip(u / np.maximum(half, 1e-3), -1, 1)) / np.pi + 0.5
    gore = turn * 12 + 0.5
    which = np.floor(gore).astype(int) % len(cloth)
    colour = np.array([rgb(c) for c in cloth])[which]
    band = (np.abs(v - 0.34) < 0.11) & (len(cloth) > 2)
    colour = np.where(band[..., None], np.array([rgb(c) for c in cloth])[(which + 1) % len(cloth)], colour)
    normal_x, normal_y = u / np.maximum(half, 1e-3) * 0.9, np.clip(v, -1, 1) * 0.8
    light = np.clip(0.80 - 0.42 * normal_x - 0.30 * normal_y, 0.25, 1.15)
    bulge = 1 - 0.20 * np.abs((gore % 1) * 2 - 1) ** 3
    colour = colour * (light * bulge)[..., None]
    colour = mix(colour, rgb("#fff3d6"), 0.35 * np.exp(-(((u + 0.42) / 0.3) ** 2 + ((v + 0.38) / 0.4) ** 2)))
    picture = mix(picture, colour, inside)
    canvas = image(picture)
    draw = ImageDraw.Draw(canvas)
    r = radius
    line = max(2, round(r / 60))
    for side in (-0.2, -0.07, 0.07, 0.2):
        draw.line([(cx + side * r, cy + 1.38 * r), (cx + side * 0.72 * r, cy + 1.68 * r)], fill=(60, 44, 52), width=line)
    draw.rounded_rectangle([cx - 0.155 * r, cy + 1.66 * r, cx + 0.155 * r, cy + 1.88 * r], r * 0.04, fill=(112, 70, 48))
    draw.rectangle([cx - 0.165 * r, cy + 1.655 * r, cx + 0.165 * r, cy + 1.70 * r], fill=(74, 46, 40))
    return np.asarray(canvas, float) / 255


def mouth():
    """Half widths of an envelope from its shoulder down to its mouth."""
    t = np.linspace(0, 1, 34)
    return 0.995 * (1 - t) ** 0.9 * (1 - 0.12 * t) + 0.22 * t + 0.33 * t * (1 - t)


def logo():
    """The mark, with transparency: three sheets fanned out, and a badge that says "take it"."""
    scale = 4
    size = 560 * scale
    centre = 280 * scale

    def sheet():
        return Image.new("RGBA", (size, size), (0, 0, 0, 0))

    canvas = sheet()
    for angle, colour in [(-20, "#2a9d8f"), (-2, "#e9c46a"), (16, "#e76f51")]:
        paper, lines, shadow = sheet(), sheet(), sheet()
        box = [155 * scale, 60 * scale, 405 * scale, 400 * scale]
        ImageDraw.Draw(shadow).rounded_rectangle(box, 30 * scale, fill=(20, 30, 50, 110))
        shadow = shadow.filter(ImageFilter.GaussianBlur(8 * scale))
        tone = tuple(int(c * 255) for c in rgb(colour))
        ImageDraw.Draw(paper).rounded_rectangle(box, 30 * scale, fill=tone + (255,))
        for i, share in enumerate((0.62, 1.0, 0.8)):
            top = (118 + 48 * i) * scale
            ends = [195 * scale, top, (195 + 170 * share) * scale, top + 16 * scale]
            ImageDraw.Draw(lines).rounded_rectangle(ends, 8 * scale, fill=(255, 255, 255, 165))
        layer = Image.alpha_composite(Image.alpha_composite(shadow, paper), lines)
        layer = layer.rotate(-angle, Image.BICUBIC, center=(centre, 520 * scale))
        canvas = Image.alpha_composite(canvas, layer)
    badge, shadow = sheet(), sheet()
    cy, r = 400 * scale, 108 * scale
    ImageDraw.Draw(shadow).ellipse([centre - r, cy - r + 8 * scale, centre + r, cy + r + 8 * scale], fill=(20, 30, 50, 120))
    draw = ImageDraw.Draw(badge)
    draw.ellipse([centre - r, cy - r, centre + r, cy + r], fill=(31, 45, 74, 255))
    white, thick = (255, 255, 255, 255), 20 * scale
    round_line(draw, [(centre, cy - 50 * scale), (centre, cy + 22 * scale)], white, thick)
    round_line(draw, [(centre - 34 * scale, cy - 10 * scale), (centre, cy + 24 * scale), (centre + 34 * scale, cy - 10 * scale)], white, thick)
    round_line(draw, [(centre - 42 * scale, cy + 56 * scale), (centre + 42 * scale, cy + 56 * scale)], white, thick)
    canvas = Image.alpha_composite(canvas, shadow.filter(ImageFilter.GaussianBlur(8 * scale)))
    canvas = Image.alpha_composite(canvas, badge).resize((420, 420), Image.LANCZOS)
    out = io.BytesIO()
    canvas.save(out, "PNG", optimize=True)
    write(HERE / "gallery" / "Logo (transparent).png", out.getvalue())


def round_line(draw, points, fill, width):
    """A line with round ends and joints."""
    draw.line(points, fill=fill, width=width)
    for px, py in points:
        draw.ellipse([px - width / 2, py - width / 2, px + width / 2, py + width / 2], fill=fill)


# --------------------------------------------------------------------------------------------------------------------
# Sound and motion
# --------------------------------------------------------------------------------------------------------------------


def ffmpeg(*arguments, feed):
    if shutil.which("ffmpeg") is None:
        print("          ffmpeg is missing: left as it is")
        return
    subprocess.run(["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", *arguments], input=feed, check=True)


def chime():
    """Four seconds of a music box, as MP3."""
    rate = 44100
    sound = np.zeros(rate * 4)
    tune = [(0.0, 76), (0.28, 79), (0.56, 84), (0.84, 88), (1.26, 86), (1.54, 83), (1.82, 79), (2.24, 84), (2.24, 72), (2.24, 64)]
    for start, key in tune:
        first = int(start * rate)
        t = np.arange(len(sound) - first) / rate
        pitch = 440 * 2 ** ((key - 69) / 12)
        partials = [(1, 1.0, 2.4), (2.76, 0.32, 5.5), (5.4, 0.12, 11.0)]
        tone = sum(loud * np.exp(-t * fall) * np.sin(2 * np.pi * pitch * ratio * t) for ratio, loud, fall in partials)
        sound[first:] += tone * np.minimum(t * 300, 1)
    late = int(0.19 * rate)
    sound[late:] += 0.25 * sound[:-late]
    fade = np.minimum(1, (4 - np.arange(len(sound)) / rate) / 0.4)
    sound = sound * fade / np.abs(sound).max() * 0.8
    wav = io.BytesIO()
    with wave.open(wav, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((sound * 32767).astype("<i2").tobytes())
    path = DAY1 / "Music box 🎵.mp3"
    ffmpeg("-i", "-", "-b:a", "64k", "-fflags", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1", str(path), feed=wav.getvalue())
    print(f"{path.stat().st_size:8,}  {path.relative_to(HERE)}")


def clip():
    """Three seconds of dawn over hills, from night to morning, 640 × 360."""
    width, height, frames = 640, 360, 75
    y, x = np.mgrid[0:height, 0:width].astype(float)
    t = y / height
    palettes = [
        (0.0, ["#070b22", "#101a3c", "#20305c", "#3c4672"]),
        (0.35, ["#182552", "#43407c", "#a35f88", "#ef9268"]),
        (0.7, ["#3f6fa8", "#90a7c4", "#f4bf98", "#ffdf9c"]),
        (1.0, ["#4f9bd6", "#8fc6e6", "#d9ebe9", "#fff3cf"]),
    ]
    cloud = noise(1024, 1024, 1.6, 131, stretch=2.8)
    ranges = [(236, 16, 1.4, "#7c86ab"), (262, 18, 1.4, "#556a8c"), (292, 18, 1.5, "#31516a"), (326, 16, 1.6, "#163040")]
    lines = []
    for i, (base, rise, rough, colour) in enumerate(ranges):
        line = base - rise * ridge(width, rough, 140 + i)
        lines.append((below(conifers(line, 150 + i, 3 + 5 * i, 7 + 11 * i, 4 + 4 * i) if i else line, height), line, rgb(colour)))
    rng = np.random.default_rng(160)
    sky_stars = np.zeros((height, width))
    sky_stars[rng.integers(0, 210, 150), rng.integers(0, width, 150)] = rng.uniform(0.3, 1, 150)
    stars = np.asarray(Image.fromarray((sky_stars * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7)), float) / 255 * 2.4
    film = []
    for frame in range(frames):
        now = frame / (frames - 1)
        places = [0, 0.3, 0.55, 0.72]
        stops = []
        for i, place in enumerate(places):
            colours = np.array([rgb(palette[i]) for _, palette in palettes])
            stops.append([np.interp(now, [p for p, _ in palettes], colours[:, c]) for c in range(3)])
        stops = np.array(stops)
        sky = np.stack([np.interp(t, places, stops[:, c]) for c in range(3)], axis=-1)
        sky = sky + (stars * smooth(0.45, 0.1, now) * smooth(0.62, 0.3, t))[..., None]
        sun_x, sun_y = 400 + 40 * now, 330 - 235 * now**0.9
        from_sun = np.hypot(x - sun_x, y - sun_y)
        warm = smooth(0.08, 0.4, now)
        sky = mix(sky, rgb("#ffdf9a"), 0.7 * warm * np.exp(-from_sun / 90))
        drift = np.roll(cloud, (0, round(-110 * now)), (0, 1))[:height, :width]
        tint = gradient([(0, "#1b2547"), (0.35, "#f0917c"), (0.7, "#ffdcb4"), (1, "#ffffff")], np.full((height, width), now))
        sky = mix(sky, tint, 0.85 * smooth(0.42, 0.8, drift) * smooth(0.68, 0.35, t))
        sky = mix(sky, rgb("#fffbe8"), warm * smooth(19, 17, from_sun))
        for i, (mask, line, colour) in enumerate(lines):
            day = 0.22 + 0.78 * smooth(0.1, 1, now)
            shade = np.broadcast_to(colour * day, sky.shape)
            shade = mix(shade, stops[3], (0.42 - 0.1 * i) * warm * np.clip((y - line[None, :]) / 60, 0, 1) + 0.15 * (3 - i) / 3 * warm)
            sky = mix(sky, shade, mask)
        film.append((np.clip(sky, 0, 1) * 255 + 0.5).astype(np.uint8).tobytes())
    path = DAY2 / "Zeitraffer – dawn in 3 s.mp4"
    ffmpeg(
        *["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "25", "-i", "-"],
        *["-c:v", "libx264", "-preset", "veryslow", "-crf", "27", "-pix_fmt", "yuv420p", "-profile:v", "high"],
        *["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1", "-movflags", "+faststart", str(path)],
        feed=b"".join(film),
    )
    print(f"{path.stat().st_size:8,}  {path.relative_to(HERE)}")

# --------------------------------------------------------------------------------------------------------------------
# Reports
# --------------------------------------------------------------------------------------------------------------------

INK, SOFT, RULE, PALE = "#1f2d4a", "#66718a", "#d7dce6", "#f3f5f9"


class Paper:
    """An A4 page to write on from the top down, in millimetres. Standard fonts only, so that a file stays small."""

    def __init__(self, path, title, author, accent):
        from reportlab.lib.pagesizes import A4
        from reportlab.lib.units import mm
        from reportlab.pdfgen.canvas import Canvas

        self.path, self.mm, self.accent = path, mm, accent
        self.width, self.height = A4[0] / mm, A4[1] / mm
        self.buffer = io.BytesIO()
        self.canvas = Canvas(self.buffer, pagesize=A4, invariant=1, pageCompression=1)
        self.canvas.setTitle(title)
        self.canvas.setAuthor(author)
        self.left, self.right = 20, self.width - 20

    def colour(self, hexa):
        from reportlab.lib.colors import HexColor

        return HexColor(hexa)

    def text(self, x, y, words, size=10, bold=False, colour=INK, align="left"):
        self.canvas.setFont("Helvetica-Bold" if bold else "Helvetica", size)
        self.canvas.setFillColor(self.colour(colour))
        place = (x * self.mm, (self.height - y) * self.mm)
        {"left": self.canvas.drawString, "right": self.canvas.drawRightString, "centre": self.canvas.drawCentredString}[align](*place, words)

    def box(self, x, y, width, height, colour, radius=0):
        self.canvas.setFillColor(self.colour(colour))
        self.canvas.roundRect(x * self.mm, (self.height - y - height) * self.mm, width * self.mm, height * self.mm, radius * self.mm, stroke=0, fill=1)

    def line(self, points, colour=RULE, width=0.25):
        self.canvas.setStrokeColor(self.colour(colour))
        self.canvas.setLineWidth(width * self.mm)
        self.canvas.setLineJoin(1)
        path = self.canvas.beginPath()
        for i, (x, y) in enumerate(points):
            (path.lineTo if i else path.moveTo)(x * self.mm, (self.height - y) * self.mm)
        self.canvas.drawPath(path)

    def dot(self, x, y, radius, colour):
        self.canvas.setFillColor(self.colour(colour))
        self.canvas.circle(x * self.mm, (self.height - y) * self.mm, radius * self.mm, stroke=0, fill=1)

    def masthead(self, house, title, below):
        self.box(0, 0, self.width, 5, self.accent)
        self.text(self.left, 20, house, 9, True, self.accent)
        self.text(self.left, 32, title, 23, True)
        self.text(self.left, 39.5, below, 10.5, colour=SOFT)
        self.line([(self.left, 45), (self.right, 45)])

    def paragraph(self, y, words, size=10, width=None):
        """Sets a paragraph and returns where the next one may begin."""
        width = (width or self.right - self.left) * self.mm
        rows, row = [], ""
        for word in words.split():
            longer = f"{row} {word}".strip()
            if self.canvas.stringWidth(longer, "Helvetica", size) > width:
                rows, row = rows + [row], word
            else:
                row = longer
        for row in rows + [row]:
            self.text(self.left, y, row, size)
            y += size * 0.52
        return y + 3

    def heading(self, y, words):
        self.text(self.left, y, words, 12.5, True)
        return y + 6.5

    def figures(self, y, cards):
        """A row of key figures: (label, value, note, good)."""
        gap = 5
        width = (self.right - self.left - gap * (len(cards) - 1)) / len(cards)
        for i, (label, value, note, good) in enumerate(cards):
            x = self.left + i * (width + gap)
            self.box(x, y, width, 25, PALE, 2)
            self.text(x + 5, y + 7.5, label, 8.5, colour=SOFT)
            self.text(x + 5, y + 15.5, value, 16, True)
            self.text(x + 5, y + 21, note, 8.5, colour="#2a8a5d" if good else "#c0503a")
        return y + 35

    def table(self, y, head, rows, widths, last_bold=False):
        total = self.right - self.left
        edges = [self.left]
        for share in widths:
            edges.append(edges[-1] + total * share / sum(widths))

        def row(y, cells, bold, colour):
            for i, cell in enumerate(cells):
                if i == 0:
                    self.text(edges[0] + 2.5, y + 5, cell, 9, bold, colour)
                else:
                    self.text(edges[i + 1] - 2.5, y + 5, cell, 9, bold, colour, "right")

        self.box(self.left, y, total, 7.5, self.accent, 1)
        row(y, head, True, "#ffffff")
        y += 7.5
        for i, cells in enumerate(rows):
            last = last_bold and i == len(rows) - 1
            if i % 2 and not last:
                self.box(self.left, y, total, 7.2, PALE)
            if last:
                self.line([(self.left, y), (self.right, y)], INK, 0.3)
            row(y, cells, last, INK)
            y += 7.2
        return y + 10

    def axis(self, x, y, width, height, top, steps, unit, low=0):
        for i in range(steps + 1):
            level = y + height - height * i / steps
            self.line([(x, level), (x + width, level)], RULE, 0.2)
            self.text(x - 2.5, level + 1.2, f"{low + (top - low) * i / steps:g}{unit}", 8, colour=SOFT, align="right")

    def bars(self, y, groups, colours, names, top, steps, unit="", height=52):
        """Bars side by side: groups is a list of (label, values)."""
        x, width = self.left + 12, self.right - self.left - 12
        self.legend(y, names, colours)
        y += 6
        self.axis(x, y, width, height, top, steps, unit)
        slot = width / len(groups)
        for i, (label, values) in enumerate(groups):
            bar = slot * 0.62 / len(values)
            for k, value in enumerate(values):
                tall = height * value / top
                self.box(x + slot * (i + 0.19) + k * bar, y + height - tall, bar * 0.9, tall, colours[k])
            self.text(x + slot * (i + 0.5), y + height + 5, label, 8.5, colour=SOFT, align="centre")
        return y + height + 15

    def lines(self, y, labels, series, colours, names, top, steps, unit="", height=52, low=0):
        x, width = self.left + 12, self.right - self.left - 12
        self.legend(y, names, colours)
        y += 6
        self.axis(x, y, width, height, top, steps, unit, low)
        for values, colour in zip(series, colours):
            points = [(x + width * (i + 0.5) / len(labels), y + height - height * (value - low) / (top - low)) for i, value in enumerate(values)]
            self.line(points, colour, 0.7)
            for px, py in points:
                self.dot(px, py, 1.1, colour)
        for i, label in enumerate(labels):
            self.text(x + width * (i + 0.5) / len(labels), y + height + 5, label, 8.5, colour=SOFT, align="centre")
        return y + height + 15

    def legend(self, y, names, colours):
        x = self.right
        for name, colour in reversed(list(zip(names, colours))):
            x -= self.canvas.stringWidth(name, "Helvetica", 8.5) / self.mm
            self.text(x, y + 1, name, 8.5, colour=SOFT)
            x -= 5
            self.box(x, y - 1.6, 3, 3, colour, 0.6)
            x -= 5

    def foot(self, words, page):
        self.line([(self.left, self.height - 18), (self.right, self.height - 18)])
        self.text(self.left, self.height - 13, words, 8, colour=SOFT)
        self.text(self.right, self.height - 13, page, 8, colour=SOFT, align="right")

    def next(self):
        self.canvas.showPage()

    def done(self):
        self.canvas.save()
        write(self.path, self.buffer.getvalue())


def revenue():
    """A German quarterly report of two pages."""
    paper = Paper(REPORTS / "Umsatz Q3 – Süd.pdf", "Umsatz Q3 2026 – Region Süd", "Alpenhof Naturkost GmbH", "#1f7a6c")
    paper.masthead("ALPENHOF NATURKOST", "Umsatz Q3 2026 – Region Süd", "Juli bis September · Stand 5. Oktober 2026 · alle Beträge in Tausend Euro")
    y = paper.figures(54, [("Umsatz", "4.812 T€", "+ 8,4 % zum Vorjahr", True), ("Rohertrag", "31,7 %", "+ 0,9 Punkte", True), ("Retouren", "2,6 %", "+ 0,4 Punkte", False)])
    y = paper.paragraph(y, "Das dritte Quartal war das stärkste seit Eröffnung des Lagers in Kempten. Getragen wurde es von Käse und Getränken; der August lag wegen der Hitze bei Tiefkühlware deutlich unter Plan. Die Märkte in Südtirol liefern zum ersten Mal ein volles Quartal.")
    y = paper.heading(y + 4, "Umsatz nach Markt")
    rows = [
        ("München", "1.788", "1.940", "2.102", "+ 8,4 %"), ("Augsburg", "602", "611", "655", "+ 7,2 %"), ("Kempten", "418", "455", "498", "+ 9,5 %"),
        ("Lörrach", "377", "372", "391", "+ 5,1 %"), ("Überlingen", "290", "344", "352", "+ 2,3 %"), ("Bozen / Südtirol", "–", "322", "514", "+ 59,6 %"), ("Straßenverkauf", "206", "262", "300", "+ 14,5 %"),
        ("Summe", "3.681", "4.306", "4.812", "+ 11,8 %"),
    ]  # fmt: skip
    y = paper.table(y, ["Markt", "Q1", "Q2", "Q3", "Q3 zu Q2"], rows, [3, 1.2, 1.2, 1.2, 1.4], last_bold=True)
    y = paper.heading(y, "Monate im Vergleich")
    paper.bars(y, [("April", (1380, 1402)), ("Mai", (1395, 1418)), ("Juni", (1390, 1486)), ("Juli", (1450, 1562)), ("August", (1480, 1508)), ("September", (1509, 1742))], ["#b9c7c4", "#1f7a6c"], ["2025", "2026"], 1800, 3, height=44)
    paper.foot("Vertraulich · nur für Empfänger dieser Nachricht", "Seite 1 von 2")
    paper.next()
    paper.box(0, 0, paper.width, 5, paper.accent)
    y = paper.heading(26, "Warengruppen")
    rows = [("Käse & Molkerei", "1.388", "28,8 %", "+ 12,1 %"), ("Getränke", "1.104", "22,9 %", "+ 15,8 %"), ("Obst & Gemüse", "962", "20,0 %", "+ 4,4 %"), ("Brot & Gebäck", "701", "14,6 %", "+ 6,0 %"), ("Tiefkühl", "365", "7,6 %", "– 9,3 %"), ("Übriges", "292", "6,1 %", "+ 1,2 %"), ("Summe", "4.812", "100,0 %", "+ 8,4 %")]
    y = paper.table(y, ["Warengruppe", "Q3", "Anteil", "zum Vorjahr"], rows, [3, 1.2, 1.2, 1.4], last_bold=True)
    y = paper.heading(y, "Rohertrag nach Monat, in Prozent vom Umsatz")
    y = paper.lines(y, ["Apr", "Mai", "Jun", "Jul", "Aug", "Sep"], [(30.2, 30.6, 30.9, 31.2, 31.4, 32.4), (29.8, 30.0, 30.4, 30.7, 30.8, 31.0)], ["#1f7a6c", "#e0a030"], ["Ist", "Plan"], 34, 3, " %", 44, low=28)
    y = paper.heading(y, "Ausblick")
    for words in ("Die Hauptlieferung für Weihnachten beginnt in Kalenderwoche 47; die Kühlkapazität in Kempten reicht nach heutigem Stand bis etwa 1.900 Tausend Euro im Monat.",
                  "Retouren: Ursache sind beschädigte Kartons auf der Strecke nach Bozen. Ein zweiter Spediteur fährt seit dem 28. September auf Probe."):  # fmt: skip
        y = paper.paragraph(y, words)
    paper.foot("Vertraulich · nur für Empfänger dieser Nachricht", "Seite 2 von 2")
    paper.done()


def delivery():
    """A daily report in English, one page."""
    paper = Paper(REPORTS / "Delivery report 2026-11-23.pdf", "Delivery report, 23 November 2026", "Northwind Parcel", "#2b5fb3")
    paper.masthead("NORTHWIND PARCEL", "Delivery report", "Monday, 23 November 2026 · prepared for ACME Ltd · all times UTC")
    y = paper.figures(54, [("Parcels delivered", "12,482", "98.6 % of all tours", True), ("On time", "96.1 %", "+1.3 points on last Monday", True), ("Second attempts", "211", "+38 on last Monday", False)])
    y = paper.heading(y + 2, "Depots")
    rows = [("Amsterdam", "64", "3,120", "97.4 %", "29"), ("Berlin", "71", "3,648", "96.8 %", "51"), ("Dublin", "38", "1,702", "95.9 %", "34"), ("København", "29", "1,344", "98.2 %", "12"), ("Málaga", "33", "1,410", "91.7 %", "66"), ("Zürich", "27", "1,258", "97.7 %", "19"), ("All", "262", "12,482", "96.1 %", "211")]
    y = paper.table(y, ["Depot", "Tours", "Delivered", "On time", "Second attempt"], rows, [2.6, 1.1, 1.3, 1.2, 1.7], last_bold=True)
    y = paper.heading(y, "Parcels by hour of delivery")
    hours = [("07", 210), ("08", 640), ("09", 1190), ("10", 1545), ("11", 1610), ("12", 1180), ("13", 1090), ("14", 1390), ("15", 1420), ("16", 1105), ("17", 712), ("18", 390)]
    y = paper.bars(y, [(hour, (count,)) for hour, count in hours], ["#2b5fb3"], ["delivered"], 1800, 3, height=46)
    y = paper.heading(y, "Worth knowing")
    paper.paragraph(y, "Málaga lost two hours to a closed ring road; tours 14 to 19 were finished by the evening team. Nothing is left over for Tuesday. The list of every order is in the attached file “orders 2026-11-23.csv”.")
    paper.foot("Questions: operations@northwind.example", "Page 1 of 1")
    paper.done()


def costs():
    """A one-page note with a name that every encoder trips over."""
    paper = Paper(REPORTS / "C++ & Rust costs +12%.pdf", "C++ & Rust: build costs +12%", "Platform team", "#b4532a")
    paper.masthead("PLATFORM TEAM", "C++ & Rust: build costs +12%", "October 2026 against September · shared build farm, two regions")
    y = paper.figures(54, [("Spent", "€ 18,940", "+12 % on September", False), ("Builds", "41,206", "+19 %", True), ("Per build", "€ 0.46", "–6 %", True)])
    y = paper.paragraph(y, "We spent more because we built more; a single build became cheaper. Two thirds of the rise come from the new nightly matrix (3 compilers × 4 targets), which can be thinned out without losing a release target.")
    y = paper.heading(y + 4, "Cost by language and stage, in euro")
    rows = [("C++ · compile", "5,120", "5,904", "+15 %"), ("C++ · link & package", "1,610", "1,702", "+6 %"), ("C++ · tests", "2,480", "2,690", "+8 %"), ("Rust · compile", "4,035", "4,610", "+14 %"), ("Rust · clippy & doc", "690", "731", "+6 %"), ("Rust · tests", "1,905", "2,193", "+15 %"), ("Cache & storage", "1,070", "1,110", "+4 %"), ("Sum", "16,910", "18,940", "+12 %")]
    y = paper.table(y, ["Stage", "September", "October", "Change"], rows, [3, 1.3, 1.3, 1.1], last_bold=True)
    y = paper.heading(y, "Minutes of a median build")
    paper.lines(y, ["May", "Jun", "Jul", "Aug", "Sep", "Oct"], [(14.2, 13.8, 12.9, 12.6, 11.8, 11.0), (9.1, 8.6, 8.7, 7.9, 7.2, 6.4)], ["#34507a", "#b4532a"], ["C++", "Rust"], 16, 4, "", 48)
    paper.foot("Source: farm invoices; cache hit rate 71 % (C++), 83 % (Rust)", "Page 1 of 1")
    paper.done()


def orders():
    """Sixty orders, with the quoting that CSV needs."""
    rng = random.Random(23)
    depots = {"Amsterdam": "NL", "Berlin": "DE", "Dublin": "IE", "København": "DK", "Málaga": "ES", "Zürich": "CH"}
    people = ["Ann Bell", "Bo Lindqvist", "Chiara Conti", "Dörte Groß", "Eoin O'Shea", "François Lefèvre", "Gül Yıldız", "Hana Nováková", "Íñigo Peña", 'Jan "Jip" de Vries', "Klein, Söhne & Co.", "Łukasz Wójcik", "Mei-Ling Chen", "Núria Puig"]
    goods = [("Espresso beans 1 kg", 18.90), ("Tea, assorted", 12.40), ("Notebook A5, dotted", 7.50), ("Desk lamp 'Luna'", 64.00), ("Wool blanket", 89.00), ("Ceramic mug", 11.20), ('Picture frame 8"', 15.75), ("Olive oil 0.75 l", 13.60), ("Hiking map Süd", 9.80)]
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\r\n")
    table.writerow(["order", "delivered_at", "depot", "country", "recipient", "item", "quantity", "unit_price_eur", "total_eur", "attempts", "on_time"])
    at = datetime.datetime(2026, 11, 23, 7, 4, 12)
    for number in range(60):
        at += datetime.timedelta(seconds=rng.randrange(120, 1150))
        depot = rng.choice(list(depots))
        item, price = rng.choice(goods)
        quantity = rng.choice([1, 1, 1, 2, 2, 3, 6])
        attempts = 2 if rng.random() < 0.07 else 1
        table.writerow([f"NW-{2611230001 + number * 17}", at.strftime("%Y-%m-%dT%H:%M:%SZ"), depot, depots[depot], rng.choice(people), item, quantity, f"{price:.2f}", f"{price * quantity:.2f}", attempts, "no" if attempts > 1 or rng.random() < 0.03 else "yes"])
    write(REPORTS / "orders 2026-11-23.csv", out.getvalue().encode())


def note():
    write(
        REPORTS / "Notizen & nächste Schritte 📝.txt",
        """Notes for Tuesday, 24 November 2026
===================================

1. Málaga: ask the city when the ring road opens again. Until then start tours 14-19 half an hour earlier.
2. Kempten → Bozen: compare the damage rate of both carriers (goal: below 1.5 %).
3. The nightly build matrix: drop the two targets that nobody ships.
4. Send the gallery of the autumn trip to everybody who asked (Ann, Bo, Dörte, Núria).
5. “Umsatz Q3 – Süd.pdf” is final. The draft of Friday can be deleted.

Zum Mitnehmen: Der Link in der Nachricht gilt nur bis zu der Zeit, die dort steht.
Wer die Datei länger braucht, lädt sie bitte herunter.
""".encode(),
    )


MAKERS = (revenue, delivery, costs, orders, note, sunrise, fog, night, dunes, alps, balloons, logo, chime, clip)

if __name__ == "__main__":
    wanted = sys.argv[1:]
    known = [maker.__name__ for maker in MAKERS]
    if set(wanted) - set(known):
        sys.exit(f"known are: {' '.join(known)}")
    for maker in MAKERS:
        if not wanted or maker.__name__ in wanted:
            maker()
