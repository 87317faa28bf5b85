//! Record headers: types, request ids, lengths (FastCGI 1.0, sections 3.3 and 8). Bodies are `body`'s.

use std::fmt;

/// Bytes of a record header.
pub const HEADER_LENGTH: usize = 8;

/// The most content that the protocol can express, bytes.
pub const MAX_CONTENT: usize = 65_535;

/// The most content that we send in a record, bytes: php-cgi resets the connection when content and padding together
/// exceed 65,535, and this is the largest multiple of 8 below it.
pub const SAFE_CONTENT: usize = 65_528;

/// The only version of the protocol.
const VERSION: u8 = 1;

/// Numbers a request on its connection; 0 is for management records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u16);

impl RequestId {
    /// Of records that belong to no request.
    pub const MANAGEMENT: RequestId = RequestId(0);
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// Web server: a request begins.
    BeginRequest,
    /// Web server: nobody waits for this request any more.
    AbortRequest,
    /// Application: the request is done, or refused.
    EndRequest,
    /// Web server, stream: name-value pairs about the request.
    Params,
    /// Web server, stream: the request's body.
    Stdin,
    /// Application, stream: the CGI response.
    Stdout,
    /// Application, stream: error messages.
    Stderr,
    /// Web server, stream: the file of a Filter.
    Data,
    /// Web server, management: asks for values.
    GetValues,
    /// Application, management: the values.
    GetValuesResult,
    /// Application, management: a type that it does not know.
    UnknownType,
    /// Not in the specification: 0, or 12 to 255. Never made with the number of another variant.
    Other(u8),
}

impl RecordType {
    /// From the number in a header.
    pub fn from_wire(number: u8) -> RecordType {
        match number {
            1 => RecordType::BeginRequest,
            2 => RecordType::AbortRequest,
            3 => RecordType::EndRequest,
            4 => RecordType::Params,
            5 => RecordType::Stdin,
            6 => RecordType::Stdout,
            7 => RecordType::Stderr,
            8 => RecordType::Data,
            9 => RecordType::GetValues,
            10 => RecordType::GetValuesResult,
            11 => RecordType::UnknownType,
            other => RecordType::Other(other),
        }
    }

    /// The number in a header.
    pub fn to_wire(self) -> u8 {
        match self {
            RecordType::BeginRequest => 1,
            RecordType::AbortRequest => 2,
            RecordType::EndRequest => 3,
            RecordType::Params => 4,
            RecordType::Stdin => 5,
            RecordType::Stdout => 6,
            RecordType::Stderr => 7,
            RecordType::Data => 8,
            RecordType::GetValues => 9,
            RecordType::GetValuesResult => 10,
            RecordType::UnknownType => 11,
            RecordType::Other(other) => other,
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordType::BeginRequest => f.write_str("BEGIN_REQUEST"),
            RecordType::AbortRequest => f.write_str("ABORT_REQUEST"),
            RecordType::EndRequest => f.write_str("END_REQUEST"),
            RecordType::Params => f.write_str("PARAMS"),
            RecordType::Stdin => f.write_str("STDIN"),
            RecordType::Stdout => f.write_str("STDOUT"),
            RecordType::Stderr => f.write_str("STDERR"),
            RecordType::Data => f.write_str("DATA"),
            RecordType::GetValues => f.write_str("GET_VALUES"),
            RecordType::GetValuesResult => f.write_str("GET_VALUES_RESULT"),
            RecordType::UnknownType => f.write_str("UNKNOWN_TYPE"),
            RecordType::Other(number) => write!(f, "type {number}"),
        }
    }
}

/// The eight bytes before a record's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the record is.
    pub kind: RecordType,
    /// Which request it belongs to.
    pub request: RequestId,
    /// Bytes of content.
    pub content: u16,
    /// Bytes after the content that mean nothing.
    pub padding: u8,
}

impl Header {
    /// # Errors
    /// The version is not 1: whatever follows cannot be trusted to be FastCGI.
    pub fn decode(bytes: [u8; HEADER_LENGTH]) -> Result<Header, RecordError> {
        let [version, kind, id_high, id_low, content_high, content_low, padding, _reserved] = bytes;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        Ok(Header {
            kind: RecordType::from_wire(kind),
            request: RequestId(u16::from_be_bytes([id_high, id_low])),
            content: u16::from_be_bytes([content_high, content_low]),
            padding,
        })
    }

    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let [id_high, id_low] = self.request.0.to_be_bytes();
        let [content_high, content_low] = self.content.to_be_bytes();
        [VERSION, self.kind.to_wire(), id_high, id_low, content_high, content_low, self.padding, 0]
    }
}

/// A peer that does not speak FastCGI as specified. The connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordError {
    /// The version in a header, which must be 1.
    Version(u8),
    /// The body of this type must be 8 bytes, and has so many.
    BodyLength(RecordType, usize),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Version(version) => {
                write!(f, "cannot read a FastCGI record: its version is {version} instead of {VERSION}")
            }
            RecordError::BodyLength(kind, length) => {
                write!(f, "cannot read a FastCGI {kind} record: its body has {length} bytes instead of 8")
            }
        }
    }
}

impl std::error::Error for RecordError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_laid_out_as_specified() {
        let header =
            Header { kind: RecordType::Stdin, request: RequestId(0x0102), content: 0x0304, padding: 5 };
        assert_eq!(header.encode(), [1, 5, 1, 2, 3, 4, 5, 0]);
    }

    #[test]
    fn another_version_is_an_error() {
        let error = Header::decode([0; 8]).unwrap_err();
        assert_eq!(error.to_string(), "cannot read a FastCGI record: its version is 0 instead of 1");
    }

    #[test]
    fn every_type_survives_the_wire() {
        for number in 0..=255 {
            assert_eq!(RecordType::from_wire(number).to_wire(), number);
        }
    }

    proptest! {
        #[test]
        fn headers_survive_the_wire(kind: u8, request: u16, content: u16, padding: u8) {
            let kind = RecordType::from_wire(kind);
            let header = Header { kind, request: RequestId(request), content, padding };
            prop_assert_eq!(Header::decode(header.encode()), Ok(header));
        }
    }
}
