//! The body of a request: text from the command line, a file, or standard input. Its length is known before it is sent,
//! since CONTENT_LENGTH comes first.

use std::fs::File;
use std::io::{self, Read};

use super::Cause;
use crate::cli::request::Data;

/// A body that is sent piece by piece.
pub struct Body {
    source: Source,
    /// For messages.
    name: String,
    length: Option<u64>,
    left: u64,
}

enum Source {
    Memory(io::Cursor<Vec<u8>>),
    File(File),
}

impl Body {
    /// Opens what `data` names. What is no regular file has no length, so it is read to its end first.
    pub fn open(data: Option<&Data>) -> Result<Body, Cause> {
        let (source, name) = match data {
            None => {
                let source = Source::Memory(io::Cursor::default());
                return Ok(Body { source, name: String::new(), length: None, left: 0 });
            }
            Some(Data::Text(text)) => (Ok(memory(text.clone().into_bytes())), "the data".to_owned()),
            Some(Data::File(path)) => (File::open(path).and_then(file), format!("'{}'", path.display())),
            Some(Data::Stdin) => (read_to_end(io::stdin().lock()), "standard input".to_owned()),
        };
        match source {
            Ok((source, length)) => Ok(Body { source, name, length: Some(length), left: length }),
            Err(error) => Err(Cause::Body { name, error }),
        }
    }

    /// Bytes of the whole body; `None` where there is none.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether everything is read.
    pub fn is_at_end(&self) -> bool {
        self.left == 0
    }

    /// Reads the next bytes into `buffer`; 0 at the end. A file that grew is cut at the length that was announced.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Cause> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = match &mut self.source {
            Source::Memory(bytes) => bytes.read(&mut buffer[..most]),
            Source::File(file) => read_file(file, &mut buffer[..most]),
        };
        let length = read.map_err(|error| Cause::Body { name: self.name.clone(), error })?;
        self.left -= length as u64;
        Ok(length)
    }
}

fn memory(bytes: Vec<u8>) -> (Source, u64) {
    let length = bytes.len() as u64;
    (Source::Memory(io::Cursor::new(bytes)), length)
}

fn file(file: File) -> io::Result<(Source, u64)> {
    let data = file.metadata()?;
    if data.is_file() {
        return Ok((Source::File(file), data.len()));
    }
    read_to_end(file)
}

fn read_to_end(mut input: impl Read) -> io::Result<(Source, u64)> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    Ok(memory(bytes))
}

/// A file that became shorter than its announced length cannot be sent any more.
fn read_file(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) if !buffer.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            other => return other,
        }
    }
}
