//! The bodies of fixed form: BEGIN_REQUEST, END_REQUEST, UNKNOWN_TYPE (FastCGI 1.0, sections 4.2, 5.1 and 5.5).

use super::record::{RecordError, RecordType};

/// All three are this long.
const BODY_LENGTH: usize = 8;

/// The only flag: the web server closes the connection, and may use it again before.
const KEEP_CONN: u8 = 1;

/// What the application is to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Answer it, as a CGI program does.
    Responder,
    /// Say whether it is allowed.
    Authorizer,
    /// Answer it from the file in DATA.
    Filter,
    /// Not in the specification: 0, or 4 and more. Never made with the number of another variant.
    Other(u16),
}

impl Role {
    /// From the number in a BEGIN_REQUEST body.
    pub fn from_wire(number: u16) -> Role {
        match number {
            1 => Role::Responder,
            2 => Role::Authorizer,
            3 => Role::Filter,
            other => Role::Other(other),
        }
    }

    /// The number in a BEGIN_REQUEST body.
    pub fn to_wire(self) -> u16 {
        match self {
            Role::Responder => 1,
            Role::Authorizer => 2,
            Role::Filter => 3,
            Role::Other(other) => other,
        }
    }
}

/// Who closes the connection after the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Connection {
    /// The application.
    Close,
    /// The web server, which may send more requests before.
    Keep,
}

/// The body of BEGIN_REQUEST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeginRequest {
    /// What the application is to do.
    pub role: Role,
    /// Who closes the connection.
    pub connection: Connection,
}

impl BeginRequest {
    /// Flags that the specification does not know are ignored.
    ///
    /// # Errors
    /// The body is not 8 bytes long.
    pub fn decode(body: &[u8]) -> Result<BeginRequest, RecordError> {
        let [role_high, role_low, flags, ..] = exactly(RecordType::BeginRequest, body)?;
        let connection = if flags & KEEP_CONN == 0 { Connection::Close } else { Connection::Keep };
        Ok(BeginRequest { role: Role::from_wire(u16::from_be_bytes([role_high, role_low])), connection })
    }

    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; BODY_LENGTH] {
        let [role_high, role_low] = self.role.to_wire().to_be_bytes();
        let flags = match self.connection {
            Connection::Close => 0,
            Connection::Keep => KEEP_CONN,
        };
        [role_high, role_low, flags, 0, 0, 0, 0, 0]
    }
}

/// What became of a request, as far as the protocol goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolStatus {
    /// It was processed.
    RequestComplete,
    /// Refused: the application serves one request a connection at a time.
    CantMultiplex,
    /// Refused: the application is out of some resource.
    Overloaded,
    /// Refused: the application does not know the role.
    UnknownRole,
    /// Not in the specification: 4 to 255. Never made with the number of another variant.
    Other(u8),
}

impl ProtocolStatus {
    /// From the number in an END_REQUEST body.
    pub fn from_wire(number: u8) -> ProtocolStatus {
        match number {
            0 => ProtocolStatus::RequestComplete,
            1 => ProtocolStatus::CantMultiplex,
            2 => ProtocolStatus::Overloaded,
            3 => ProtocolStatus::UnknownRole,
            other => ProtocolStatus::Other(other),
        }
    }

    /// The number in an END_REQUEST body.
    pub fn to_wire(self) -> u8 {
        match self {
            ProtocolStatus::RequestComplete => 0,
            ProtocolStatus::CantMultiplex => 1,
            ProtocolStatus::Overloaded => 2,
            ProtocolStatus::UnknownRole => 3,
            ProtocolStatus::Other(other) => other,
        }
    }
}

/// The body of END_REQUEST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndRequest {
    /// What a CGI program would exit with.
    pub app_status: u32,
    /// What became of the request.
    pub protocol_status: ProtocolStatus,
}

impl EndRequest {
    /// # Errors
    /// The body is not 8 bytes long.
    pub fn decode(body: &[u8]) -> Result<EndRequest, RecordError> {
        let [a, b, c, d, status, ..] = exactly(RecordType::EndRequest, body)?;
        Ok(EndRequest {
            app_status: u32::from_be_bytes([a, b, c, d]),
            protocol_status: ProtocolStatus::from_wire(status),
        })
    }

    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; BODY_LENGTH] {
        let [a, b, c, d] = self.app_status.to_be_bytes();
        [a, b, c, d, self.protocol_status.to_wire(), 0, 0, 0]
    }
}

/// The body of UNKNOWN_TYPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownType {
    /// The type that was not known.
    pub kind: RecordType,
}

impl UnknownType {
    /// # Errors
    /// The body is not 8 bytes long.
    pub fn decode(body: &[u8]) -> Result<UnknownType, RecordError> {
        let [kind, ..] = exactly(RecordType::UnknownType, body)?;
        Ok(UnknownType { kind: RecordType::from_wire(kind) })
    }

    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; BODY_LENGTH] {
        [self.kind.to_wire(), 0, 0, 0, 0, 0, 0, 0]
    }
}

fn exactly(kind: RecordType, body: &[u8]) -> Result<[u8; BODY_LENGTH], RecordError> {
    body.try_into().map_err(|_| RecordError::BodyLength(kind, body.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bodies_are_laid_out_as_specified() {
        let begin = BeginRequest { role: Role::Filter, connection: Connection::Keep };
        assert_eq!(begin.encode(), [0, 3, 1, 0, 0, 0, 0, 0]);
        let end = EndRequest { app_status: 0x0102_0304, protocol_status: ProtocolStatus::UnknownRole };
        assert_eq!(end.encode(), [1, 2, 3, 4, 3, 0, 0, 0]);
    }

    #[test]
    fn another_length_is_an_error() {
        for length in [0, 7, 9] {
            let body = vec![0; length];
            assert_eq!(
                BeginRequest::decode(&body),
                Err(RecordError::BodyLength(RecordType::BeginRequest, length))
            );
            assert!(EndRequest::decode(&body).is_err());
            assert!(UnknownType::decode(&body).is_err());
        }
    }

    #[test]
    fn unknown_flags_are_ignored() {
        let begin = BeginRequest::decode(&[0, 1, 0xfe, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(begin.connection, Connection::Close);
    }

    proptest! {
        #[test]
        fn bodies_survive_the_wire(role: u16, keep: bool, app_status: u32, status: u8, kind: u8) {
            let connection = if keep { Connection::Keep } else { Connection::Close };
            let begin = BeginRequest { role: Role::from_wire(role), connection };
            prop_assert_eq!(BeginRequest::decode(&begin.encode()), Ok(begin));
            let end = EndRequest { app_status, protocol_status: ProtocolStatus::from_wire(status) };
            prop_assert_eq!(EndRequest::decode(&end.encode()), Ok(end));
            let unknown = UnknownType { kind: RecordType::from_wire(kind) };
            prop_assert_eq!(UnknownType::decode(&unknown.encode()), Ok(unknown));
        }
    }
}
