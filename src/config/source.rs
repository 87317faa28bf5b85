//! One configuration text and its places: byte offsets into lines and columns.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use super::error::{Cause, Error, Place};
use super::nearest;

/// More syntax errors than this in one file are noise after the first.
const MOST_SYNTAX_ERRORS: usize = 10;

/// One configuration text.
#[derive(Debug)]
pub(super) struct Source {
    /// Its place among the files, 0 is the main one; orders the errors.
    pub index: usize,
    /// The name for messages.
    pub name: Arc<str>,
    /// The whole text.
    pub text: String,
    line_starts: Vec<usize>,
}

impl Source {
    pub(super) fn new(index: usize, name: &str, text: String) -> Source {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Source { index, name: Arc::from(name), text, line_starts }
    }

    /// Where a byte offset is; offsets past the end are at the end.
    pub(super) fn place(&self, offset: usize) -> Place {
        let line = self.line(offset);
        let start = self.line_starts[line - 1];
        let characters = self.text[start..]
            .char_indices()
            .take_while(|(at, c)| start + at < offset && !(*c == '\n' && start + at + 1 > offset))
            // A byte order mark has no width in an editor.
            .filter(|(at, c)| !(start + at == 0 && *c == '\u{feff}'))
            .count();
        Place { file: Arc::clone(&self.name), position: Some((line, characters + 1)) }
    }

    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).max(1)
    }

    /// The file as a whole.
    pub(super) fn whole(&self) -> Place {
        Place { file: Arc::clone(&self.name), position: None }
    }

    /// The tables of the text.
    ///
    /// # Errors
    /// Each syntax error with its offset, the first ten. What is left of such a file is not looked at: half a
    /// table would be reported as missing settings.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'_>>, Vec<(usize, Error)>> {
        let (table, found) = DeTable::parse_recoverable(&self.text);
        if found.is_empty() {
            return Ok(table);
        }
        let mut errors: Vec<(usize, Error)> = Vec::new();
        let mut last_line = 0;
        let headers = self.headers();
        let header_above =
            |line| headers[..headers.partition_point(|header| *header < line)].last().copied().unwrap_or(0);
        let mut doubled: Vec<usize> = Vec::new();
        for error in &found {
            let span = error.span().unwrap_or(Range { start: 0, end: 0 });
            // The parser often follows one mistake with another on the same line.
            if self.line(span.start) == last_line || errors.len() == MOST_SYNTAX_ERRORS {
                continue;
            }
            last_line = self.line(span.start);
            let cause = match error.message().trim() {
                // What follows a header that is there already is added to the first table of that name.
                "duplicate key" if doubled.contains(&header_above(self.line(span.start))) => continue,
                "duplicate key" => {
                    doubled.extend(self.header_of(span.start).map(|_| self.line(span.start)));
                    self.duplicate(&span)
                }
                other => Cause::Syntax(self.no_toml(other, span.start)),
            };
            let place = self.place(span.start);
            errors.push((span.start, Error { place, key: String::new(), cause }));
        }
        Err(errors)
    }

    /// What the parser says of the text there, and what somebody who knows php-fpm meant by it.
    fn no_toml(&self, message: &str, at: usize) -> String {
        let is_dotted = message.starts_with("cannot extend value");
        let key = self.text.get(at..).filter(|_| is_dotted).and_then(|text| text.split('=').next());
        let hint = key.and_then(nearest::undotted).map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("not valid TOML: {}{hint}", message.replace('\n', "; "))
    }

    /// A name that its table has already. The parser says where the second is; the first is looked for in the lines
    /// above: the same header, or the same name below the same header.
    fn duplicate(&self, second: &Range<usize>) -> Cause {
        let name = self.text.get(second.clone()).unwrap_or("this name");
        let what = format!("'{name}' is there already");
        let end = self.line_starts[self.line(second.start) - 1];
        let above = self.lines().take_while(|(start, _)| *start < end);
        let first = match self.header_of(second.start) {
            Some(header) => {
                above.filter(|(_, line)| is_header(line)).find(|(_, line)| line.starts_with(header))
            }
            None => {
                let mut table: Vec<(usize, &str)> = above.collect();
                let header = table.iter().rposition(|(_, line)| is_header(line));
                let mut own = table.split_off(header.map_or(0, |header| header + 1)).into_iter();
                own.find(|(_, line)| {
                    line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
                })
            }
        };
        match first {
            Some((start, line)) => {
                let at = start + line.find(name).unwrap_or(0);
                Cause::Duplicate { what, first: self.place(at) }
            }
            None => Cause::Syntax(what),
        }
    }

    /// The lines without their indentation, with the offset where each begins.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.split_inclusive('\n').scan(0, |next, line| {
            let start = *next + line.len() - line.trim_start().len();
            *next += line.len();
            Some((start, line.trim_start()))
        })
    }

    /// The numbers of the lines that are headers.
    fn headers(&self) -> Vec<usize> {
        (1..).zip(self.lines()).filter(|(_, (_, line))| is_header(line)).map(|(number, _)| number).collect()
    }

    /// `[pool.www]`, if that is the line at this offset.
    fn header_of(&self, offset: usize) -> Option<&str> {
        let line = self.text[self.line_starts[self.line(offset) - 1]..].lines().next()?.trim();
        is_header(line).then(|| line.find(']').map_or(line, |end| &line[..=end]))
    }
}

fn is_header(line: &str) -> bool {
    line.starts_with('[')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str, offset: usize) -> (usize, usize) {
        Source::new(0, "f", text.to_owned()).place(offset).position.expect("a position")
    }

    #[test]
    fn columns_count_characters_from_one() {
        assert_eq!(position("ab\nä€x", 0), (1, 1));
        assert_eq!(position("ab\nä€x", 3), (2, 1));
        assert_eq!(position("ab\nä€x", 3 + "ä€".len()), (2, 3));
        assert_eq!(position("ab\n", 3), (2, 1));
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("ab", 99), (1, 3));
        assert_eq!(position("ab", 2), (1, 3));
        assert_eq!(position("ab\ncd", 2), (1, 3), "the newline belongs to its line");
        assert_eq!(position("\u{feff}ab", 3), (1, 1), "a byte order mark is invisible");
    }

    #[test]
    fn syntax_errors_come_one_a_line_and_not_without_end() {
        let garbage = "= =\n".repeat(1000);
        let source = Source::new(0, "f", garbage);
        assert_eq!(source.parse().expect_err("garbage").len(), MOST_SYNTAX_ERRORS);
    }
}
