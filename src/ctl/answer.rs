//! From fpmd's reply to what fpmctl prints and how it ends. Decides, and prints nothing.

use serde::Serialize;

use crate::cli::exit::Ctl;
use crate::status::snapshot::{PoolSnapshot, Snapshot};
use crate::status::text::{Detail, Style, harmless};
use crate::status::{json, text};
use crate::wire::control::Reply;

/// What fpmctl prints and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whole lines, or nothing.
    pub stdout: String,
    /// Sentences, each to be a line after the program's name.
    pub stderr: Vec<String>,
    /// The exit code.
    pub exit: Ctl,
}

/// The form of the answer, with what it depends on already decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// For people.
    Text(Style),
    /// For programs.
    Json,
}

/// What is made of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// `status`.
    Status(Detail),
    /// `list`.
    List,
}

/// What `--json` prints where there is no snapshot to print.
#[derive(Serialize)]
struct Verdict<'a> {
    ok: bool,
    message: &'a str,
}

/// What `list --json` prints of a pool.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    state: &'a str,
}

impl Answer {
    /// It was done, and this is what there is to print.
    pub fn done(message: &str, look: Look) -> Answer {
        let stdout = match look {
            Look::Json => verdict(true, message),
            Look::Text(_) if message.is_empty() => String::new(),
            Look::Text(_) => format!("{}\n", message.trim_end_matches('\n')),
        };
        Answer { stdout, stderr: Vec::new(), exit: Ctl::Done }
    }

    /// It was not done; a line for each reason.
    pub fn failed(exit: Ctl, reasons: &str, look: Look) -> Answer {
        let stdout = match look {
            Look::Json => verdict(false, reasons),
            Look::Text(_) => String::new(),
        };
        Answer { stdout, stderr: reasons.lines().map(harmless).collect(), exit }
    }

    /// The answer to a question that has no picture.
    pub fn of_reply(reply: Reply, look: Look) -> Answer {
        match reply {
            Reply::Done(message) => Answer::done(&message, look),
            Reply::Refused(reasons) => Answer::failed(Ctl::Refused, &reasons, look),
            Reply::Progress(_) | Reply::Status(_) => Answer::beside_the_point(look),
        }
    }

    /// The answer to a question for the state.
    pub fn of_picture(reply: Reply, picture: Picture, look: Look) -> Answer {
        match reply {
            Reply::Status(snapshot) => {
                Answer { stdout: drawn(&snapshot, picture, look), stderr: Vec::new(), exit: Ctl::Done }
            }
            Reply::Refused(reasons) => Answer::failed(Ctl::Refused, &reasons, look),
            Reply::Progress(_) | Reply::Done(_) => Answer::beside_the_point(look),
        }
    }

    fn beside_the_point(look: Look) -> Answer {
        Answer::failed(Ctl::Unreachable, "cannot understand fpmd: it answered another question", look)
    }
}

fn drawn(snapshot: &Snapshot, picture: Picture, look: Look) -> String {
    match (picture, look) {
        (Picture::Status(detail), Look::Text(style)) => text::render(snapshot, detail, style),
        (Picture::Status(_), Look::Json) => json::render(snapshot),
        (Picture::List, Look::Text(style)) => text::list(snapshot, style),
        (Picture::List, Look::Json) => {
            let listed = |pool: &PoolSnapshot| line(&Listed { name: pool.name.as_str(), state: &pool.state });
            let pools: Vec<_> = snapshot.pools.iter().map(listed).collect();
            format!("[{}]\n", pools.join(",\n "))
        }
    }
}

fn verdict(ok: bool, message: &str) -> String {
    line(&Verdict { ok, message }) + "\n"
}

/// One line of JSON, without its newline, of a structure of text, numbers and truth.
pub(super) fn line<T: Serialize>(value: &T) -> String {
    // Nothing in such a structure can be refused.
    #[allow(clippy::expect_used)]
    serde_json::to_string(value).expect("an answer is plain data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::text::Colours;

    const TEXT: Look = Look::Text(Style { colours: Colours::Off, width: None });

    #[test]
    fn silence_is_success() {
        let answer = Answer::of_reply(Reply::Done(String::new()), TEXT);
        assert_eq!(answer, Answer { stdout: String::new(), stderr: vec![], exit: Ctl::Done });
    }

    #[test]
    fn each_reason_has_its_line_and_no_power_over_the_terminal() {
        let answer = Answer::of_reply(Reply::Refused("no pool 'x\x1b[2J'\nno pool 'y'\n".into()), TEXT);
        assert_eq!(answer.stderr, ["no pool 'x\u{fffd}[2J'", "no pool 'y'"]);
        assert_eq!((answer.stdout.as_str(), answer.exit), ("", Ctl::Refused));
    }

    #[test]
    fn programs_get_a_verdict() {
        let done = Answer::of_reply(Reply::Done("3 pools reloaded".into()), Look::Json);
        assert_eq!(done.stdout, "{\"ok\":true,\"message\":\"3 pools reloaded\"}\n");
        let refused = Answer::of_picture(Reply::Refused("no".into()), Picture::List, Look::Json);
        assert_eq!(refused.stdout, "{\"ok\":false,\"message\":\"no\"}\n");
        assert_eq!((refused.stderr.len(), refused.exit), (1, Ctl::Refused));
    }

    #[test]
    fn the_answer_to_another_question_is_no_success() {
        let answer = Answer::of_picture(Reply::Done("done".into()), Picture::List, TEXT);
        assert_eq!(answer.exit, Ctl::Unreachable);
        assert_eq!(Answer::of_reply(Reply::Progress("x".into()), TEXT).exit, Ctl::Unreachable);
    }
}
