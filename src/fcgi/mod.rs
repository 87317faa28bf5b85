//! FastCGI records, name-value pairs, decoder and encoder (FastCGI specification 1.0).
#![forbid(unsafe_code)]
