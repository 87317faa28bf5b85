//! fpmctl, the control program: from its command line to one question, and from the reply to what it prints. Ctrl-C ends
//! fpmctl only; what fpmd was asked for goes on.
#![forbid(unsafe_code)]

pub mod answer;
mod check;
mod complete;
pub mod connection;
pub mod import;
pub mod request;
mod send;
mod target;

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::complete::Program;
use crate::cli::exit::Ctl;
use crate::cli::fpmctl::{self, Action, Form, Invocation};
use crate::cli::import::Import;
use crate::cli::output::{complain, print};
use crate::cli::request::Request;
use crate::cli::terminal::{ColorChoice, Reader, stderr_reader, stdout_colours, stdout_reader};
use crate::config::Host;
use crate::ids::PoolName;
use crate::os::host::Machine;
use crate::os::terminal;
use crate::status::text::{Colours, Detail, Style, harmless};
use crate::wire::control::{Command, Extent, Reply};
use crate::wire::place;
use answer::{Answer, Look, Picture};
use connection::{Failure, Patience, ask};

const PROGRAM: &str = "fpmctl";

/// How long fpmd may think about what it answers from what it knows.
const QUICK: Patience = Patience::Silence(Duration::from_secs(10));

/// fpmctl from its first argument (its name) to its exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match fpmctl::parse(args) {
        Ok(invocation) => finish(&perform(invocation)).into(),
        Err(ended) => ended.report(),
    }
}

fn finish(answer: &Answer) -> Ctl {
    let printed = print(&answer.stdout);
    for sentence in &answer.stderr {
        complain(PROGRAM, sentence);
    }
    match printed {
        Ok(()) => answer.exit,
        Err(error) => {
            complain(PROGRAM, &format_args!("cannot write standard output: {error}"));
            Ctl::Refused
        }
    }
}

fn perform(Invocation { socket, form, action }: Invocation) -> Answer {
    let socket = socket.unwrap_or_else(default_socket);
    let look = look(form);
    match task(action) {
        Task::Ask(command, patience) => match converse(&socket, command, patience) {
            Ok(reply) => Answer::of_reply(reply, look),
            Err(failure) => unanswered(&failure, look),
        },
        Task::Draw(pool, picture) => match converse(&socket, Command::Status { pool }, QUICK) {
            Ok(reply) => Answer::of_picture(reply, picture, look),
            Err(failure) => unanswered(&failure, look),
        },
        Task::Check(file) => check::check(&file, look),
        Task::Send(request) => send::send(request, &socket, look),
        Task::Import(what) => import::import(&what, look),
        Task::Print(text) => Answer::done(text, look),
        Task::Complete(program, words) => complete::complete(program, &words, &socket),
    }
}

fn unanswered(failure: &Failure, look: Look) -> Answer {
    Answer::failed(Ctl::Unreachable, &failure.to_string(), look)
}

/// What has to be done for an action.
enum Task {
    /// Ask fpmd, and print what it says.
    Ask(Command, Patience),
    /// Ask fpmd for its state, of one pool or of all, and draw it.
    Draw(Option<PoolName>, Picture),
    /// Test a configuration file.
    Check(PathBuf),
    /// Send a FastCGI request.
    Send(Request),
    /// Translate another program's configuration.
    Import(Import),
    /// Print a text.
    Print(&'static str),
    /// Say which words fit.
    Complete(Program, Vec<String>),
}

fn task(action: Action) -> Task {
    use Patience::WhileConnected;
    use Task::{Ask, Check, Draw, Send};
    match action {
        Action::Status { pool, full } => {
            let detail = if full || pool.is_some() { Detail::Workers } else { Detail::Pools };
            Draw(pool, Picture::Status(detail))
        }
        Action::List => Draw(None, Picture::List),
        Action::Health { pool } => Ask(Command::Health { pool }, QUICK),
        Action::Dump => Ask(Command::Dump, QUICK),
        Action::Reopen => Ask(Command::Reopen, QUICK),
        Action::Reload { pools, changed } => {
            let extent = if changed { Extent::Changed } else { Extent::Every };
            Ask(Command::Reload { pools, extent }, WhileConnected)
        }
        Action::Start { pool } => Ask(Command::Start { pool }, WhileConnected),
        Action::Stop { pool } => Ask(Command::Stop { pool }, WhileConnected),
        Action::Restart { pool } => Ask(Command::Restart { pool }, WhileConnected),
        Action::Scale { pool, workers } => Ask(Command::Scale { pool, workers }, WhileConnected),
        Action::Drain { pid } => Ask(Command::Drain { pid }, WhileConnected),
        Action::Kill { pid } => Ask(Command::Kill { pid }, WhileConnected),
        Action::Upgrade => Ask(Command::Upgrade, WhileConnected),
        Action::Check { file } => Check(file),
        Action::Request(request) => Send(request),
        Action::Import(what) => Task::Import(what),
        Action::Completions { shell } => Task::Print(shell.script()),
        Action::Complete { program, words } => Task::Complete(program, words),
    }
}

/// Asks fpmd; a person at the terminal sees how far it is.
fn converse(socket: &Path, command: Command, patience: Patience) -> Result<Reply, Failure> {
    let reader = stderr_reader();
    let mut progress = |sentence: &str| match reader {
        Reader::Person => complain(PROGRAM, &harmless(sentence)),
        Reader::Program => {}
    };
    ask(socket, command, patience, &mut progress)
}

/// Where an fpmd listens whose configuration does not say, if the same user started it.
fn default_socket() -> PathBuf {
    place::control_socket(&Machine.default_runtime_dir())
}

fn look(form: Form) -> Look {
    match form {
        Form::Json => Look::Json,
        Form::Text(choice) => Look::Text(style(choice)),
    }
}

fn style(choice: ColorChoice) -> Style {
    let colours = if stdout_colours(choice) { Colours::On } else { Colours::Off };
    let width = match stdout_reader() {
        Reader::Person => terminal::width(std::io::stdout().as_fd()),
        Reader::Program => None,
    };
    Style { colours, width }
}
