//! A picture's size, within limits, and its orientation.

/// The maximum side, in pixels. No format that browsers display has more than 65,535.
const MAX_SIDE: u32 = 100_000;

/// The maximum number of pixels: a gigapixel.
const MAX_PIXELS: u64 = 1_000_000_000;

/// The size of a picture in pixels: neither side is 0, and both are within limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PictureSize {
    pub(super) width: u32,
    pub(super) height: u32,
}

impl PictureSize {
    /// A size from a header, unless it is implausible.
    pub(super) fn new(width: u32, height: u32) -> Option<Self> {
        let sides = [width, height];
        let is_sane = sides.iter().all(|side| (1..=MAX_SIDE).contains(side))
            && u64::from(width) * u64::from(height) <= MAX_PIXELS;
        is_sane.then_some(Self { width, height })
    }

    /// The size after rotation.
    pub(super) const fn turned(self, orientation: Orientation) -> Self {
        match orientation.is_sideways() {
            true => Self {
                width: self.height,
                height: self.width,
            },
            false => self,
        }
    }
}

/// How a picture is rotated and mirrored for display: 1 is unchanged, from 5 on by a quarter turn.
/// <https://www.cipa.jp/std/documents/download_e.html?DC-008-Translation-2023-E> 4.6.5.1, tag 274
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Orientation {
    /// Unrotated.
    pub(super) const UPRIGHT: Self = Self(1);

    /// A quarter turn to the right, and to the left.
    pub(super) const RIGHT: Self = Self(6);
    pub(super) const LEFT: Self = Self(8);

    /// An orientation by its EXIF number, unless that is invalid.
    pub(super) fn new(number: u32) -> Option<Self> {
        match u8::try_from(number) {
            Ok(number @ 1..=8) => Some(Self(number)),
            Ok(_) | Err(_) => None,
        }
    }

    /// Its number.
    pub(super) const fn number(self) -> u8 {
        self.0
    }

    /// Whether it swaps the sides.
    pub(super) const fn is_sideways(self) -> bool {
        self.0 >= 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_cannot_be_true_are_none() {
        for (width, height) in [
            (0, 1),
            (1, 0),
            (100_001, 1),
            (1, u32::MAX),
            (50_000, 50_000),
        ] {
            assert_eq!(PictureSize::new(width, height), None, "{width} × {height}");
        }
        assert!(PictureSize::new(100_000, 10_000).is_some());
    }

    #[test]
    fn a_quarter_turn_swaps_the_sides() {
        let size = PictureSize::new(4, 3).unwrap();
        let wide = |number| Some(size.turned(Orientation::new(number)?).width == 4);
        let shown: Vec<bool> = (0..10).filter_map(wide).collect();
        assert_eq!(
            shown,
            [true, true, true, true, false, false, false, false],
            "0 and 9 are no orientations"
        );
    }
}
