//! A fast hash for keys that the policy's author chose. Requests only look keys up, so nobody can fill a table with
//! colliding ones from outside.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds [`Words`] hashers.
pub(super) type Fast = BuildHasherDefault<Words>;

/// Takes eight bytes at a time: rotate, mix in, multiply (the compiler's own table hash).
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
        // The table takes its bucket from the low bits, and multiplication leaves those the weakest.
        self.0 ^ (self.0 >> 32)
    }
}
