//! multiwatch(1), which spawn-fcgi's manual names for keeping several copies of an application alive: its command line, whose
//! part fpmd takes over.

/// What multiwatch was to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Watch {
    /// `-f`
    pub copies: i64,
    /// The application.
    pub command: Vec<String>,
    /// Options without an equal, and why.
    pub notes: Vec<(String, &'static str)>,
}

/// Reads a command whose program is multiwatch; `None` for any other.
///
/// # Errors
/// What multiwatch itself would refuse.
pub(super) fn read(words: &[String]) -> Result<Option<Watch>, String> {
    let Some((program, rest)) = words.split_first() else { return Ok(None) };
    if program.rsplit('/').next() != Some("multiwatch") {
        return Ok(None);
    }
    let mut watch = Watch { copies: 1, command: Vec::new(), notes: Vec::new() };
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let Some((option, attached)) = option(word) else {
            watch.command = word_and_rest(word, rest);
            break;
        };
        let value = match attached {
            Some(value) => value.to_owned(),
            None => rest.next().cloned().ok_or_else(|| format!("multiwatch's {option} has no value"))?,
        };
        watch.take(option, &value)?;
    }
    if watch.command.is_empty() {
        return Err("multiwatch has no application to watch".to_owned());
    }
    Ok(Some(watch))
}

/// An option with a value, and the value if it is in the same word.
fn option(word: &str) -> Option<(&'static str, Option<&str>)> {
    const OPTIONS: [(&str, &str); 4] =
        [("-f", "--forks"), ("-r", "--retry"), ("-t", "--timeout"), ("-s", "--signal")];
    OPTIONS.into_iter().find_map(|(short, long)| {
        let attached = word.strip_prefix(short).filter(|rest| !rest.is_empty());
        let attached = attached.or_else(|| word.strip_prefix(long).and_then(|rest| rest.strip_prefix('=')));
        (word == short || word == long || attached.is_some()).then_some((short, attached))
    })
}

fn word_and_rest<'a>(word: &'a String, rest: impl Iterator<Item = &'a String>) -> Vec<String> {
    let first = (word != "--").then_some(word);
    first.into_iter().chain(rest).cloned().collect()
}

impl Watch {
    fn take(&mut self, option: &str, value: &str) -> Result<(), String> {
        let why = match option {
            "-f" => {
                let copies = value.parse().ok().filter(|copies| *copies > 0);
                self.copies =
                    copies.ok_or_else(|| format!("multiwatch's -f is a number of copies, not '{value}'"))?;
                return Ok(());
            }
            "-s" => "fpmd ends an idle worker with stop_signal, SIGTERM by default",
            _ => "fpmd starts a worker that dies again without end, waiting longer and longer",
        };
        self.notes.push((format!("multiwatch {option} {value}"), why));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn its_command_line_is_read() {
        let watch =
            read(&words("/usr/bin/multiwatch -f 4 -r10 --signal=TERM -- /app -x -f 2")).unwrap().unwrap();
        assert_eq!((watch.copies, watch.command), (4, words("/app -x -f 2")));
        let noted: Vec<&str> = watch.notes.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(noted, ["multiwatch -r 10", "multiwatch -s TERM"]);
        assert_eq!(read(&words("multiwatch /app")).unwrap().unwrap().command, ["/app"]);
        assert_eq!(read(&words("/usr/bin/php-cgi -f x")), Ok(None));
        for line in ["multiwatch -f 4 --", "multiwatch -f", "multiwatch -f no -- /app"] {
            assert!(read(&words(line)).is_err(), "{line}");
        }
    }
}
