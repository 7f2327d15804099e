//! Segments as files: plain while they are written, compressed with Zstandard once they are sealed.
//!
//! A compressed segment is one standard frame with its length and a checksum, so that `zstd -d` gives the lines back. The lines are the
//! same bytes in both forms, and are read by the same checks. Level 1 is not only the fastest: most of a line are hashes in hexadecimal,
//! which higher levels spend more bytes on, since they take short repetitions in them for matches.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use zstd::stream::{Decoder, Encoder};
use zstd::zstd_safe::get_frame_content_size;

use super::tree::Hash;

/// The suffix that a segment's name has once it is compressed.
pub(super) const COMPRESSED: &str = ".zst";

const LEVEL: i32 = 1;

/// The largest window of a frame that is read, as a power of two: a reader needs so much memory for it.
const MAX_WINDOW_LOG: u32 = 23;

/// The longest header of a frame, in bytes (RFC 8878, section 3.1.1).
const FRAME_HEADER: usize = 18;

/// How much is read at once, in bytes.
const CHUNK: usize = 256 << 10;

/// The name of the compressed form of a segment.
pub(super) fn compressed_name(segment: &str) -> String {
    format!("{segment}{COMPRESSED}")
}

/// A segment that is open for reading. It gives the lines of a plain and of a compressed form.
pub(super) struct SegmentFile {
    path: PathBuf,
    length: u64,
    form: SegmentForm,
}

enum SegmentForm {
    Plain(File),
    Compressed(Box<Decoder<'static, BufReader<File>>>),
}

impl SegmentFile {
    /// A segment as it was written.
    pub(super) fn plain(file: File, path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            path,
            length: file.metadata()?.len(),
            form: SegmentForm::Plain(file),
        })
    }

    /// A compressed segment; `path` is for messages.
    pub(super) fn compressed(file: File, path: PathBuf) -> io::Result<Self> {
        let mut header = [0; FRAME_HEADER];
        let read = file.read_at(&mut header, 0)?;
        // A header that says nothing is not one of Handout's, and the frame is read all the same.
        let length = get_frame_content_size(&header[..read]).ok().flatten();
        let mut decoder = Decoder::new(file)?;
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        Ok(Self {
            path,
            length: length.unwrap_or_default(),
            form: SegmentForm::Compressed(Box::new(decoder)),
        })
    }

    /// How many bytes its lines have; a compressed segment says so itself.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// The file, if the segment is not compressed.
    pub(super) const fn as_plain(&mut self) -> Option<&mut File> {
        match &mut self.form {
            SegmentForm::Plain(file) => Some(file),
            SegmentForm::Compressed(_) => None,
        }
    }
}

impl Read for SegmentFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.form {
            SegmentForm::Plain(file) => file.read(buffer),
            SegmentForm::Compressed(decoder) => {
                let read = decoder.read(buffer);
                read.map_err(|error| match error.raw_os_error() {
                    Some(_) => error,
                    // The disk gave the bytes, and they are not a whole frame.
                    None => damaged(&self.path, &error.to_string()),
                })
            }
        }
    }
}

/// The error of a compressed segment that was changed or cut.
fn damaged(path: &Path, reason: &str) -> io::Error {
    let sentence = format!(
        "{} is not a whole compressed segment: {reason}",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, sentence)
}

/// Compresses all bytes of a plain segment, and returns their hash.
pub(super) fn compress(
    plain: &mut File,
    into: impl Write,
    stop: &CancellationToken,
) -> io::Result<Hash> {
    let mut encoder = Encoder::new(into, LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.include_contentsize(true)?;
    encoder.set_pledged_src_size(Some(plain.metadata()?.len()))?;
    let mut digest = Sha256::new();
    each_chunk(plain, stop, |chunk| {
        digest.update(chunk);
        encoder.write_all(chunk)
    })?;
    encoder.finish()?.flush()?;
    Ok(digest.finalize().into())
}

/// The hash of all bytes of a reader.
pub(super) fn hash_of(reader: &mut impl Read, stop: &CancellationToken) -> io::Result<Hash> {
    let mut digest = Sha256::new();
    each_chunk(reader, stop, |chunk| {
        digest.update(chunk);
        Ok(())
    })?;
    Ok(digest.finalize().into())
}

fn each_chunk(
    reader: &mut impl Read,
    stop: &CancellationToken,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        if stop.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match reader.read(&mut chunk)? {
            0 => return Ok(()),
            read => take(&chunk[..read])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Seek as _;

    use super::*;

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut plain = tempfile::tempfile().unwrap();
        plain.write_all(bytes).unwrap();
        plain.rewind().unwrap();
        let mut made = Vec::new();
        let hash = compress(&mut plain, &mut made, &CancellationToken::new()).unwrap();
        assert_eq!(hash, <Hash>::from(Sha256::digest(bytes)));
        made
    }

    fn opened(dir: &Path, bytes: &[u8]) -> SegmentFile {
        let path = dir.join("s.0001.jsonl.zst");
        fs::write(&path, bytes).unwrap();
        SegmentFile::compressed(File::open(&path).unwrap(), path).unwrap()
    }

    #[test]
    fn a_compressed_segment_gives_its_bytes_and_its_length_back() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "{\"line\":1}\n".repeat(100_000);
        let made = compressed(lines.as_bytes());
        assert!(made.len() < lines.len() / 100);
        let mut file = opened(dir.path(), &made);
        assert_eq!(file.length(), lines.len() as u64);
        let mut read = String::new();
        file.read_to_string(&mut read).unwrap();
        assert!(read == lines);
    }

    #[test]
    fn a_segment_that_was_cut_or_changed_is_damage_and_no_failure_of_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let made = compressed(&[7; 4000]);
        let mut changed = made.clone();
        *changed.last_mut().unwrap() ^= 1;
        for bytes in [
            &made[..made.len() - 1],
            &made[..9],
            &changed,
            b"{\"v\":2}\n",
        ] {
            let mut file = opened(dir.path(), bytes);
            let error = file.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            let said = error.to_string();
            assert!(said.contains("s.0001.jsonl.zst is not a whole"), "{said}");
        }
    }
}
