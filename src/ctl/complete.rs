//! `fpmctl complete`, which the shells' scripts ask: the words that fit, with names of pools and workers from a running fpmd. An
//! fpmd that does not answer at once has none.

use std::path::Path;
use std::time::Duration;

use super::answer::Answer;
use super::connection::{Patience, ask};
use crate::cli::complete::{Fitting, More, Program, Word, fitting};
use crate::cli::exit::Ctl;
use crate::status::snapshot::Snapshot;
use crate::status::text::harmless;
use crate::wire::control::{Command, Reply};

/// Longer than that nobody waits for a key.
const MOMENT: Patience = Patience::Silence(Duration::from_millis(500));

/// A first line that says what the shell may add, then a word a line with its help behind a tab.
pub fn complete(program: Program, words: &[String], default_socket: &Path) -> Answer {
    let Fitting { words: mut fitting, more, socket } = fitting(program, words);
    let typed = words.last().map_or("", String::as_str);
    let known = known(more, socket.as_deref().unwrap_or(default_socket));
    fitting.extend(known.into_iter().filter(|word| word.text.starts_with(typed)));
    let lines: String =
        fitting.iter().map(|word| format!("{}\t{}\n", harmless(&word.text), harmless(&word.help))).collect();
    Answer { stdout: format!("{}\n{lines}", more.word()), stderr: Vec::new(), exit: Ctl::Done }
}

fn known(more: More, socket: &Path) -> Vec<Word> {
    match more {
        More::Pools | More::PoolsAndFiles => pools(&snapshot(socket)),
        More::Workers => workers(&snapshot(socket)),
        More::Nothing | More::Files | More::Directories | More::Users | More::Groups => Vec::new(),
    }
}

fn snapshot(socket: &Path) -> Option<Snapshot> {
    match ask(socket, Command::Status { pool: None }, MOMENT, &mut |_| {}) {
        Ok(Reply::Status(snapshot)) => Some(*snapshot),
        Ok(Reply::Done(_) | Reply::Refused(_) | Reply::Progress(_)) | Err(_) => None,
    }
}

fn pools(snapshot: &Option<Snapshot>) -> Vec<Word> {
    let pools = snapshot.iter().flat_map(|snapshot| &snapshot.pools);
    pools.map(|pool| Word { text: pool.name.to_string(), help: pool.state.clone() }).collect()
}

fn workers(snapshot: &Option<Snapshot>) -> Vec<Word> {
    let pools = snapshot.iter().flat_map(|snapshot| &snapshot.pools);
    let workers = pools.flat_map(|pool| pool.workers.iter().map(move |worker| (pool, worker)));
    workers.map(|(pool, worker)| Word { text: worker.pid.to_string(), help: pool.name.to_string() }).collect()
}
