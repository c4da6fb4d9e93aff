//! The tokens of the other side in one exchange.
//!
//! What always holds here: a token that is too long, or one too many, never reaches the library, for the calls of `gss` take counted tokens only,
//! and nothing else makes one.

use super::{MAX_TOKEN_BYTES, Refusal};

/// Tokens of one side in one exchange. An honest one has three, four at most.
const MAX_STEPS: u32 = 6;

/// How many there were.
#[derive(Debug, Default)]
pub(super) struct Tokens(u32);

/// A token that was let through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted<'a>(&'a [u8]);

impl Tokens {
    /// Lets a token through, unless it is too long or one too many.
    pub fn count<'a>(&mut self, token: &'a [u8]) -> Result<Counted<'a>, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLong(token.len()));
        }
        self.0 += 1;
        match self.0 > MAX_STEPS {
            true => Err(Refusal::Malformed("it has more steps than any honest one")),
            false => Ok(Counted(token)),
        }
    }
}

impl<'a> Counted<'a> {
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_too_long_or_one_too_many_is_not_let_through() {
        let (longest, longer) = (vec![0; MAX_TOKEN_BYTES], vec![0; MAX_TOKEN_BYTES + 1]);
        let mut tokens = Tokens::default();
        assert_eq!(tokens.count(&longer).unwrap_err(), Refusal::TooLong(MAX_TOKEN_BYTES + 1));
        for _ in 0..MAX_STEPS {
            assert_eq!(tokens.count(&longest).unwrap().bytes(), longest);
        }
        assert!(matches!(tokens.count(b""), Err(Refusal::Malformed(_))));
    }
}
