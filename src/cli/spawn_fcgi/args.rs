//! The command line of spawn-fcgi 1.6.4 and what it asks for. Pure: options are looked at one by one in their order, and the first
//! fault, `-h` or `-v` ends the reading, as in the original. Owns the grammar and the checks between options.
//! spawn-fcgi(1).

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::getopt::{Grammar, Item, Options, Ordering};
use super::number::{int, leading_number, low_bits};

/// The original's option string, and our one addition.
pub const GRAMMAR: Grammar =
    Grammar { letters: b"c:d:f:g:?hna:p:b:u:vC:F:s:P:U:G:M:S", words: &["supervise"] };

/// The longest path of a Unix socket, bytes; unix(7).
const UNIX_PATH_MAX: usize = 107;

/// What is wrong with a command line; the sentences are the original's, word for word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Neither `-f` nor an application behind the options.
    NoApplication,
    /// Neither `-p` (or port 0) nor `-s`.
    NoSocket,
    /// Both `-p` and `-s`.
    TwoSockets,
    /// Something stands behind the port's digits; the number is what was read so far.
    InvalidPort(u16),
    /// More than 107 bytes.
    PathTooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NoApplication => f.write_str("no FastCGI application given"),
            Fault::NoSocket => f.write_str("no socket given (use either -p or -s)"),
            Fault::TwoSockets => f.write_str("either a Unix domain socket or a TCP-port, but not both"),
            Fault::InvalidPort(port) => write!(f, "invalid port: {port}"),
            Fault::PathTooLong => f.write_str("path of the Unix domain socket is too long"),
        }
    }
}

/// Who started us, which decides about the options for root only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The real user is root.
    Root,
    /// Somebody else: root's options are read and ignored.
    Ordinary,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Print the usage; the status is the program's.
    Usage(u8),
    /// Print this complaint of getopt(3) on stderr, then the usage; a usage error.
    BadOption(Vec<u8>),
    /// Print the version.
    Version,
    /// Start the application.
    Launch(Box<Request>),
}

/// How to start which application, where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to run.
    pub application: Application,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// `-M`: all the bits as given; `None` is 0660 without the umask.
    pub mode: Option<u32>,
    /// `-b`.
    pub backlog: i32,
    /// `-F`; nothing is started where it is not positive.
    pub fork_count: i32,
    /// `-C`, if it is not negative.
    pub php_children: Option<i32>,
    /// `-n` or not.
    pub style: Style,
    /// `-P`; `None` also with `-n`, which ignores it.
    pub pid_file: Option<OsString>,
    /// `-d`.
    pub directory: Option<OsString>,
    /// `-c`, `-S`, `-u`, `-g`, `-U`, `-G`; `None` if somebody else than root started us.
    pub privileged: Option<Privileged>,
    /// `--supervise`.
    pub after: After,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Application {
    /// Path and arguments behind the options; never empty.
    Direct(Vec<OsString>),
    /// `-f`: text behind `exec` in a shell.
    Shell(OsString),
}

/// Where the application listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `-p`, which is not 0, and `-a` unchecked.
    Tcp {
        /// `-a`.
        address: Option<OsString>,
        /// `-p`.
        port: u16,
    },
    /// `-s`, at most 107 bytes.
    Unix(OsString),
}

/// In the background or in our place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Children in sessions of their own, and we end.
    Fork,
    /// `-n`: we become the application.
    InPlace,
}

/// Whether anybody stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The original: the application is left to itself.
    Leave,
    /// `--supervise`: fpmd stays.
    Supervise,
}

/// Options for root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Privileged {
    /// `-c`.
    pub chroot: Option<OsString>,
    /// `-S`: true if the socket is made before the chroot.
    pub bind_first: bool,
    /// `-u`.
    pub user: Option<OsString>,
    /// `-g`.
    pub group: Option<OsString>,
    /// `-U`.
    pub socket_user: Option<OsString>,
    /// `-G`.
    pub socket_group: Option<OsString>,
}

/// Options as far as they have been read.
#[derive(Default)]
struct Draft {
    shell: Option<OsString>,
    address: Option<OsString>,
    port: u16,
    unix: Option<OsString>,
    mode: Option<u32>,
    backlog: Option<i32>,
    fork_count: Option<i32>,
    php_children: Option<i32>,
    no_fork: bool,
    pid_file: Option<OsString>,
    directory: Option<OsString>,
    privileged: Privileged,
    supervise: bool,
}

