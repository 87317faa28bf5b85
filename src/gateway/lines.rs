//! Lines on their way into one log file: several that come together are written together, each whole, and nobody ever waits
//! for the file. What it refuses is lost and counted, and the log says so at the 1st, 10th, 100th line and so on.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use crate::ids::PoolName;
use crate::log::writer::{Place, Writer};
use crate::os::outlet::{Outlet, lead_to_one};

/// So much is written to a regular file at once, bytes.
const BATCH: usize = 64 * 1024;

/// And so much to anything else: a pipe takes as much as this whole or not at all (PIPE_BUF of pipe(7)), and never mixes it
/// with what other pools write there.
const ATOMIC: usize = 4096;

/// The lines of one log file.
#[derive(Debug)]
pub struct Lines {
    pool: PoolName,
    /// What it is called in our own log.
    name: &'static str,
    writer: Writer<Outlet>,
    waiting: Vec<u8>,
    count: u64,
    most: usize,
}

impl Lines {
    /// `file` need not be a regular one. The descriptor is duplicated.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(pool: &PoolName, name: &'static str, file: &File) -> io::Result<Lines> {
        let writer = Writer::new(Outlet::new(file.as_fd())?);
        Ok(Lines { pool: pool.clone(), name, writer, waiting: Vec::new(), count: 0, most: most(file)? })
    }

    /// Goes on in a file that may be the same one, opened again.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn go_on(&mut self, file: &File) -> io::Result<()> {
        let outlet = Outlet::new(file.as_fd())?;
        self.flush();
        self.most = most(file)?;
        let is_same = lead_to_one(self.writer.sink().as_fd(), outlet.as_fd());
        self.writer.replace(outlet, if is_same { Place::Same } else { Place::Other });
        Ok(())
    }

    /// Takes in a line, or several that belong together. They may wait until the next `flush`.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.waiting.len();
        write(&mut self.waiting);
        if before > 0 && self.waiting.len() > self.most {
            self.put(before);
        }
        self.count += 1;
        if self.waiting.len() >= self.most {
            self.flush();
        }
    }

    /// Writes what waits.
    pub fn flush(&mut self) {
        if !self.waiting.is_empty() {
            self.put(self.waiting.len());
        }
    }

    /// Writes the first `length` bytes, which are all lines that are counted.
    fn put(&mut self, length: usize) {
        let lines = std::mem::take(&mut self.count);
        let result = self.writer.put(&self.waiting[..length]);
        self.waiting.drain(..length);
        // A line of a very long request leaves no more memory behind than others.
        if self.waiting.is_empty() {
            self.waiting.shrink_to(BATCH);
        }
        if let Err(error) = result {
            self.lose(lines, error);
        }
    }

    fn lose(&mut self, lines: u64, error: io::Error) {
        let before = self.writer.loss().map_or(0, |loss| loss.lines);
        self.writer.lose_lines(lines, error);
        let Some(loss) = self.writer.loss().filter(|loss| magnitude(loss.lines) > magnitude(before)) else {
            return;
        };
        let (pool, name) = (&self.pool, self.name);
        ::log::warn!(
            "[pool {pool}] cannot write the {name}: {}; {} lines are lost so far",
            loss.cause,
            loss.lines
        );
    }
}

impl Drop for Lines {
    /// What waits is written even when the gateway ends in the middle of a round.
    fn drop(&mut self) {
        self.flush();
    }
}

/// How much is written at once.
fn most(file: &File) -> io::Result<usize> {
    Ok(if file.metadata()?.is_file() { BATCH } else { ATOMIC })
}

/// How many decimal digits the number has, 0 for 0.
fn magnitude(number: u64) -> u32 {
    number.checked_ilog10().map_or(0, |log| log + 1)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;
    use crate::os::testing::TempDir;

    fn lines(file: &File) -> Lines {
        Lines::new(&PoolName::new("www").unwrap(), "access log", file).unwrap()
    }

    fn appending(dir: &TempDir, name: &str) -> File {
        File::options().append(true).create(true).open(dir.join(name)).unwrap()
    }

    #[test]
    fn lines_wait_for_a_flush_and_not_beyond_a_batch() {
        let dir = TempDir::new();
        let file = appending(&dir, "a");
        let mut lines = lines(&file);
        let size = || file.metadata().unwrap().len();
        lines.add(|out| out.extend(b"one\n"));
        assert_eq!(size(), 0);
        lines.flush();
        assert_eq!(size(), 4);
        let long = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..100 {
            lines.add(|out| out.extend(&long));
        }
        assert!(size() > 60_000 && (size() - 4) % 1000 == 0, "{}", size());
        lines.add(|out| out.extend(vec![b'y'; BATCH]));
        assert_eq!(size(), 4 + 100 * 1000 + BATCH as u64);
        lines.flush();
        assert_eq!(size(), 4 + 100 * 1000 + BATCH as u64);
    }

    #[test]
    fn a_pipe_that_nobody_reads_costs_lines_and_no_time() {
        let (mut reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let mut lines = lines(&file);
        let line = [&[b'x'; 99][..], b"\n"].concat();
        for _ in 0..10_000 {
            lines.add(|out| out.extend(&line));
        }
        lines.flush();
        let lost = lines.writer.loss().unwrap().lines;
        assert!(lost > 1000, "{lost}");
        drop((lines, file));
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert_eq!(text.len() as u64, (10_000 - lost) * 100);
        assert!(text.chunks(100).all(|chunk| chunk == line), "every line is whole");
    }

    #[test]
    fn several_writers_of_a_file_do_not_mix_lines() {
        let dir = TempDir::new();
        let (one, two) = (appending(&dir, "a"), appending(&dir, "a"));
        let (mut one, mut two) = (lines(&one), lines(&two));
        for _ in 0..500 {
            one.add(|out| out.extend(b"one one one\n"));
            two.add(|out| out.extend(b"two\n"));
        }
        one.flush();
        two.flush();
        let text = fs::read_to_string(dir.join("a")).unwrap();
        assert_eq!(text.lines().filter(|line| *line == "one one one").count(), 500);
        assert_eq!(text.lines().filter(|line| *line == "two").count(), 500);
    }

    #[test]
    fn losses_are_told_by_magnitude() {
        assert_eq!([0, 1, 9, 10, 99, 100].map(magnitude), [0, 1, 1, 2, 2, 3]);
    }
}
