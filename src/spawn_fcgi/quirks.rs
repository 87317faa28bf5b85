//! Where we leave Debian's spawn-fcgi 1.6.4: every fault of the original that is mended here, and nothing else. The man page has the
//! same table under DIFFERENCES, and `tests/compat` shows each difference on both programs.

/// Where a quirk is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Both programs run the same command line in `tests/compat`.
    Compared,
    /// It is about an option that the original has not.
    OursOnly,
}

/// One fault and what became of it.
#[derive(Debug, Clone, Copy)]
pub struct Quirk {
    /// A short name.
    pub name: &'static str,
    /// What the original does.
    pub original: &'static str,
    /// What we do.
    pub ours: &'static str,
    /// Why that cannot surprise anybody.
    pub why: &'static str,
    /// Where it is shown.
    pub shown: Where,
}

const fn mended(name: &'static str, original: &'static str, ours: &'static str, why: &'static str) -> Quirk {
    Quirk { name, original, ours, why, shown: Where::Compared }
}

/// All of them.
pub const QUIRKS: &[Quirk] = &[
    mended(
        "watch-all",
        "Of several processes (-F) only the first is watched for 100 ms; the others count as started at once.",
        "All of them are watched for the same 100 ms.",
        "It takes no longer, and a start that failed is reported as one.",
    ),
    mended(
        "dead-pids",
        "The PID file names processes that are already dead, and may end in a newline.",
        "The PID file names those that live after 100 ms, without a newline at the end.",
        "A script that kills what the file names does not hit a stranger.",
    ),
    mended(
        "usage-status",
        "An unknown option, or one without its argument, ends with status 0.",
        "It ends with status 255, as every other wrong command line does.",
        "Nothing was started, so nothing relied on the 0; what is printed is the same.",
    ),
    mended(
        "fork-status",
        "A process that could not be forked leaves the status at 0.",
        "It makes the status 255.",
        "The message is the same, and the caller learns that a process is missing.",
    ),
    mended(
        "pid-file-kept",
        "The PID file is emptied before the socket is bound, so that a second start by mistake loses the pids of the first.",
        "It is opened at the same point and emptied only when new pids are written.",
        "After a successful start, and after one whose processes died, the file is the same.",
    ),
    mended(
        "leaked-descriptors",
        "Descriptors that the caller left open are closed in the application only up to the first gap, and none if /dev/null cannot be opened.",
        "All of them are closed; with -n all are inherited, as in the original.",
        "Which of them leaked depended on their numbers alone.",
    ),
    mended(
        "closed-descriptors",
        "With -n, a standard output or error that the caller closed stays closed, and the first connection takes its number.",
        "It is /dev/null.",
        "What an application prints does not end up in a client's connection.",
    ),
    mended(
        "busy-owner",
        "If somebody listens on the socket's path and its queue is full, the program hangs.",
        "It says that the socket is in use, as for any other owner.",
        "It is the answer of the original to the same owner in a quiet moment.",
    ),
    mended(
        "child-signal",
        "Started with SIGCHLD ignored, it does not notice that the application died, prints nothing and ends with status 0.",
        "It notices and reports; the application inherits the ignored signal all the same.",
        "The outcome does not depend on who called.",
    ),
    Quirk {
        name: "supervise-pid",
        original: "There is no --supervise.",
        ours: "With --supervise the PID file has one pid, fpmd's, and a newline; fpmd removes it when it ends.",
        why: "That process stays the same when applications are replaced, and it passes a signal on.",
        shown: Where::OursOnly,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_sentences_are_sentences() {
        for (at, quirk) in QUIRKS.iter().enumerate() {
            assert!(QUIRKS[..at].iter().all(|other| other.name != quirk.name), "{}", quirk.name);
            for sentence in [quirk.original, quirk.ours, quirk.why] {
                assert!(sentence.ends_with('.'), "{}: {sentence}", quirk.name);
            }
        }
    }
}
