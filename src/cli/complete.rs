//! What may stand where the cursor is, on the command lines of fpmd, fpmctl and spawn-fcgi: read off the same tables that the
//! programs read their arguments by. The scripts for the shells are in `complete/`; they ask for every word. fpmctl(8),
//! `completions`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, ValueEnum};

use super::spawn_fcgi::usage;
use super::{fpmctl, fpmd};
use crate::config::keys::{self, Kind, Section};

/// A shell that there is a script for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash 4.4 or later.
    Bash,
    /// Z shell.
    Zsh,
    /// fish 3 or later.
    Fish,
}

impl Shell {
    /// The script that makes the shell ask `fpmctl complete`, for all three programs.
    pub fn script(self) -> &'static str {
        match self {
            Shell::Bash => include_str!("complete/fpmd.bash"),
            Shell::Zsh => include_str!("complete/fpmd.zsh"),
            Shell::Fish => include_str!("complete/fpmd.fish"),
        }
    }
}

/// A program whose command line is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// The daemon.
    Fpmd,
    /// The control program.
    Fpmctl,
    /// The old command line.
    SpawnFcgi,
}

/// A word that fits, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word.
    pub text: String,
    /// A few words about it, perhaps none.
    pub help: String,
}

/// What only the shell, or only a running fpmd, knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// Nothing.
    Nothing,
    /// Names of files.
    Files,
    /// Names of directories.
    Directories,
    /// Names of users.
    Users,
    /// Names of groups.
    Groups,
    /// Names of pools.
    Pools,
    /// Names of pools, or a socket's path.
    PoolsAndFiles,
    /// Pids of workers.
    Workers,
}

impl More {
    /// What the scripts are told to add themselves.
    pub fn word(self) -> &'static str {
        match self {
            More::Nothing | More::Pools | More::Workers => "nothing",
            More::Files | More::PoolsAndFiles => "files",
            More::Directories => "directories",
            More::Users => "users",
            More::Groups => "groups",
        }
    }
}

/// What fits.
#[derive(Debug, PartialEq, Eq)]
pub struct Fitting {
    /// The words that are known here and begin like the one at the cursor.
    pub words: Vec<Word>,
    /// What else could.
    pub more: More,
    /// The control socket that the line names.
    pub socket: Option<PathBuf>,
}

/// What fits for the last one of `words`, which are those behind the program's name.
pub fn fitting(program: Program, words: &[String]) -> Fitting {
    let (typed, before) = words.split_last().map_or(("", words), |(last, before)| (last.as_str(), before));
    let mut fitting = match program {
        Program::Fpmd => line(&built(fpmd::grammar()), before, typed),
        Program::Fpmctl => line(&built(fpmctl::grammar()), before, typed),
        Program::SpawnFcgi => spawn_fcgi(before, typed),
    };
    fitting.words.retain(|word| word.text.starts_with(typed));
    fitting
}

fn built(mut grammar: Command) -> Command {
    grammar.build();
    grammar
}

/// How far a command line has come.
struct Walk<'a> {
    command: &'a Command,
    /// The option whose value comes next.
    awaited: Option<&'a Arg>,
    /// Operands so far, of the command that is the innermost now.
    operands: usize,
    /// Behind "--".
    only_operands: bool,
    given: BTreeSet<String>,
    socket: Option<PathBuf>,
}

fn line(grammar: &Command, before: &[String], typed: &str) -> Fitting {
    let mut walk = Walk {
        command: grammar,
        awaited: None,
        operands: 0,
        only_operands: false,
        given: BTreeSet::new(),
        socket: None,
    };
    // Bash makes a word of the "=" in "--name=value".
    before.iter().filter(|word| *word != "=").for_each(|word| walk.step(word));
    let (words, more) = match walk.awaited {
        Some(option) if typed != "=" => values(option),
        Some(_) => (Vec::new(), More::Nothing),
        None if typed.starts_with('-') && !walk.only_operands => (walk.options(), More::Nothing),
        None => walk.operand(),
    };
    Fitting { words, more, socket: walk.socket }
}

