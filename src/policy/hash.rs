//! A fast hash function for keys that the author of a policy chose. Requests look keys up but never insert keys, so that a
//! client cannot fill a table with colliding keys (hash flooding).

use std::hash::{BuildHasherDefault, Hasher};

/// The builder of [`Words`] hashers, for `HashMap`.
pub(super) type Fast = BuildHasherDefault<Words>;

/// A hasher that takes eight bytes at a time: rotate, xor, multiply (FxHash, the hash function of the Rust compiler).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Words(u64);

impl Words {
    const fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.mix(u64::from_le_bytes(last) ^ (bytes.len() as u64).rotate_left(56));
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn finish(&self) -> u64 {
        // `HashMap` takes the bucket from the low bits, which are the weakest after a multiplication.
        self.0 ^ (self.0 >> 32)
    }
}
