//! Whole lines into something that may refuse: keeps the rest of a half-written line until it can be finished, and
//! counts the lines that were lost meanwhile. Knows neither formats nor targets.

use std::io::{self, Write};

use nix::errno::Errno;

use crate::os::errno::Cause;

/// Writes lines to `sink`, never waiting for it.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    /// The rest of a line whose beginning is written already; nothing may come between.
    tail: Vec<u8>,
    loss: Option<Loss>,
}

/// Where a sink leads, seen from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To the same file, opened again.
    Same,
    /// Elsewhere.
    Other,
}

/// Lines that could not be written since the last success.
#[derive(Debug)]
pub struct Loss {
    /// How many.
    pub lines: u64,
    /// Why the first of them was lost.
    pub cause: Cause,
}

impl<W: Write> Writer<W> {
    /// Nothing written and nothing lost yet.
    pub fn new(sink: W) -> Writer<W> {
        Writer { sink, tail: Vec::new(), loss: None }
    }

    /// Where lines go.
    pub fn sink(&self) -> &W {
        &self.sink
    }

    /// Goes on with another sink. The rest of a half-written line goes there if its beginning is there, and else counts as
    /// lost.
    pub fn replace(&mut self, sink: W, place: Place) {
        self.sink = sink;
        if place == Place::Other && !std::mem::take(&mut self.tail).is_empty() {
            self.lose(Errno::EAGAIN.into());
        }
    }

    /// Writes one line with its end, or several, at best with one write(2).
    ///
    /// # Errors
    /// Nothing of it was written, and nothing of it will be.
    pub fn put(&mut self, line: &[u8]) -> io::Result<()> {
        self.finish_tail()?;
        let written = self.write_some(line)?;
        self.tail.extend_from_slice(&line[written..]);
        // The line has begun, so it counts as written; what is left goes out before the next one.
        let _ = self.finish_tail();
        Ok(())
    }

    /// Counts a line that `put` refused.
    pub fn lose(&mut self, cause: io::Error) {
        self.lose_lines(1, cause);
    }

    /// Counts lines that one `put` together refused.
    pub fn lose_lines(&mut self, lines: u64, cause: io::Error) {
        self.loss.get_or_insert_with(|| Loss { lines: 0, cause: cause.into() }).lines += lines;
    }

    /// What was lost and not reported yet.
    pub fn loss(&self) -> Option<&Loss> {
        self.loss.as_ref()
    }

    /// The loss is reported.
    pub fn forget_loss(&mut self) {
        self.loss = None;
    }

    fn finish_tail(&mut self) -> io::Result<()> {
        while !self.tail.is_empty() {
            let rest = std::mem::take(&mut self.tail);
            let written = self.write_some(&rest);
            self.tail = rest;
            self.tail.drain(..written?);
        }
        Ok(())
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.sink.write(bytes) {
                Ok(0) if !bytes.is_empty() => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Takes as many bytes as the script says for each call, then everything; `None` is a full disk.
    #[derive(Default)]
    struct Fake {
        script: VecDeque<Option<usize>>,
        text: Vec<u8>,
        calls: usize,
    }

    impl Write for Fake {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            let room = match self.script.pop_front() {
                None => bytes.len(),
                Some(Some(room)) => room.min(bytes.len()),
                Some(None) => return Err(Errno::ENOSPC.into()),
            };
            self.text.extend_from_slice(&bytes[..room]);
            Ok(room)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer(script: &[Option<usize>]) -> Writer<Fake> {
        Writer::new(Fake { script: script.iter().copied().collect(), ..Fake::default() })
    }

    #[test]
    fn a_line_is_one_write() {
        let mut writer = writer(&[]);
        writer.put(b"one\n").unwrap();
        assert_eq!(writer.sink.calls, 1);
        assert_eq!(writer.sink.text, b"one\n");
    }

    #[test]
    fn a_refused_line_is_an_error_and_leaves_no_trace() {
        let mut writer = writer(&[None]);
        let error = writer.put(b"one\n").unwrap_err();
        writer.lose(error);
        writer.put(b"two\n").unwrap();
        assert_eq!(writer.sink.text, b"two\n");
        assert_eq!(writer.loss().unwrap().lines, 1);
        assert_eq!(writer.loss().unwrap().cause, Cause(Errno::ENOSPC));
    }

    #[test]
    fn half_a_line_is_finished_before_the_next() {
        let mut writer = writer(&[Some(2), None, None]);
        writer.put(b"one\n").unwrap();
        assert!(writer.put(b"lost\n").is_err());
        writer.put(b"two\n").unwrap();
        assert_eq!(writer.sink.text, b"one\ntwo\n");
    }

    #[test]
    fn a_new_sink_starts_with_a_whole_line() {
        let mut writer = writer(&[Some(2), None]);
        writer.put(b"one\n").unwrap();
        writer.replace(Fake::default(), Place::Other);
        writer.put(b"two\n").unwrap();
        assert_eq!(writer.sink.text, b"two\n");
        assert_eq!(writer.loss().unwrap().lines, 1);
    }

    #[test]
    fn a_sink_that_leads_to_the_same_place_finishes_what_has_begun_there() {
        let mut writer = writer(&[Some(2), None]);
        writer.put(b"one\n").unwrap();
        writer.replace(Fake::default(), Place::Same);
        writer.put(b"two\n").unwrap();
        assert_eq!(writer.sink.text, b"e\ntwo\n");
        assert!(writer.loss().is_none());
    }
}
