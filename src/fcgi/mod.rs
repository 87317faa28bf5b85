//! The FastCGI protocol without I/O (FastCGI specification 1.0), and the CGI response head inside it (RFC 3875).
//! Decoding borrows from the caller's buffer, encoding appends to the caller's buffer; every length that a peer names
//! is checked before anything is kept, so hostile input costs an error and no memory.
#![forbid(unsafe_code)]

pub mod body;
pub mod decode;
pub mod encode;
pub mod pairs;
pub mod record;
pub mod response;
pub mod session;
