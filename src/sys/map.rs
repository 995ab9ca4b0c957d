//! Files mapped into memory.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// A whole file, mapped for reading. Empty for an empty file.
#[derive(Debug)]
pub struct Mapped(Option<memmap2::Mmap>);

impl Mapped {
    /// Maps `file` as it is now.
    ///
    /// The file must be immutable: published by a rename and never written again. That is what makes the bytes a plain
    /// `&[u8]`. Should somebody change the file all the same, they may read different bytes at different times, so whoever
    /// reads them checks every value when it is used; should somebody cut the file short, the process gets SIGBUS, as with
    /// a program whose binary is cut short while it runs.
    pub fn open(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the mapping is private and read-only, and the file immutable, as said above.
        #[expect(unsafe_code, reason = "mapping is what makes opening independent of the file's size")]
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Self(Some(map)))
    }

    /// Asks the kernel to read the file ahead. A wish: failure costs time, nothing else.
    pub fn read_ahead(&self) {
        if let Some(map) = &self.0 {
            // Nothing depends on it.
            let _ = map.advise(memmap2::Advice::WillNeed);
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn files_are_mapped_whole() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(&*Mapped::open(&file).unwrap(), b"");
        file.write_all(b"content").unwrap();
        let mapped = Mapped::open(&file).unwrap();
        mapped.read_ahead();
        assert_eq!(&*mapped, b"content");
    }
}
