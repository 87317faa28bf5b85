//! What a readiness event is about, packed into the one number that epoll(7) carries for us.

use serde::{Deserialize, Serialize};

use crate::ids::WorkerId;

/// A source of readiness events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Token {
    /// The signal pipe.
    Signals,
    /// The listening control socket.
    Control,
    /// A control client, by its number over the daemon's life.
    Client(u64),
    /// The pipe on which a starting worker reports a failed step.
    Report(WorkerId),
    /// A worker's standard output.
    Stdout(WorkerId),
    /// A worker's standard error.
    Stderr(WorkerId),
    /// The master's end of the messages with a gateway, by the number of its process over the daemon's life.
    Gateway(u64),
    /// What a gateway logs.
    GatewayLog(u64),
    /// A listening socket of a pool without a gateway, by its number over the daemon's life.
    Listener(u64),
}

/// The low bits say which kind, the rest is the number.
const KIND_BITS: u32 = 4;

impl Token {
    /// The number for epoll. Numbers above 2^60 would lose bits; at a million starts a second that is 36,000 years.
    pub fn encode(self) -> mio::Token {
        let (kind, number) = match self {
            Token::Signals => (0, 0),
            Token::Control => (1, 0),
            Token::Client(number) => (2, number),
            Token::Report(worker) => (3, worker.0),
            Token::Stdout(worker) => (4, worker.0),
            Token::Stderr(worker) => (5, worker.0),
            Token::Gateway(number) => (6, number),
            Token::GatewayLog(number) => (7, number),
            Token::Listener(number) => (8, number),
        };
        mio::Token((number << KIND_BITS) as usize | kind)
    }

    /// The inverse of `encode`; `None` for a number that it never makes.
    pub fn decode(token: mio::Token) -> Option<Token> {
        let number = token.0 as u64 >> KIND_BITS;
        match token.0 & ((1 << KIND_BITS) - 1) {
            0 if number == 0 => Some(Token::Signals),
            1 if number == 0 => Some(Token::Control),
            2 => Some(Token::Client(number)),
            3 => Some(Token::Report(WorkerId(number))),
            4 => Some(Token::Stdout(WorkerId(number))),
            5 => Some(Token::Stderr(WorkerId(number))),
            6 => Some(Token::Gateway(number)),
            7 => Some(Token::GatewayLog(number)),
            8 => Some(Token::Listener(number)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_the_kernel() {
        let worker = WorkerId(987_654_321);
        let tokens = [
            Token::Signals,
            Token::Control,
            Token::Client(0),
            Token::Client(u64::MAX >> KIND_BITS),
            Token::Report(worker),
            Token::Stdout(worker),
            Token::Stderr(worker),
            Token::Gateway(7),
            Token::GatewayLog(7),
            Token::Listener(7),
        ];
        for token in tokens {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
    }

    #[test]
    fn foreign_numbers_are_not_tokens() {
        for raw in [9, 15, 16, 17] {
            assert_eq!(Token::decode(mio::Token(raw)), None, "{raw}");
        }
    }
}
