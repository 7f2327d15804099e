//! Measures renditions: CPU and bytes for a photo of 24 megapixels, beside `vipsthumbnail` and `convert` of `ImageMagick` where they are installed.
//!
//! `cargo bench --bench renditions [PHOTO.jpg …]`. Without a photo, one is drawn. Each program makes both sizes on one thread, several
//! times; the least CPU time counts. Timings vary on shared machines: compare the ratios.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when something is wrong"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use handout::media::rendition::{LARGE_SIDE, SMALL_SIDE, make};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// How often each program works on a photo.
const ROUNDS: usize = 5;

const WIDTH: u16 = 6000;
const HEIGHT: u16 = 4000;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let drawn = dir.path().join("drawn.jpg");
    let mut photos: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    if photos.is_empty() {
        fs::write(&drawn, draw()).unwrap();
        photos.push(drawn.to_string_lossy().into_owned());
    }
    for photo in photos {
        let bytes = fs::read(&photo).unwrap();
        println!("{photo}: {} bytes", bytes.len());
        let made = make(&bytes, &|| false).unwrap();
        let large = made.large.as_ref().map_or(0, |large| large.jpeg.len());
        let own = least(|| {
            let before = cpu(13);
            drop(make(&bytes, &|| false).unwrap());
            cpu(13) - before
        });
        let sizes = (made.small.jpeg.len() as u64, large as u64);
        print("handout", own, Some(sizes), own);
        for (name, program, arguments) in others(&photo, dir.path()) {
            let took = least(|| {
                let before = cpu(15);
                for arguments in &arguments {
                    let mut command = Command::new(program);
                    command
                        .env("VIPS_CONCURRENCY", "1")
                        .env("MAGICK_THREAD_LIMIT", "1")
                        .args(arguments);
                    if !command.status().is_ok_and(|status| status.success()) {
                        return f64::INFINITY;
                    }
                }
                cpu(15) - before
            });
            let size = |side: u32| fs::metadata(dir.path().join(format!("{side}.jpg")));
            let sizes = size(SMALL_SIDE).ok().zip(size(LARGE_SIDE).ok());
            let sizes = sizes.map(|(small, large)| (small.len(), large.len()));
            print(name, took, sizes, own);
        }
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find(|line| line.starts_with("VmHWM"));
        println!("  most memory so far: {}", peak.unwrap_or("unknown"));
    }
}

/// The commands of other programs for both sizes.
fn others(photo: &str, dir: &Path) -> [(&'static str, &'static str, Vec<Vec<String>>); 2] {
    let out = |side: u32| dir.join(format!("{side}.jpg")).display().to_string();
    let sides = [(SMALL_SIDE, 75), (LARGE_SIDE, 80)];
    let vips = sides.map(|(side, quality)| {
        let output = format!("{}[Q={quality},strip]", out(side));
        vec![
            "-s".into(),
            side.to_string(),
            "-o".into(),
            output,
            photo.to_owned(),
        ]
    });
    let magick = sides.map(|(side, quality)| {
        let hint = format!("jpeg:size={side}x{side}");
        let size = format!("{side}x{side}");
        let words = [
            "-define",
            &hint,
            photo,
            "-auto-orient",
            "-thumbnail",
            &size,
            "-quality",
        ];
        let words = words.into_iter().map(str::to_owned);
        words.chain([quality.to_string(), out(side)]).collect()
    });
    [
        ("vipsthumbnail", "vipsthumbnail", vips.into()),
        ("ImageMagick", "convert", magick.into()),
    ]
}

fn print(name: &str, took: f64, sizes: Option<(u64, u64)>, own: f64) {
    match sizes.filter(|_| took.is_finite()) {
        Some((small, large)) => println!(
            "  {name:15} {:5.0} ms of CPU  {:4.2}×  small {small} bytes, large {large} bytes",
            took * 1e3,
            took / own
        ),
        None => println!("  {name:15} is not installed, or failed"),
    }
}

fn least(mut work: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| work()).fold(f64::INFINITY, f64::min)
}

/// The CPU time of this process, or of its ended children, in seconds: a field of `/proc/self/stat` and the next, in ticks.
fn cpu(field: usize) -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(field - 2).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}

/// A photo of slopes, waves and grain.
fn draw() -> Vec<u8> {
    let mut pixels = Vec::with_capacity(usize::from(WIDTH) * usize::from(HEIGHT) * 3);
    let mut noise: u32 = 1;
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grain = f64::from(noise >> 27) - 16.0;
            let (across, down) = (f64::from(x) / 90.0, f64::from(y) / 70.0);
            let wave = 40.0 * (across.sin() * down.cos() + (across * 7.3 + down * 3.1).sin() / 2.0);
            let slope = 90.0 + 80.0 * f64::from(x) / f64::from(WIDTH);
            for shift in [0.0, 15.0, -20.0] {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "within 0 and 255"
                )]
                let value = (slope + wave + grain + shift).clamp(0.0, 255.0) as u8;
                pixels.push(value);
            }
        }
    }
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, 90);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder
        .encode(&pixels, WIDTH, HEIGHT, ColorType::Rgb)
        .unwrap();
    jpeg
}
