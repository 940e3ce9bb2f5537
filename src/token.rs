//! Bearer token that authorizes a request to the admin listener (`admin.token_file`). Only the digest is kept, so no log line
//! and no dump can contain the token.

use std::fmt;

use aws_lc_rs::constant_time;

use crate::digest::{Digest, sha256};

/// Minimum length: a shorter token can be guessed.
const MIN_LENGTH: usize = 16;
const MAX_LENGTH: usize = 4_096;

/// SHA-256 of a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Digest);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads the content of a file: one token, with or without a line break at its end.
    ///
    /// # Errors
    /// The reason for which the content is not a token.
    pub fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let token = bytes.trim_ascii();
        if token.len() < MIN_LENGTH {
            return Err("it has fewer than 16 characters, which can be tried out");
        }
        if token.len() > MAX_LENGTH {
            return Err("it is longer than 4096 characters");
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err("it has spaces or characters beyond ASCII in it, and could not be sent in a header");
        }
        Ok(Self(sha256(token)))
    }

    /// Returns a token that no text matches: no text with a SHA-256 of zeros is known.
    #[must_use]
    pub const fn unmatchable() -> Self {
        Self([0; 32])
    }

    /// Returns true if the text is this token. The comparison takes constant time (timing attacks).
    #[must_use]
    pub fn matches(&self, shown: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &sha256(shown)).is_ok()
    }

    /// Returns true if an `Authorization` header contains this token.
    #[must_use]
    pub fn authorizes(&self, authorization: &[u8]) -> bool {
        let (scheme, shown) = authorization.split_at_checked(7).unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"bearer ") && self.matches(shown.trim_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_authorizes() {
        let token = Token::read(b"0123456789abcdef\n").unwrap();
        assert!(token.matches(b"0123456789abcdef"));
        assert!(
            token.authorizes(b"Bearer 0123456789abcdef") && token.authorizes(b"bearer  0123456789abcdef")
        );
        for wrong in
            ["", "Bearer", "Bearer ", "Basic 0123456789abcdef", "Bearer 0123456789abcdeF", "0123456789abcdef"]
        {
            assert!(!token.authorizes(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn tokens_that_can_be_guessed_or_cannot_be_sent_are_refused() {
        let long = "x".repeat(5_000);
        for wrong in ["", "\n", "short", "with a space in it, long", "ümlaute sind lang genug", &long] {
            assert!(Token::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