impl<'a> Walk<'a> {
    fn step(&mut self, word: &str) {
        if let Some(option) = self.awaited.take() {
            if option.get_id() == "socket" {
                self.socket = Some(word.into());
            }
            return;
        }
        if self.only_operands {
            self.operands += 1;
        } else if word == "--" {
            self.only_operands = true;
        } else if word.len() > 1 && word.starts_with('-') {
            self.option(word);
        } else if let Some(inner) = self.command.find_subcommand(word) {
            self.command = inner;
            self.operands = 0;
        } else {
            self.operands += 1;
        }
    }

    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let found = self.command.get_arguments().find(|arg| match name.strip_prefix("--") {
            Some(long) => arg.get_long() == Some(long),
            None => arg.get_short().is_some_and(|short| name[1..].starts_with(short)),
        });
        let Some(arg) = found else { return };
        self.given.insert(arg.get_id().to_string());
        // "-fVALUE" and "--name=VALUE" have theirs.
        let attached = value.is_some() || (!name.starts_with("--") && name.len() > 2);
        if attached && arg.get_id() == "socket" {
            self.socket = value.map(PathBuf::from);
        }
        if arg.get_action().takes_values() && !attached {
            self.awaited = Some(arg);
        }
    }

    /// Options that have not been given, or may be given again: the long form, or the short one where there is no other.
    fn options(&self) -> Vec<Word> {
        let repeats = |arg: &Arg| matches!(arg.get_action(), ArgAction::Append | ArgAction::Count);
        self.command
            .get_arguments()
            .filter(|arg| !arg.is_hide_set() && (repeats(arg) || !self.given.contains(arg.get_id().as_str())))
            .filter_map(|arg| {
                let long = arg.get_long().map(|long| format!("--{long}"));
                let text = long.or_else(|| arg.get_short().map(|short| format!("-{short}")))?;
                Some(Word { text, help: first_line(arg.get_help()) })
            })
            .collect()
    }

    fn operand(&self) -> (Vec<Word>, More) {
        let inner = self.command.get_subcommands().filter(|inner| !inner.is_hide_set() && self.operands == 0);
        let words: Vec<Word> = inner
            .map(|inner| Word { text: inner.get_name().to_owned(), help: first_line(inner.get_about()) })
            .collect();
        if !words.is_empty() && !self.only_operands {
            return (words, More::Nothing);
        }
        let operands: Vec<&Arg> = self.command.get_positionals().collect();
        let many = |arg: &&&Arg| matches!(arg.get_action(), ArgAction::Append);
        let next = operands.get(self.operands).or_else(|| operands.last().filter(many));
        // What stands behind "--" is a command line of its own.
        match next.filter(|arg| self.only_operands || !arg.is_last_set()) {
            Some(arg) => values(arg),
            None => (Vec::new(), More::Nothing),
        }
    }
}

/// The values of an option or operand: those that the table lists, those of the setting of that name, or what its name says.
fn values(arg: &Arg) -> (Vec<Word>, More) {
    let listed: Vec<Word> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| Word { text: value.get_name().to_owned(), help: first_line(value.get_help()) })
        .collect();
    if let Some(Kind::Choice(choices)) = keys::find(Section::Pool, arg.get_id().as_str()).map(|key| key.kind)
    {
        let word = |choice: &&str| Word { text: (*choice).to_owned(), help: String::new() };
        return (choices.iter().map(word).collect(), More::Nothing);
    }
    let name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let more = match name {
        _ if !listed.is_empty() => More::Nothing,
        "POOL" => More::Pools,
        "PID" | "WORKER" => More::Workers,
        "ADDRESS|POOL" => More::PoolsAndFiles,
        "FILE" | "PATH" | "CONTROL" | "ADDR" | "COMMAND" | "ARGS" => More::Files,
        "DIR" => More::Directories,
        "U" => More::Users,
        "G" => More::Groups,
        _ => More::Nothing,
    };
    (listed, more)
}

