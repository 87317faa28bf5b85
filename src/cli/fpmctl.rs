//! fpmctl's command line: what was typed, then what it means. Documented in fpmctl(8).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use super::complete::{Program, Shell};
use super::fpmd::DEFAULT_CONFIG;
use super::import::Import;
use super::request::Request;
use super::terminal::ColorChoice;
use super::{Ended, exit, values};
use crate::ids::{Pid, PoolName};

/// What fpmctl is asked to do, and how to say it.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The control socket; `None` is the default one of whoever runs fpmctl.
    pub socket: Option<PathBuf>,
    /// The form of the answer.
    pub form: Form,
    /// What to do.
    pub action: Action,
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text(ColorChoice),
    /// For programs.
    Json,
}

/// What fpmctl is asked to do. The commands that change something answer when it is done.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Action {
    /// Show pools, or one pool with its workers
    Status {
        /// Only this pool, with its workers
        #[arg(value_parser = values::pool)]
        pool: Option<PoolName>,
        /// Show the workers of every pool
        #[arg(long, short)]
        full: bool,
    },
    /// Print the pools' names and states
    List,
    /// Read the configuration again and exchange workers, new ones first
    Reload {
        /// Only these pools
        #[arg(value_name = "POOL", value_parser = values::pool)]
        pools: Vec<PoolName>,
        /// Exchange workers only where settings or programs have changed
        #[arg(long, short)]
        changed: bool,
    },
    /// Start a pool that is stopped or has failed
    Start {
        /// Which pool
        #[arg(value_parser = values::pool)]
        pool: PoolName,
    },
    /// Drain and stop a pool, or fpmd itself where none is named
    Stop {
        /// Which pool
        #[arg(value_parser = values::pool)]
        pool: Option<PoolName>,
    },
    /// Exchange a pool's workers, new ones first
    Restart {
        /// Which pool
        #[arg(value_parser = values::pool)]
        pool: PoolName,
    },
    /// Change a pool's number of workers until the next reload
    Scale {
        /// Which pool
        #[arg(value_parser = values::pool)]
        pool: PoolName,
        /// How many workers
        #[arg(value_name = "N", value_parser = values::workers)]
        workers: u32,
    },
    /// Replace one worker and end it when it is idle
    Drain {
        /// The worker's pid
        #[arg(value_parser = values::pid)]
        pid: Pid,
    },
    /// End one worker at once, with the request in it
    Kill {
        /// The worker's pid
        #[arg(value_parser = values::pid)]
        pid: Pid,
    },
    /// Reopen the log files, after they were renamed
    Reopen,
    /// Exchange fpmd's program for the installed version, in the same process
    Upgrade,
    /// Test a configuration file; needs no running fpmd
    Check {
        /// The configuration file
        #[arg(default_value = DEFAULT_CONFIG)]
        file: PathBuf,
    },
    /// Print the configuration in force, with every default
    Dump,
    /// Exit 0 if the pool, or every pool, can serve
    Health {
        /// Only this pool
        #[arg(value_parser = values::pool)]
        pool: Option<PoolName>,
    },
    /// Send one FastCGI request and print the answer
    #[command(after_help = REQUEST_EXAMPLES)]
    Request(Request),
    /// Print another program's configuration as one of fpmd's; needs no running fpmd
    #[command(subcommand, disable_help_subcommand = true)]
    Import(Import),
    /// Print the script that completes command lines in a shell
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// The words that fit, for those scripts
    #[command(hide = true)]
    Complete {
        /// Whose command line
        #[arg(value_enum)]
        program: Program,
        /// The words behind the program's name, up to the cursor
        #[arg(last = true, value_name = "WORDS")]
        words: Vec<String>,
    },
}

const EXAMPLES: &str = "\
Examples:
  fpmctl status                    pools at a glance
  fpmctl status www                one pool with its workers
  fpmctl reload                    after a change of the configuration
  fpmctl request www /index.php --root /srv/www

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 fpmd cannot be reached. See fpmctl(8).";

