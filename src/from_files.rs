//! A value made of files, with the digest of what the files held: the same content gives the same value, not a second one.

use std::sync::Arc;

/// A value made of files. The next snapshot keeps this very value while the files hold the same content: the tickets of a TLS
/// configuration, for example, stay good.
#[derive(Debug)]
pub struct FromFiles<T> {
    /// The value.
    pub value: Arc<T>,
    /// SHA-256 of the content of the files.
    pub digest: [u8; 32],
}

impl<T> Clone for FromFiles<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), digest: self.digest }
    }
}
