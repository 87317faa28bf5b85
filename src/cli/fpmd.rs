//! fpmd's command line: what was typed, then what it means. Documented in fpmd(8).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use super::{Ended, exit, values};

/// The configuration file that is read where none is named.
pub const DEFAULT_CONFIG: &str = "/etc/fpmd/fpmd.toml";

/// What fpmd is asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// `fpmd`: the daemon of a configuration file.
    Serve {
        /// The configuration file.
        config: PathBuf,
        /// In the foreground, or not.
        place: Place,
        /// Overrides `pid_file` of the configuration.
        pid_file: Option<PathBuf>,
    },
    /// `fpmd --check`: tests the configuration and creates nothing.
    Check {
        /// The configuration file.
        config: PathBuf,
    },
    /// `fpmd --dump`: tests the configuration and prints it with every default.
    Dump {
        /// The configuration file.
        config: PathBuf,
    },
    /// `fpmd run`: one pool without a file.
    Run(Run),
    /// `fpmd demo`: the built-in pool.
    Demo(Demo),
    /// `fpmd take-over-trial`: whether an upgrade of the fpmd that asks would do.
    Trial,
    /// `fpmd demo-worker`: the worker of that pool, on descriptor 0.
    DemoWorker,
}

/// Where the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As the process that was started.
    Foreground,
    /// In the background; the process that was started ends when the daemon is ready, or with its error.
    Background,
}

/// One pool without a file.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Run {
    /// Address to listen on: HOST:PORT, PORT, a socket path, @NAME or systemd:NAME; may be repeated
    #[arg(long, short, value_name = "ADDR", required = true)]
    pub listen: Vec<String>,
    /// Number of workers
    #[arg(long, short, value_name = "N", default_value = "1", value_parser = values::workers)]
    pub workers: u32,
    /// Who accepts connections; "direct": the workers themselves
    #[arg(long, value_name = "MODE", value_parser = values::dispatch)]
    pub dispatch: Option<&'static str>,
    /// Path of the control socket for fpmctl
    #[arg(long, value_name = "CONTROL")]
    pub socket: Option<PathBuf>,
    /// User that the workers run as
    #[arg(long, short, value_name = "U")]
    pub user: Option<String>,
    /// Group that the workers run as
    #[arg(long, short, value_name = "G")]
    pub group: Option<String>,
    /// Environment variable for the workers; may be repeated
    #[arg(long, short, value_name = "K=V", value_parser = values::assignment)]
    pub env: Vec<(String, String)>,
    /// The worker's program and its arguments, after "--"
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// The built-in pool.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Demo {
    /// Address to listen on; port 0 is any free port
    #[arg(long, short, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Number of workers
    #[arg(long, short, value_name = "N", default_value = "2", value_parser = values::workers)]
    pub workers: u32,
}

const EXAMPLES: &str = "\
Examples:
  fpmd demo                                        try it, nothing needed
  fpmd run --listen 127.0.0.1:9000 --workers 4 -- /usr/bin/php-cgi
  fpmd --check --config /etc/fpmd/fpmd.toml
  fpmd --config /etc/fpmd/fpmd.toml                in the foreground

See fpmd(8) for signals and exit codes, fpmctl(8) for status and control.";

const RUN_EXAMPLES: &str = "\
Examples:
  fpmd run --listen 127.0.0.1:9000 --workers 4 -- /usr/bin/php-cgi
  fpmd run --listen /run/app.sock --user www-data --env APP_ENV=prod -- /srv/app/app.fcgi
  fpmd run --listen 8000 --dispatch direct -- python3 -m uvicorn --fd 0 app:app    not FastCGI";

/// A FastCGI process manager for any language
#[derive(Debug, Parser)]
#[command(name = "fpmd", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(disable_help_subcommand = true)]
struct Typed {
    /// Configuration file
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Test the configuration, create nothing, and exit
    #[arg(long, short = 't', conflicts_with_all = ["dump", "daemonize"])]
    check: bool,
    /// Print the configuration with every default, and exit
    #[arg(long, conflicts_with = "daemonize")]
    dump: bool,
    /// Go to the background when ready
    #[arg(long, short = 'D')]
    daemonize: bool,
    /// Write the pid to FILE, whatever the configuration says
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    #[command(subcommand)]
    mode: Option<Mode>,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Manage one pool without a configuration file
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Serve a built-in worker, to try fpmd with nothing installed
    Demo(Demo),
    /// Whether this program could take over from the one that asks
    #[command(hide = true)]
    TakeOverTrial,
    /// The built-in worker of the demo
    #[command(hide = true)]
    DemoWorker,
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// `Ended`, with exit code 64 for a wrong command line and 0 after `--help` or `--version`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, Ended> {
    Typed::try_parse_from(args)
        .map(Typed::meaning)
        .map_err(|said| Ended { said, usage: exit::Daemon::Usage.into() })
}