const REQUEST_EXAMPLES: &str = "\
Examples:
  fpmctl request www /
  fpmctl request 127.0.0.1:9000 /index.php?page=2 --root /srv/www --include
  fpmctl request /run/app.sock /upload --data @photo.jpg --header 'Content-Type: image/jpeg'";

/// Status and control of a running fpmd
#[derive(Debug, Parser)]
#[command(name = "fpmctl", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Typed {
    /// Control socket; /run/fpmd/fpmd.sock for root
    #[arg(long, short, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long, short, global = true)]
    json: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    #[arg(hide_possible_values = true, help = "When to use colours: auto, always or never")]
    color: ColorChoice,
    #[command(subcommand)]
    action: Action,
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// `Ended`, with exit code 2 for a wrong command line and 0 after `--help` or `--version`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, Ended> {
    let Typed { socket, json, color, action } =
        Typed::try_parse_from(args).map_err(|said| Ended { said, usage: exit::Ctl::Usage.into() })?;
    let form = if json { Form::Json } else { Form::Text(color) };
    Ok(Invocation { socket, form, action })
}

/// The description of the whole command line, for the test of the man page.
pub fn grammar() -> clap::Command {
    Typed::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, Ended> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn action(line: &str) -> Action {
        parsed(line).unwrap().action
    }

    fn www() -> PoolName {
        PoolName::new("www").unwrap()
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }

    #[test]
    fn every_command_is_read() {
        let pid = Pid::new(7).unwrap();
        for (line, means) in [
            ("fpmctl status", Action::Status { pool: None, full: false }),
            ("fpmctl status www --full", Action::Status { pool: Some(www()), full: true }),
            ("fpmctl list", Action::List),
            ("fpmctl reload", Action::Reload { pools: vec![], changed: false }),
            ("fpmctl reload www www", Action::Reload { pools: vec![www(), www()], changed: false }),
            ("fpmctl reload --changed", Action::Reload { pools: vec![], changed: true }),
            ("fpmctl start www", Action::Start { pool: www() }),
            ("fpmctl stop", Action::Stop { pool: None }),
            ("fpmctl stop www", Action::Stop { pool: Some(www()) }),
            ("fpmctl restart www", Action::Restart { pool: www() }),
            ("fpmctl scale www 3", Action::Scale { pool: www(), workers: 3 }),
            ("fpmctl drain 7", Action::Drain { pid }),
            ("fpmctl kill 7", Action::Kill { pid }),
            ("fpmctl reopen", Action::Reopen),
            ("fpmctl upgrade", Action::Upgrade),
            ("fpmctl check", Action::Check { file: DEFAULT_CONFIG.into() }),
            ("fpmctl check x.toml", Action::Check { file: "x.toml".into() }),
            ("fpmctl dump", Action::Dump),
            ("fpmctl health www", Action::Health { pool: Some(www()) }),
        ] {
            assert_eq!(action(line), means, "{line}");
        }
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in ["fpmctl --socket /s --json list", "fpmctl list --json --socket /s"] {
            let invocation = parsed(line).unwrap();
            assert_eq!((invocation.socket, invocation.form), (Some("/s".into()), Form::Json));
        }
        let plain = parsed("fpmctl list --color=never").unwrap();
        assert_eq!((plain.socket, plain.form), (None, Form::Text(ColorChoice::Never)));
    }

    #[test]
    fn wrong_command_lines_are_named() {
        for (line, named) in [
            ("fpmctl", "Usage"),
            ("fpmctl statsu", "'status'"),
            ("fpmctl top", "unrecognized subcommand"),
            ("fpmctl scale www", "<N>"),
            ("fpmctl scale www 0", "from 1 to"),
            ("fpmctl scale a/b 1", "letters, digits"),
            ("fpmctl kill 0", "from 1 to"),
            ("fpmctl restart", "<POOL>"),
            ("fpmctl list --color sometimes", "auto"),
            ("fpmctl request www", "<PATH>"),
        ] {
            let text = parsed(line).unwrap_err().text();
            assert!(text.contains(named), "{line}: {text}");
        }
    }
}