fn first_line(help: Option<&clap::builder::StyledStr>) -> String {
    help.map(|help| help.to_string().lines().next().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn spawn_fcgi(before: &[String], typed: &str) -> Fitting {
    let more_of = |argument: &str| match argument {
        "<path>" => More::Files,
        "<directory>" => More::Directories,
        "<user>" => More::Users,
        "<group>" => More::Groups,
        _ => More::Nothing,
    };
    let last = before.last().map_or("", String::as_str);
    let has_application = before.iter().any(|word| word == "--");
    let awaited = usage::OPTIONS.iter().find(|option| !option.argument.is_empty() && option.flag == last);
    let (words, more) = match awaited {
        Some(option) if !has_application => (Vec::new(), more_of(option.argument)),
        _ if typed.starts_with('-') && !has_application => {
            let words = usage::OPTIONS.iter().flat_map(|option| {
                let flags = option.flag.split(", ");
                flags.map(|flag| Word { text: flag.to_owned(), help: option.meaning.to_owned() })
            });
            (words.collect(), More::Nothing)
        }
        _ => (Vec::new(), More::Files),
    };
    Fitting { words, more, socket: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> (Vec<String>, More) {
        let mut words = line.split(' ').map(str::to_owned);
        let program = Program::from_str(&words.next().unwrap(), false).unwrap();
        let fitting = fitting(program, &words.collect::<Vec<String>>());
        (fitting.words.into_iter().map(|word| word.text).collect(), fitting.more)
    }

    #[test]
    fn commands_and_options_are_those_of_the_grammar() {
        assert_eq!(of("fpmctl stat").0, ["status"]);
        assert_eq!(of("fpmctl status --f").0, ["--full"]);
        assert_eq!(of("fpmctl --js").0, ["--json"]);
        assert_eq!(of("fpmctl status --full --f").0, Vec::<String>::new());
        assert_eq!(of("fpmctl request www / --pa").0, ["--param"]);
        assert_eq!(of("fpmctl request www / --param A=B --pa").0, ["--param"]);
        assert_eq!(of("fpmctl import ").0, ["php-fpm", "spawn-fcgi", "supervisord"]);
        assert_eq!(of("fpmd ").0, ["run", "demo"]);
        assert_eq!(of("fpmd --ch").0, ["--check"]);
        let everything = of("fpmctl ").0;
        assert!(everything.contains(&"reload".into()) && !everything.contains(&"complete".into()));
    }

    #[test]
    fn values_are_those_of_the_table() {
        for line in ["fpmctl --color a", "fpmctl status --color = a", "fpmctl list --color a"] {
            assert_eq!(of(line).0, ["auto", "always"], "{line}");
        }
        assert_eq!(of("fpmd run --dispatch g").0, ["gateway"]);
        assert_eq!(of("fpmctl completions z").0, ["zsh"]);
    }

    #[test]
    fn what_others_know_is_asked_for() {
        for (line, more) in [
            ("fpmctl status ", More::Pools),
            ("fpmctl status www ", More::Nothing),
            ("fpmctl reload a b ", More::Pools),
            ("fpmctl scale www ", More::Nothing),
            ("fpmctl drain ", More::Workers),
            ("fpmctl check ", More::Files),
            ("fpmctl --socket ", More::Files),
            ("fpmctl request ", More::PoolsAndFiles),
            ("fpmctl request www / --root ", More::Directories),
            ("fpmctl import php-fpm a ", More::Files),
            ("fpmd --config ", More::Files),
            ("fpmd run --user ", More::Users),
            ("fpmd run -- ", More::Files),
            ("fpmd run -- -", More::Files),
            ("spawn-fcgi -u ", More::Users),
            ("spawn-fcgi -p ", More::Nothing),
            ("spawn-fcgi -s ", More::Files),
            ("spawn-fcgi -p 1 -- /b", More::Files),
        ] {
            assert_eq!(of(line), (Vec::new(), more), "{line}");
        }
        assert_eq!(of("spawn-fcgi -p 1 --s").0, ["--supervise"]);
    }

    #[test]
    fn the_line_s_own_socket_is_the_one_that_is_asked() {
        for line in ["--socket /s status ", "status --socket=/s ", "-s /s status "] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(fitting(Program::Fpmctl, &words).socket, Some("/s".into()), "{line}");
        }
    }
}
