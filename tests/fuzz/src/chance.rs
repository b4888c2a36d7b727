//! What is random about a run: a small generator of its own, so that a run can be repeated, and mutations.

const STRANGE: [u8; 14] =
    [0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe, b'\n', b' ', b'\\', b'"', b'=', b',', b'0', b'9'];

/// Xorshift, seeded.
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The same for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Nothing comes of 0.
        Self { state: seed | 1 }
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let wide = u128::from(self.bits()) * end as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.bits().to_be_bytes()[0]
    }

    /// One of a corpus, changed in one to four places.
    pub fn mutated(&mut self, corpus: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            self.mutate(&mut bytes, corpus, words);
        }
        bytes
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&[u8]]) {
        let at = self.below(bytes.len() + 1);
        match self.below(10) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = STRANGE[self.below(STRANGE.len())],
            2 if at < bytes.len() => {
                let step = u8::try_from(self.below(9)).unwrap_or(0);
                bytes[at] = bytes[at].wrapping_add(step).wrapping_sub(4);
            }
            3 => {
                let byte = self.byte();
                bytes.insert(at, byte);
            }
            4 => bytes.truncate(at),
            5 => {
                let length = self.below(1 + bytes.len() - at).min(40);
                let part = bytes[at..at + length].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            6 => {
                let length = self.below(1 + bytes.len() - at).min(40);
                bytes.drain(at..at + length);
            }
            7 if bytes.len() >= 8 => {
                // A whole integer at once: lengths and counts have several bytes.
                let at = self.below(bytes.len() - 7);
                let width = 1 << self.below(4);
                let value = [0, 1, 0x7f, 0xff, u64::MAX, u64::MAX >> 1, 1 << 31, 1 << 53][self.below(8)];
                bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
            8 if !words.is_empty() => {
                let word = words[self.below(words.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            _ => {
                let other = &corpus[self.below(corpus.len())];
                bytes.truncate(at);
                bytes.extend(&other[self.below(other.len() + 1)..]);
            }
        }
    }
}
