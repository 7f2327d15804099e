//! Pixels in memory: reducing, resizing and turning them.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::super::size::Orientation;
use super::{REDUCED_SIDE, RenditionError};

/// The channels of a pixel, a byte each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    Grey,
    Rgb,
}

impl Channels {
    pub(super) const fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

/// Pixels, row by row.
pub(super) struct Raster {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) channels: Channels,
    pub(super) pixels: Vec<u8>,
    /// The part of it that is the picture. Its last column and row are cut where a reduction did not divide evenly.
    exact: (f64, f64),
}

impl Raster {
    /// A raster of a decoder that reduced a picture of `full` pixels by `factor`.
    pub(super) fn reduced(
        (width, height): (u32, u32),
        channels: Channels,
        pixels: Vec<u8>,
        full: (u32, u32),
        factor: u32,
    ) -> Result<Self, RenditionError> {
        let expected = width as usize * height as usize * channels.count();
        if pixels.len() != expected || expected == 0 {
            return Err(RenditionError::Malformed(
                "the decoder gave another number of pixels than its header".to_owned(),
            ));
        }
        let part = |full: u32, side: u32| (f64::from(full) / f64::from(factor)).min(side.into());
        Ok(Self {
            width,
            height,
            channels,
            pixels,
            exact: (part(full.0, width), part(full.1, height)),
        })
    }

    /// This raster with a long side of at most `side`; never enlarged.
    pub(super) fn within(self, side: u32) -> Result<Self, RenditionError> {
        Ok(self.within_ref(side)?.unwrap_or(self))
    }

    /// A copy with a long side of at most `side`; `None` if this has no more.
    pub(super) fn within_ref(&self, side: u32) -> Result<Option<Self>, RenditionError> {
        let (width, height) = self.exact;
        let scale = f64::from(side) / width.max(height);
        if scale >= 1.0 {
            return Ok(None);
        }
        let (to_width, to_height) = (scaled(width, scale), scaled(height, scale));
        let kind = match self.channels {
            Channels::Grey => PixelType::U8,
            Channels::Rgb => PixelType::U8x3,
        };
        let from = ImageRef::new(self.width, self.height, &self.pixels, kind);
        let from = from.map_err(RenditionError::malformed)?;
        let mut to = Image::new(to_width, to_height, kind);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
            .crop(0.0, 0.0, width, height);
        let done = Resizer::new().resize(&from, &mut to, &options);
        done.map_err(RenditionError::malformed)?;
        Ok(Some(Self {
            width: to_width,
            height: to_height,
            channels: self.channels,
            pixels: to.into_vec(),
            exact: (to_width.into(), to_height.into()),
        }))
    }

    /// This raster as it is displayed.
    pub(super) fn turned(self, orientation: Orientation) -> Self {
        if orientation == Orientation::UPRIGHT {
            return self;
        }
        let (width, height) = (self.width as usize, self.height as usize);
        let count = self.channels.count();
        let is_sideways = orientation.is_sideways();
        let (to_width, to_height) = if is_sideways {
            (height, width)
        } else {
            (width, height)
        };
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for y in 0..to_height {
            for x in 0..to_width {
                // Where the pixel at (x, y) comes from. CIPA DC-008, 4.6.5.1, tag 274
                let (from_x, from_y) = match orientation.number() {
                    2 => (width - 1 - x, y),
                    3 => (width - 1 - x, height - 1 - y),
                    4 => (x, height - 1 - y),
                    5 => (y, x),
                    6 => (y, height - 1 - x),
                    7 => (width - 1 - y, height - 1 - x),
                    8 => (width - 1 - y, x),
                    _ => (x, y),
                };
                let at = (from_y * width + from_x) * count;
                pixels.extend_from_slice(&self.pixels[at..at + count]);
            }
        }
        let (exact_width, exact_height) = self.exact;
        let (width, height) = (self.width, self.height);
        Self {
            width: if is_sideways { height } else { width },
            height: if is_sideways { width } else { height },
            exact: if is_sideways {
                (exact_height, exact_width)
            } else {
                (exact_width, exact_height)
            },
            pixels,
            ..self
        }
    }
}

/// A side at a scale, rounded, and at least a pixel.
fn scaled(side: f64, scale: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a side of at most 65,535 that becomes shorter"
    )]
    let rounded = (side * scale).round() as u32;
    rounded.max(1)
}

/// Averages rows as they come, so that a picture is never in memory at its full size.
pub(super) struct RowReducer {
    full: (u32, u32),
    channels: Channels,
    factor: usize,
    /// The sums of the columns, for the rows since the last that was written.
    sums: Vec<u32>,
    rows: usize,
    pixels: Vec<u8>,
    height: u32,
}

impl RowReducer {
    /// For a picture of that size.
    pub(super) fn new(full: (u32, u32), channels: Channels) -> Self {
        let factor = (full.0.max(full.1) / REDUCED_SIDE).max(1) as usize;
        let width = (full.0 as usize).div_ceil(factor);
        let height = (full.1 as usize).div_ceil(factor);
        Self {
            full,
            channels,
            factor,
            sums: vec![0; width * channels.count()],
            rows: 0,
            pixels: Vec::with_capacity(width * height * channels.count()),
            height: 0,
        }
    }

    /// The memory that it takes for a picture, in bytes.
    pub(super) fn bytes((width, height): (u32, u32), channels: Channels) -> u64 {
        let factor = u64::from((width.max(height) / REDUCED_SIDE).max(1));
        u64::from(width).div_ceil(factor)
            * u64::from(height).div_ceil(factor)
            * channels.count() as u64
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: &[u8]) {
        if self.factor == 1 {
            self.pixels.extend_from_slice(row);
            self.height += 1;
            return;
        }
        let count = self.channels.count();
        let columns = row.chunks(self.factor * count);
        for (sums, pixels) in self.sums.chunks_exact_mut(count).zip(columns) {
            for pixel in pixels.chunks_exact(count) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += u32::from(*value);
                }
            }
        }
        self.rows += 1;
        if self.rows == self.factor {
            self.write();
        }
    }

    fn write(&mut self) {
        let count = self.channels.count();
        let columns = self.sums.len() / count;
        let rows = u32::try_from(self.rows).unwrap_or(1);
        for (at, sums) in self.sums.chunks_exact_mut(count).enumerate() {
            let whole = self.factor;
            let last = self.full.0 as usize - (columns - 1) * whole;
            let wide = if at + 1 == columns { last } else { whole };
            let of = rows * u32::try_from(wide).unwrap_or(1);
            for sum in sums {
                let average = (*sum + of / 2) / of;
                self.pixels.push(u8::try_from(average).unwrap_or(u8::MAX));
                *sum = 0;
            }
        }
        self.rows = 0;
        self.height += 1;
    }

    /// The reduced picture.
    pub(super) fn finish(mut self) -> Result<Raster, RenditionError> {
        if self.rows > 0 {
            self.write();
        }
        let count = self.channels.count();
        let width = u32::try_from(self.sums.len() / count).unwrap_or(u32::MAX);
        let factor = u32::try_from(self.factor).unwrap_or(1);
        let size = (width, self.height);
        Raster::reduced(size, self.channels, self.pixels, self.full, factor)
    }
}