/// Reads `arguments`, the program's name first.
///
/// # Errors
/// The first fault that is not getopt's.
pub fn parse(arguments: &[OsString], caller: Caller, ordering: Ordering) -> Result<Invocation, Fault> {
    let Some((program, arguments)) = arguments.split_first() else { return Ok(Invocation::Usage(255)) };
    if arguments.is_empty() {
        return Ok(Invocation::Usage(255));
    }
    let mut draft = Draft::default();
    let mut options = Options::new(arguments, GRAMMAR, ordering);
    for item in options.by_ref() {
        match item {
            Item::Word(_) => draft.supervise = true,
            Item::Letter(b'v', _) => return Ok(Invocation::Version),
            Item::Letter(b'h' | b'?', _) => return Ok(Invocation::Usage(0)),
            Item::Letter(letter, argument) => draft.set(letter, argument.unwrap_or_default())?,
            Item::Unknown(letter) => return Ok(bad_option(program, "invalid option", letter)),
            Item::WithoutArgument(letter) => {
                return Ok(bad_option(program, "option requires an argument", letter));
            }
        }
    }
    let operands = options.into_operands();
    draft.finish(operands, caller).map(|request| Invocation::Launch(Box::new(request)))
}

fn bad_option(program: &OsString, complaint: &str, letter: u8) -> Invocation {
    let start = [program.as_bytes(), b": ", complaint.as_bytes(), b" -- '"].concat();
    Invocation::BadOption([&start[..], &[letter], b"'"].concat())
}

impl Draft {
    fn set(&mut self, letter: u8, value: OsString) -> Result<(), Fault> {
        let text = value.as_bytes();
        match letter {
            b'p' => {
                let (number, behind) = leading_number(text, 10);
                self.port = low_bits(number) as u16;
                if !behind.is_empty() {
                    return Err(Fault::InvalidPort(self.port));
                }
            }
            b'M' => self.mode = Some(low_bits(leading_number(text, 8).0)),
            b'b' => self.backlog = Some(int(text)),
            b'F' => self.fork_count = Some(int(text)),
            b'C' => self.php_children = Some(int(text)),
            b'n' => self.no_fork = true,
            b'S' => self.privileged.bind_first = true,
            b'f' => self.shell = Some(value),
            b'a' => self.address = Some(value),
            b's' => self.unix = Some(value),
            b'P' => self.pid_file = Some(value),
            b'd' => self.directory = Some(value),
            b'c' => self.privileged.chroot = Some(value),
            b'u' => self.privileged.user = Some(value),
            b'g' => self.privileged.group = Some(value),
            b'U' => self.privileged.socket_user = Some(value),
            b'G' => self.privileged.socket_group = Some(value),
            // A letter of the grammar without a line here; a test walks over all of them.
            unknown => debug_assert!(false, "option -{} means nothing", char::from(unknown)),
        }
        Ok(())
    }

