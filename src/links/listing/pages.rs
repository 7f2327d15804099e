//! The pages of a listing, in memory or in an unnamed file.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use directory::Location;

use super::{Entry, PAGES_IN_MEMORY};

/// Pages in memory, and further ones in an unnamed file that is removed with its handle.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) memory: Vec<Vec<Entry>>,
    pub(super) file: Option<File>,
    /// Where each page of the file begins and how long it is, in bytes.
    places: Vec<(u64, usize)>,
    pub(super) end: u64,
}

impl Pages {
    pub(super) fn push(&mut self, page: Vec<Entry>, dir: &Location) -> io::Result<()> {
        if self.memory.len() < PAGES_IN_MEMORY {
            self.memory.push(page);
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(dir.open_or_make(0o700)?.scratch()?);
        }
        let bytes = serde_json::to_vec(&page)?;
        self.file
            .as_mut()
            .expect("it was opened above")
            .write_all(&bytes)?;
        self.places.push((self.end, bytes.len()));
        self.end += bytes.len() as u64;
        Ok(())
    }

    pub(super) const fn count(&self) -> usize {
        self.memory.len() + self.places.len()
    }

    pub(super) fn read(&self, number: usize) -> io::Result<Option<Vec<Entry>>> {
        if let Some(page) = self.memory.get(number) {
            return Ok(Some(page.clone()));
        }
        let Some(bytes) = self.in_file(number)? else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// A page in the form that the file has.
    pub(super) fn bytes(&self, number: usize) -> io::Result<Option<Vec<u8>>> {
        match self.memory.get(number) {
            Some(page) => Ok(Some(serde_json::to_vec(page)?)),
            None => self.in_file(number),
        }
    }

    fn in_file(&self, number: usize) -> io::Result<Option<Vec<u8>>> {
        let place = number
            .checked_sub(self.memory.len())
            .and_then(|number| self.places.get(number));
        let (Some((start, length)), Some(file)) = (place, &self.file) else {
            return Ok(None);
        };
        let mut bytes = vec![0; *length];
        file.read_exact_at(&mut bytes, *start)?;
        Ok(Some(bytes))
    }
}