/// The description of the whole command line, for the test of the man page.
pub fn grammar() -> clap::Command {
    Typed::command()
}

impl Typed {
    fn meaning(self) -> Invocation {
        let Typed { config, check, dump, daemonize, pid_file, mode } = self;
        let place = if daemonize { Place::Background } else { Place::Foreground };
        match mode {
            Some(Mode::Run(run)) => Invocation::Run(run),
            Some(Mode::Demo(demo)) => Invocation::Demo(demo),
            Some(Mode::TakeOverTrial) => Invocation::Trial,
            Some(Mode::DemoWorker) => Invocation::DemoWorker,
            None if check => Invocation::Check { config },
            None if dump => Invocation::Dump { config },
            None => Invocation::Serve { config, place, pid_file },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, Ended> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }

    #[test]
    fn without_arguments_the_default_file_is_served_in_the_foreground() {
        let serve =
            Invocation::Serve { config: DEFAULT_CONFIG.into(), place: Place::Foreground, pid_file: None };
        assert_eq!(parsed("fpmd").unwrap(), serve);
    }

    #[test]
    fn options_of_the_daemon_mean_what_they_say() {
        let config = || PathBuf::from("x.toml");
        let serve = Invocation::Serve {
            config: config(),
            place: Place::Background,
            pid_file: Some("/run/fpmd.pid".into()),
        };
        assert_eq!(parsed("fpmd -c x.toml -D --pid-file /run/fpmd.pid").unwrap(), serve);
        assert_eq!(parsed("fpmd -t --config x.toml").unwrap(), Invocation::Check { config: config() });
        assert_eq!(parsed("fpmd --dump --config=x.toml").unwrap(), Invocation::Dump { config: config() });
    }

    #[test]
    fn a_pool_without_a_file_is_read_whole() {
        let line = "fpmd run --listen 9000 --listen @x --workers 4 --dispatch direct --socket /tmp/c.sock \
                    --user u --group g --env A=b --env C= -- /bin/w -x --listen y";
        let run = Run {
            listen: vec!["9000".into(), "@x".into()],
            workers: 4,
            dispatch: Some("direct"),
            socket: Some("/tmp/c.sock".into()),
            user: Some("u".into()),
            group: Some("g".into()),
            env: vec![("A".into(), "b".into()), ("C".into(), String::new())],
            command: ["/bin/w", "-x", "--listen", "y"].map(String::from).to_vec(),
        };
        assert_eq!(parsed(line).unwrap(), Invocation::Run(run));
    }

    #[test]
    fn the_demo_needs_no_argument() {
        let Ok(Invocation::Demo(demo)) = parsed("fpmd demo") else { panic!("not a demo") };
        assert_eq!((demo.listen.as_str(), demo.workers), ("127.0.0.1:0", 2));
        assert_eq!(parsed("fpmd demo-worker").unwrap(), Invocation::DemoWorker);
    }

    #[test]
    fn wrong_command_lines_are_named() {
        for (line, named) in [
            ("fpmd --chekc", "--check"),
            ("fpmd --check --dump", "cannot be used with"),
            ("fpmd --check -D", "cannot be used with"),
            ("fpmd --config x run --listen 1 -- /w", "cannot be used with"),
            ("fpmd run -- /w", "--listen"),
            ("fpmd run --listen 1", "COMMAND"),
            ("fpmd run --listen 1 /w", "unexpected argument"),
            ("fpmd run --listen 1 --workers 0 -- /w", "from 1 to"),
            ("fpmd run --listen 1 --dispatch shared -- /w", "'direct'"),
            ("fpmd run --listen 1 --env A -- /w", "NAME=VALUE"),
            ("fpmd dmeo", "'demo'"),
        ] {
            let text = parsed(line).unwrap_err().text();
            assert!(text.contains(named), "{line}: {text}");
        }
    }
}
