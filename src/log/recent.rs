//! The last lines that a process wrote, for whoever asks why it ended.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::line;

/// Lines that are kept: a Python traceback has its reason in the last, PHP the first of four.
const LINES: usize = 5;

/// Bytes of each that are kept.
const LENGTH: usize = 200;

/// The last lines, as bytes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Recent(VecDeque<Vec<u8>>);

impl Recent {
    /// Takes a line in, without its newline; empty ones say nothing.
    pub fn push(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        // Its memory is used again.
        let mut kept =
            if self.0.len() == LINES { self.0.pop_front().unwrap_or_default() } else { Vec::new() };
        kept.clear();
        kept.extend_from_slice(&line[..line.len().min(LENGTH)]);
        self.0.push_back(kept);
    }

    /// The lines in one, control characters escaped; `None` if there were none.
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        for line in &self.0 {
            if !text.is_empty() {
                text.push_str("; ");
            }
            line::escape_bytes(&mut text, line);
        }
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_short_and_harmless() {
        let mut recent = Recent::default();
        assert_eq!(recent.text(), None);
        recent.push(b"  \r");
        assert_eq!(recent.text(), None);
        for line in ["one", "two", "three", "four", "five", "si\x1bx\r"] {
            recent.push(line.as_bytes());
        }
        let text = recent.text().unwrap();
        assert!(text.starts_with("two; three; four; five; si") && !text.contains('\x1b'), "{text}");
        recent.push(&[b'x'; 1000]);
        assert!(recent.text().unwrap().len() < 300);
    }
}
