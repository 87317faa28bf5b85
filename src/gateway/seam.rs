//! Where the data path ends and others begin: who writes down what became of requests, and who renders pages. The data path
//! calls these and knows nothing of formats; they know nothing of sockets.

use std::fs::File;

use super::finished::{Finished, Slow, View, Wants, WorkerName};
use super::params::Params;
use crate::ids::Moment;
use crate::wire::gateway::{Settings, Sight};

/// The log files that the master opened.
#[derive(Debug, Default)]
pub struct LogFiles {
    /// The access log.
    pub access: Option<File>,
    /// The slow log.
    pub slow: Option<File>,
}

/// Writes down what became of requests. Never waits.
pub trait Journal {
    /// New settings, or new files after a rotation; what is not among them is written no more.
    fn configure(&mut self, settings: &Settings, files: LogFiles);
    /// What its formats need.
    fn wants(&self) -> Wants;
    /// A request is over: called exactly once for each.
    fn finished(&mut self, request: &Finished<'_>);
    /// A request is slow: called at most once for each. The number with which the master is to be asked what the worker is
    /// doing, if that is wanted.
    fn slow(&mut self, request: &Slow<'_>) -> Option<u64>;
    /// The master's answer.
    fn seen(&mut self, number: u64, sight: &Sight);
    /// A worker has said this into FCGI_STDERR, and settings ask to log that.
    fn stderr(&mut self, worker: WorkerName, content: &[u8], now: Moment);
    /// Nothing else is to do for the moment: what was held back may be written.
    fn flush(&mut self);
}

/// Answers requests for the pool's own pages.
pub trait Pages {
    /// Whether this request is for one of them. Called for every request.
    fn answers(&self, settings: &Settings, params: &Params) -> bool;
    /// Appends the page as a CGI response, head and body.
    fn page(&self, params: &Params, view: &View<'_>, out: &mut Vec<u8>);
}

/// Both.
pub struct Seams {
    /// Who writes down.
    pub journal: Box<dyn Journal>,
    /// Who renders.
    pub pages: Box<dyn Pages>,
}
