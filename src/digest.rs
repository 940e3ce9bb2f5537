//! SHA-256 digests, as arrays of 32 bytes.

use std::hash::{Hash, Hasher};

use aws_lc_rs::digest::{Context, SHA256, digest};

/// A SHA-256 digest.
pub(crate) type Digest = [u8; 32];

/// Returns the digest of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    to_array(digest(&SHA256, bytes).as_ref())
}

/// Returns the digest of a list. The length of each part is hashed as well, so that no two lists have the same digest.
pub(crate) fn sha256_of_parts<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Digest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    to_array(context.finish().as_ref())
}

/// Returns the digest of everything that a value passes to a [`Hasher`].
pub(crate) fn sha256_of_value(value: &(impl Hash + ?Sized)) -> Digest {
    let mut hasher = Sha256(Context::new(&SHA256));
    value.hash(&mut hasher);
    to_array(hasher.0.finish().as_ref())
}

/// SHA-256 has 32 bytes, so the default is never used.
fn to_array(bytes: &[u8]) -> Digest {
    bytes.first_chunk().copied().unwrap_or_default()
}

struct Sha256(Context);

impl Hasher for Sha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// [`sha256_of_value`] takes the whole digest and never this number.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_list_depends_on_where_its_parts_end() {
        assert_ne!(sha256_of_parts([&b"a"[..], b"bc"]), sha256_of_parts([&b"ab"[..], b"c"]));
        assert_eq!(sha256(b"")[..4], [0xe3, 0xb0, 0xc4, 0x42]);
        assert_ne!(sha256_of_value("a"), sha256_of_value("b"));
    }
}
