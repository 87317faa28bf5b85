//! The access log: one line a request, in php-fpm's format letters or as JSON. Owns what a line says and how foreign text in
//! it is escaped, so that no line and no field can be forged; writes no file. php-fpm's manual, `access.format`.

mod json;
mod letters;
mod value;

use std::net::IpAddr;
use std::time::Duration;

use self::letters::Piece;
use super::stamp::Stamp;
use crate::ids::{Generation, Pid, SlotId};

/// No line is longer, bytes, its newline included; no value in it is longer than 2,048 with its escapes. What is longer is
/// cut and ends in `...`; a line of JSON is cut in its values only and stays JSON.
pub const MAX_LINE: usize = 16 * 1024;

/// One request that is over. Texts may be any bytes; an empty one is logged as `-`, an empty query as nothing.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// The pool's name.
    pub pool: &'a str,
    /// The worker's process, where a worker had it.
    pub pid: Option<Pid>,
    /// fpmd's own process.
    pub master: Pid,
    /// The worker's slot.
    pub slot: Option<SlotId>,
    /// The worker's generation.
    pub generation: Option<Generation>,
    /// Who sent it, over TCP: the web server.
    pub peer: Option<IpAddr>,
    /// REQUEST_METHOD.
    pub method: &'a [u8],
    /// REQUEST_URI, else SCRIPT_NAME; the part before its query is logged.
    pub uri: &'a [u8],
    /// QUERY_STRING.
    pub query: &'a [u8],
    /// SCRIPT_FILENAME.
    pub script: &'a [u8],
    /// REMOTE_USER.
    pub user: &'a [u8],
    /// CONTENT_LENGTH, 0 where it was not given.
    pub content_length: u64,
    /// Any other parameter, by its name.
    pub param: &'a dyn Fn(&str) -> Option<&'a [u8]>,
    /// The head of the response as the worker wrote it, as far as it is known.
    pub head: &'a [u8],
    /// The response's status; 0, logged as `000`, where there was no response.
    pub status: u16,
    /// How it ended, in one word of letters and hyphens: `answered`, `timed-out`.
    pub outcome: &'a str,
    /// When it began to arrive.
    pub start: Stamp,
    /// When it ended.
    pub end: Stamp,
    /// How long its worker had it.
    pub duration: Duration,
    /// How long it had waited for that worker, or for none.
    pub queue_wait: Duration,
    /// Bytes of its body that arrived.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// How often it was given to another worker.
    pub retries: u32,
    /// What it cost its worker, where `Format::wants_usage` asked and the kernel told.
    pub usage: Option<Usage>,
}

/// What a request cost its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in the program.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// The most memory that the process had, bytes.
    pub memory: u64,
}

/// What a line looks like: read once, used for every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Json,
    Letters(Vec<Piece>),
}

impl Format {
    /// Reads `json`, or php-fpm's letters and ours:
    ///
    /// | | |
    /// |-|-|
    /// | `%%` | a percent sign |
    /// | `%C` | CPU time as a share of the duration, percent; `%{user}C`, `%{system}C`, `%{total}C` |
    /// | `%d` | duration in seconds, from the dispatch to the end; `%{milliseconds}d`, `%{microseconds}d`, also `milli`, `micro` |
    /// | `%{NAME}e` | a FastCGI parameter |
    /// | `%f` `%l` `%m` `%n` `%u` | script file, content length, method, pool, user |
    /// | `%M` | peak memory in bytes; `%{kilobytes}M`, `%{megabytes}M`, also `kilo`, `mega` |
    /// | `%{Name}o` | a header of the response, in any case |
    /// | `%p` `%P` | pid of the worker and of fpmd |
    /// | `%r` `%Q` `%q` | URI without its query, `?` if there is a query, the query |
    /// | `%R` | address of the web server, `-` on a Unix socket |
    /// | `%s` | status |
    /// | `%t` `%T` | time of the start and of the end; `%{%Y-%m-%d}t` as strftime(3) |
    /// | `%w` | wait for a worker, as `%d` (ours, like all below) |
    /// | `%I` `%O` | bytes of the bodies of request and response |
    /// | `%y` `%x` | how often it was retried, how it ended |
    /// | `%S` `%g` | slot and generation of the worker |
    ///
    /// # Errors
    /// A sentence that says what is wrong with which letter.
    pub fn parse(text: &str) -> Result<Format, String> {
        match text {
            "json" => Ok(Format(Form::Json)),
            letters => letters::parse(letters).map(|pieces| Format(Form::Letters(pieces))),
        }
    }

    /// The names of the parameters that `Entry::param` will be asked for.
    pub fn wanted_params(&self) -> impl Iterator<Item = &str> {
        self.pieces().iter().filter_map(Piece::param)
    }

    /// The names of the response headers that will be looked for in `Entry::head`.
    pub fn wanted_headers(&self) -> impl Iterator<Item = &str> {
        self.pieces().iter().filter_map(Piece::header)
    }

    /// Whether `Entry::usage` is worth its price.
    pub fn wants_usage(&self) -> bool {
        self.pieces().iter().any(Piece::is_usage)
    }

    /// Appends the line and its newline.
    pub fn write(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        match &self.0 {
            Form::Json => json::write(entry, out),
            Form::Letters(pieces) => {
                pieces.iter().for_each(|piece| value::write(piece, entry, out));
                if out.len() - start >= MAX_LINE {
                    out.truncate(start + MAX_LINE - 4);
                    out.extend_from_slice(b"...");
                }
            }
        }
        out.push(b'\n');
    }

    fn pieces(&self) -> &[Piece] {
        match &self.0 {
            Form::Json => &[],
            Form::Letters(pieces) => pieces,
        }
    }
}

#[cfg(test)]
mod tests;