    /// The checks between options, in the original's order.
    fn finish(self, operands: Vec<OsString>, caller: Caller) -> Result<Request, Fault> {
        let application = match self.shell {
            _ if !operands.is_empty() => Application::Direct(operands),
            Some(path) => Application::Shell(path),
            None => return Err(Fault::NoApplication),
        };
        let endpoint = match (self.port, self.unix) {
            (0, None) => return Err(Fault::NoSocket),
            (0, Some(path)) if path.len() > UNIX_PATH_MAX => return Err(Fault::PathTooLong),
            (0, Some(path)) => Endpoint::Unix(path),
            (port, None) => Endpoint::Tcp { address: self.address, port },
            (_, Some(_)) => return Err(Fault::TwoSockets),
        };
        let style = if self.no_fork { Style::InPlace } else { Style::Fork };
        Ok(Request {
            application,
            endpoint,
            mode: self.mode,
            backlog: self.backlog.unwrap_or(1024),
            fork_count: self.fork_count.unwrap_or(1),
            php_children: self.php_children.filter(|&children| children >= 0),
            style,
            pid_file: self.pid_file.filter(|_| style == Style::Fork),
            directory: self.directory,
            privileged: (caller == Caller::Root).then_some(self.privileged),
            after: if self.supervise { After::Supervise } else { After::Leave },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::usage::{OPTIONS, Users};
    use super::*;

    fn read_as(caller: Caller, line: &str) -> Result<Invocation, Fault> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&arguments, caller, Ordering::Permute)
    }

    fn request(line: &str) -> Request {
        match read_as(Caller::Root, line) {
            Ok(Invocation::Launch(request)) => *request,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn failure(line: &str) -> String {
        match read_as(Caller::Root, line) {
            Err(fault) => fault.to_string(),
            Ok(invocation) => panic!("{line}: {invocation:?}"),
        }
    }

    #[test]
    fn every_option_of_the_grammar_has_a_meaning_and_a_usage_line() {
        let letters: Vec<u8> = GRAMMAR.letters.iter().copied().filter(|&b| b != b':').collect();
        for &letter in letters.iter().filter(|b| !b"vh?".contains(b)) {
            Draft::default().set(letter, "1".into()).unwrap();
        }
        let flags: String = OPTIONS.iter().map(|option| format!("{} ", option.flag)).collect();
        for &letter in &letters {
            assert!(flags.contains(&format!("-{}", char::from(letter))), "-{}", char::from(letter));
        }
        for option in OPTIONS.iter().filter(|o| o.flag.len() == 2) {
            let at = GRAMMAR.letters.iter().position(|&b| b == option.flag.as_bytes()[1]).unwrap();
            assert_eq!(
                GRAMMAR.letters.get(at + 1) == Some(&b':'),
                !option.argument.is_empty(),
                "{}",
                option.flag
            );
        }
        let words: Vec<_> = OPTIONS.iter().filter_map(|o| o.flag.strip_prefix("--")).collect();
        assert_eq!(words, GRAMMAR.words);
        assert_eq!(OPTIONS.iter().filter(|o| o.users == Users::Root).count(), 6);
    }

    #[test]
    fn defaults() {
        let request = request("spawn-fcgi -p 9000 -- /bin/app");
        assert_eq!(request.application, Application::Direct(vec!["/bin/app".into()]));
        assert_eq!(request.endpoint, Endpoint::Tcp { address: None, port: 9000 });
        assert_eq!((request.mode, request.backlog, request.fork_count), (None, 1024, 1));
        assert_eq!((request.php_children, request.style, request.after), (None, Style::Fork, After::Leave));
    }

    #[test]
    fn odd_numbers_mean_what_they_mean_in_c() {
        assert_eq!(request("s -p 70000 a").endpoint, Endpoint::Tcp { address: None, port: 4464 });
        assert_eq!(request("s -p -1 a").endpoint, Endpoint::Tcp { address: None, port: 65535 });
        assert_eq!(request("s -p 1 -C many a").php_children, Some(0));
        assert_eq!(request("s -p 1 -C -4 a").php_children, None);
        assert_eq!(request("s -p 1 -F x -b 4294967295 a").fork_count, 0);
        assert_eq!(request("s -p 1 -b 4294967295 a").backlog, -1);
        assert_eq!(request("s -s p -M 0o7 a").mode, Some(0));
        assert_eq!(request("s -s p -M -1 a").mode, Some(u32::MAX));
        assert_eq!(request("s -p 0 -s p a").endpoint, Endpoint::Unix("p".into()));
    }

    #[test]
    fn checks_come_in_the_originals_order() {
        let long = "x".repeat(108);
        let cases = [
            ("s -n".to_owned(), "no FastCGI application given"),
            ("s -p 1 -s x".to_owned(), "no FastCGI application given"),
            ("s -p 80x".to_owned(), "invalid port: 80"),
            ("s -p x -v".to_owned(), "invalid port: 0"),
            ("s a".to_owned(), "no socket given (use either -p or -s)"),
            ("s -p 0 a".to_owned(), "no socket given (use either -p or -s)"),
            ("s -p 1 -s x a".to_owned(), "either a Unix domain socket or a TCP-port, but not both"),
            (format!("s -p 1 -s {long} a"), "either a Unix domain socket or a TCP-port, but not both"),
            (format!("s -s {long} a"), "path of the Unix domain socket is too long"),
        ];
        for (line, expected) in cases {
            assert_eq!(failure(&line), expected, "{line}");
        }
        assert_eq!(request(&format!("s -s {} a", &long[1..])).endpoint, Endpoint::Unix(long[1..].into()));
    }

    #[test]
    fn the_first_of_help_version_and_fault_wins() {
        let bad = |text: &str| Invocation::BadOption(text.as_bytes().to_vec());
        let cases = [
            ("s", Invocation::Usage(255)),
            ("s -h", Invocation::Usage(0)),
            ("s -?v", Invocation::Usage(0)),
            ("s -vh", Invocation::Version),
            ("/x/y -zv", bad("/x/y: invalid option -- 'z'")),
            ("s -np", bad("s: option requires an argument -- 'p'")),
            ("s --super", bad("s: invalid option -- '-'")),
        ];
        for (line, expected) in cases {
            assert_eq!(read_as(Caller::Root, line).unwrap(), expected, "{line}");
        }
        assert_eq!(parse(&[], Caller::Root, Ordering::Permute).unwrap(), Invocation::Usage(255));
    }

    #[test]
    fn an_application_behind_the_options_beats_f() {
        assert_eq!(request("s -p 1 -f x").application, Application::Shell("x".into()));
        assert_eq!(
            request("s -p 1 -f x y -n -- -z").application,
            Application::Direct(vec!["y".into(), "-z".into()])
        );
    }

    #[test]
    fn roots_options_are_read_and_dropped_for_others() {
        let line = "s -p 1 -u www -g www -U a -G b -c /r -S a";
        let privileged = request(line).privileged.unwrap();
        assert_eq!((privileged.chroot, privileged.bind_first), (Some("/r".into()), true));
        let Ok(Invocation::Launch(request)) = read_as(Caller::Ordinary, line) else { panic!("not read") };
        assert_eq!(request.privileged, None);
    }

    #[test]
    fn n_ignores_the_pid_file() {
        assert_eq!(request("s -p 1 -n -P /p a").pid_file, None);
        assert_eq!(request("s -p 1 -P /p a").pid_file, Some("/p".into()));
    }
}
