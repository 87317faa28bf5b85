//! Whether a person is looking, and whether colours help (no-color.org). Reads the environment; writes nothing.

use std::ffi::OsStr;
use std::io::IsTerminal;

use clap::ValueEnum;

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is "dumb"
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Who reads a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A person at a terminal.
    Person,
    /// A file, a pipe, another program.
    Program,
}

/// Who reads standard output.
pub fn stdout_reader() -> Reader {
    reader(std::io::stdout().is_terminal())
}

/// Who reads standard error.
pub fn stderr_reader() -> Reader {
    reader(std::io::stderr().is_terminal())
}

fn reader(is_terminal: bool) -> Reader {
    if is_terminal { Reader::Person } else { Reader::Program }
}

/// Whether standard output gets colours.
pub fn stdout_colours(choice: ColorChoice) -> bool {
    let (no_color, term) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
    colours(choice, stdout_reader(), no_color.as_deref(), term.as_deref())
}

fn colours(choice: ColorChoice, reader: Reader, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            // Set but empty does not count, by the convention's own words.
            let refused = no_color.is_some_and(|value| !value.is_empty());
            let capable = term.is_some_and(|term| term != "dumb");
            reader == Reader::Person && !refused && capable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_capable_terminals_of_those_who_want_them() {
        let xterm = Some(OsStr::new("xterm"));
        let auto = |reader, no_color: Option<&str>, term| {
            colours(ColorChoice::Auto, reader, no_color.map(OsStr::new), term)
        };
        assert!(auto(Reader::Person, None, xterm));
        assert!(auto(Reader::Person, Some(""), xterm));
        assert!(!auto(Reader::Person, Some("1"), xterm));
        assert!(!auto(Reader::Person, None, Some(OsStr::new("dumb"))));
        assert!(!auto(Reader::Person, None, None));
        assert!(!auto(Reader::Program, None, xterm));
    }

    #[test]
    fn a_choice_is_a_choice() {
        assert!(colours(ColorChoice::Always, Reader::Program, Some(OsStr::new("1")), None));
        assert!(!colours(ColorChoice::Never, Reader::Person, None, Some(OsStr::new("xterm"))));
    }
}
