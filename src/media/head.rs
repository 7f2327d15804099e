//! The first bytes of an untrusted file: reads outside of them return `None`.

/// The first bytes of a file, or a part of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileHead<'a>(&'a [u8]);

impl<'a> FileHead<'a> {
    /// Wraps untrusted bytes.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// All bytes.
    pub(super) const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// `length` bytes at an offset.
    pub(super) fn get(self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(length)?)
    }

    /// The part after an offset.
    pub(super) fn after(self, at: usize) -> Option<Self> {
        self.0.get(at..).map(Self)
    }

    /// The available part between two offsets.
    pub(super) fn part(self, at: usize, end: usize) -> Option<Self> {
        self.0.get(at..end.min(self.0.len())).map(Self)
    }

    /// Whether `bytes` are at an offset.
    pub(super) fn has(self, at: usize, bytes: &[u8]) -> bool {
        self.get(at, bytes.len()) == Some(bytes)
    }

    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.get(at, N)?.try_into().ok()
    }

    /// A byte.
    pub(super) fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    /// Two bytes, big-endian.
    pub(super) fn be16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    pub(super) fn be32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    pub(super) fn be64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    /// Two bytes, little-endian.
    pub(super) fn le16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    /// Three bytes, little-endian.
    pub(super) fn le24(self, at: usize) -> Option<u32> {
        let [a, b, c] = self.array(at)?;
        Some(u32::from_le_bytes([a, b, c, 0]))
    }

    /// Four bytes, little-endian.
    pub(super) fn le32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_offset_leads_outside() {
        let head = FileHead::new(&[1, 2, 3]);
        assert_eq!(
            (head.be16(1), head.be16(2), head.le24(0)),
            (Some(0x0203), None, Some(0x03_02_01))
        );
        assert_eq!(head.get(usize::MAX, 2), None);
        assert!(head.after(3).is_some() && head.after(4).is_none());
        assert_eq!(head.part(1, usize::MAX).unwrap().bytes(), [2, 3]);
        assert!(head.part(2, 1).is_none() && head.part(4, 9).is_none());
        assert!(head.has(1, &[2, 3]) && !head.has(2, &[3, 4]));
    }
}
