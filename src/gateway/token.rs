//! What the event loop calls whatever it watches: a kind and a key in one number. Pure.

use super::slab::Key;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// The master.
    Channel,
    /// A listening socket, by its place in `doors`.
    Door(usize),
    /// A client.
    Client(Key),
    /// A connection to a worker.
    Upstream(Key),
    /// A warm-up request.
    Warming(Key),
}

impl Token {
    /// As the event loop carries it.
    pub fn encode(self) -> mio::Token {
        let (kind, number) = match self {
            Token::Channel => (0, 0),
            // A key is never so large that this could be too much.
            Token::Warming(key) => (0, key.pack() + 1),
            Token::Door(index) => (1, index as u64),
            Token::Client(key) => (2, key.pack()),
            Token::Upstream(key) => (3, key.pack()),
        };
        mio::Token((number << 2 | kind) as usize)
    }

    /// The inverse of `encode`.
    pub fn decode(token: mio::Token) -> Token {
        let number = token.0 as u64 >> 2;
        match token.0 & 3 {
            0 => number.checked_sub(1).map_or(Token::Channel, |key| Token::Warming(Key::unpack(key))),
            1 => Token::Door(number as usize),
            2 => Token::Client(Key::unpack(number)),
            _ => Token::Upstream(Key::unpack(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::slab::Slab;

    #[test]
    fn tokens_survive_the_kernel() {
        let mut slab = Slab::new();
        slab.insert(());
        let key = slab.insert(());
        slab.remove(key);
        let key = slab.insert(());
        for token in
            [Token::Channel, Token::Door(7), Token::Client(key), Token::Upstream(key), Token::Warming(key)]
        {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
