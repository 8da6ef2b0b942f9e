//! A fast hash for bounded tables of short keys.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

const MULTIPLIER: u64 = 0xf135_7aea_2e62_a9c5;

/// The multiply-and-rotate hash of rustc, finished so that all bits count.
#[derive(Clone, Copy, Default)]
pub struct FastHash(u64);

/// A map with [`FastHash`].
pub type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHash>>;
/// A set with [`FastHash`].
pub type FastSet<K> = HashSet<K, BuildHasherDefault<FastHash>>;

impl FastHash {
    fn add(&mut self, word: u64) {
        self.0 = self.0.wrapping_add(word).wrapping_mul(MULTIPLIER).rotate_left(23);
    }
}

impl Hasher for FastHash {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u8(&mut self, word: u8) {
        self.add(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.add(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }
}

/// The hash of a value.
pub fn hash64(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = FastHash::default();
    value.hash(&mut hasher);
    hasher.finish()
}
