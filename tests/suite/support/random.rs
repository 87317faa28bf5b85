//! Requests cut at random: records of every length and padding, written in pieces that know nothing of records.

use std::io;

pub use super::bytes::Random;
use super::fastcgi::{self, Address, Answer, BEGIN_REQUEST, PARAMS, STDIN};

/// How a request's streams are cut into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// What every worker takes: whole name-value pairs a record, content and padding together below 65,536 bytes, and no
    /// padding of an empty record, which php-cgi and libfcgi read as the next header.
    Tame,
    /// All that the specification allows.
    Wild,
}

/// One request, ready to be cut.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub script: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The request's records.
    pub fn records(&self, cut: Cut, random: &mut Random) -> Vec<u8> {
        let mut out = fastcgi::record(BEGIN_REQUEST, &[0, 1, 0, 0, 0, 0, 0, 0]);
        let pairs = fastcgi::pairs(self.script, self.method, self.path, self.body.len());
        match cut {
            Cut::Tame => pairs.iter().for_each(|pair| padded(&mut out, PARAMS, pair, random.below(9))),
            Cut::Wild => stream(&mut out, PARAMS, &pairs.concat(), 90, cut, random),
        }
        let padding = match cut {
            Cut::Tame => 0,
            Cut::Wild => random.below(256),
        };
        padded(&mut out, PARAMS, &[], padding);
        // Many small records of a small body, few of a large one: it is to be cut, not ground.
        stream(&mut out, STDIN, self.body, self.body.len().clamp(100, 65_535), cut, random);
        padded(&mut out, STDIN, &[], 0);
        out
    }

    /// Sends the request in pieces while it reads the answer.
    ///
    /// # Errors
    /// The connection's; an answer that was cut short is one. A request that is not read to its end is none.
    pub fn exchange(&self, address: &Address, cut: Cut, random: &mut Random) -> io::Result<Answer> {
        let records = self.records(cut, random);
        let mut reader = address.connect()?;
        let mut writer = reader.duplicate()?;
        let mut pieces = random.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut rest = &records[..];
                while !rest.is_empty() {
                    let most = if pieces.below(4) == 0 { 20 } else { records.len() / 3 + 1 };
                    let (piece, more) = rest.split_at((1 + pieces.below(most)).min(rest.len()));
                    // Whoever has answered need not read on.
                    if writer.send_raw(piece).is_err() {
                        break;
                    }
                    rest = more;
                }
            });
            let answer = reader.answer();
            // A writer may still wait for somebody to read.
            reader.end();
            answer
        })
    }
}

/// A stream without its end, in records of up to `most` bytes.
fn stream(out: &mut Vec<u8>, kind: u8, mut rest: &[u8], most: usize, cut: Cut, random: &mut Random) {
    while !rest.is_empty() {
        let length = (1 + random.below(most)).min(rest.len());
        let room = match cut {
            Cut::Tame => 65_535 - length,
            Cut::Wild => 255,
        };
        let padding = random.below(256).min(room);
        padded(out, kind, &rest[..length], padding);
        rest = &rest[length..];
    }
}

fn padded(out: &mut Vec<u8>, kind: u8, content: &[u8], padding: usize) {
    let head = out.len();
    out.extend(fastcgi::record(kind, content));
    out[head + 6] = u8::try_from(padding).unwrap();
    out.resize(out.len() + padding, 0xaa);
}
