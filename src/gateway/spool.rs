//! Bytes that wait: in memory up to a bound, then in a temporary file without a name. What was written can be read from any
//! place, so that a request can be sent again and an answer go on where its client stopped reading. Owns no socket.
//!
//! The files of many slow clients together leave others some room on their file system: nobody expects a web server to
//! fill a disk.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::os::temporary;

/// Memory that an emptied spool keeps, bytes: enough that small answers need no new memory.
const KEPT: usize = 16 * 1024;

/// Bytes of a file that are written between two looks at the room beside it.
const STRIDE: u64 = 4 * 1024 * 1024;

/// The room on a file system that is left to others, bytes; or a twentieth of it, where that is less.
const OTHERS: u64 = 1024 * 1024 * 1024;

/// Bytes in the order in which they came: the first ones in memory, the others in a file.
#[derive(Debug, Default)]
pub struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    /// Bytes in the file.
    filed: u64,
    /// What came when there was no other place, after the file.
    tail: Vec<u8>,
}

/// Where files go, and how much memory and disk one spool may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// The directory for temporary files.
    pub directory: &'a Path,
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes in a file.
    pub file: u64,
}

/// Why bytes have no place.
#[derive(Debug)]
pub enum Refusal {
    /// There are as many as there may be.
    Full,
    /// What is left of the file system is for others.
    Scarce,
    /// The file cannot be made or written.
    File(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Full => f.write_str("there are as many bytes as there may be"),
            Refusal::Scarce => f.write_str("the disk is nearly full"),
            Refusal::File(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::File(error)
    }
}

impl Spool {
    /// Adds all of `bytes`, or nothing.
    ///
    /// # Errors
    /// There is no place for them. What came before is untouched.
    pub fn push(&mut self, bytes: &[u8], bounds: &Bounds<'_>) -> Result<(), Refusal> {
        let fits = (self.memory.len() + bytes.len()) as u64 <= bounds.memory;
        if !self.tail.is_empty() {
            return Err(Refusal::Full);
        }
        if self.filed == 0 && fits {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        let length = self.filed + bytes.len() as u64;
        if length > bounds.file {
            return Err(Refusal::Full);
        }
        let is_new = self.file.is_none();
        let file = match self.file.take() {
            Some(file) => file,
            None => temporary::file(bounds.directory).map_err(io::Error::from)?,
        };
        let written = if (is_new || length / STRIDE > self.filed / STRIDE) && !leaves_room(&file) {
            Err(Refusal::Scarce)
        } else {
            file.write_all_at(bytes, self.filed).map_err(Refusal::File)
        };
        match &written {
            Ok(()) => self.filed = length,
            // What was written of it takes room that others want. A file that cannot even become shorter is as it is.
            Err(_) => drop(file.set_len(self.filed)),
        }
        self.file = Some(file);
        written
    }

    /// Adds bytes in memory whatever the bounds: for what has been read and has no other place. The caller reads no more
    /// then. Later calls of `push` fail until the spool is cleared.
    pub fn force(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Whether it has more than its bounds allow.
    pub fn is_overfull(&self) -> bool {
        !self.tail.is_empty()
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.memory.len() as u64 + self.filed + self.tail.len() as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in memory from `at`, without a copy; empty where the file begins.
    pub fn memory_from(&self, at: u64) -> &[u8] {
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(self.memory.len());
        &self.memory[at..]
    }

    /// Reads from `at` into `buffer`; returns how many bytes, 0 at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let memory = self.memory_from(at);
        if !memory.is_empty() {
            let count = memory.len().min(buffer.len());
            buffer[..count].copy_from_slice(&memory[..count]);
            return Ok(count);
        }
        let offset = at - self.memory.len() as u64;
        let Some(file) = self.file.as_ref().filter(|_| offset < self.filed) else {
            let at = usize::try_from(offset - self.filed).unwrap_or(usize::MAX).min(self.tail.len());
            let count = (self.tail.len() - at).min(buffer.len());
            buffer[..count].copy_from_slice(&self.tail[at..at + count]);
            return Ok(count);
        };
        let left = usize::try_from(self.filed.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        match file.read_at(&mut buffer[..count], offset) {
            // A file that has become shorter under our hands would be waited for for ever.
            Ok(0) if count > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            result => result,
        }
    }

    /// Empties it: the file goes, a little memory stays.
    pub fn clear(&mut self) {
        self.memory.clear();
        self.memory.shrink_to(KEPT);
        self.file = None;
        self.filed = 0;
        self.tail = Vec::new();
    }
}

/// Whether there is room for us and others where a file is.
fn leaves_room(file: &File) -> bool {
    temporary::room(file).is_none_or(|room| room.free >= OTHERS.min(room.all / 20))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn read_all(spool: &Spool, mut at: u64, step: usize) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; step]);
        loop {
            let count = spool.read_at(at, &mut buffer).unwrap();
            if count == 0 {
                return all;
            }
            all.extend_from_slice(&buffer[..count]);
            at += count as u64;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_goes_in_comes_out(parts in vec(vec(any::<u8>(), 0..40), 0..12), memory in 0u64..100, step in 1usize..50) {
            let directory = std::env::temp_dir();
            let bounds = Bounds { directory: &directory, memory, file: 1 << 20 };
            let mut spool = Spool::default();
            for part in &parts {
                spool.push(part, &bounds).unwrap();
            }
            let whole = parts.concat();
            prop_assert!(spool.memory.len() as u64 <= memory);
            prop_assert_eq!(spool.len(), whole.len() as u64);
            for at in [0, whole.len() / 2, whole.len()] {
                prop_assert_eq!(read_all(&spool, at as u64, step), &whole[at..]);
            }
        }
    }

    #[test]
    fn a_full_spool_keeps_what_it_has() {
        let directory = std::env::temp_dir();
        let bounds = Bounds { directory: &directory, memory: 4, file: 4 };
        let mut spool = Spool::default();
        spool.push(b"abc", &bounds).unwrap();
        spool.push(b"defg", &bounds).unwrap();
        assert!(matches!(spool.push(b"h", &bounds), Err(Refusal::Full)));
        spool.force(b"hi");
        assert_eq!(read_all(&spool, 1, 3), b"bcdefghi");
        let wide = Bounds { memory: 100, file: 100, ..bounds };
        assert!(spool.push(b"j", &wide).is_err(), "it would come before what was forced");
        spool.clear();
        assert!(spool.is_empty() && spool.file.is_none());
        spool.push(b"x", &bounds).unwrap();
        spool.force(b"yz");
        assert_eq!((spool.len(), read_all(&spool, 0, 1)), (3, b"xyz".to_vec()));
    }

    #[test]
    fn without_a_place_for_files_only_memory_is_left() {
        let bounds = Bounds { directory: Path::new("/nonexistent"), memory: 2, file: 4 };
        let mut spool = Spool::default();
        spool.push(b"ab", &bounds).unwrap();
        assert!(matches!(spool.push(b"c", &bounds), Err(Refusal::File(_))));
        assert_eq!(read_all(&spool, 0, 8), b"ab");
    }
}
