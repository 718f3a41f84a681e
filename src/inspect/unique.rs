//! Uniqueness in bounded memory: keyed 128-bit hashes of values, never the values.
//!
//! The hash is `SipHash` with 128 bits of output (Aumasson and Bernstein, "`SipHash`: a fast
//! short-input PRF", 2012, and the 128-bit variant of its reference code), one compression and
//! three finalisation rounds, keyed with fresh randomness per file, so that nobody can prepare
//! values that collide. Among n values the chance of one false repeat is below n^2 / 2^129:
//! under 2^-64 for four thousand million values.
//!
//! What one file may remember is counted in values, not in table bytes, so the row at which
//! the limit strikes depends on the file alone.

use crate::terms::limits;

/// The values seen by one file's uniqueness checks.
pub(crate) struct Uniques {
    key: [u64; 2],
    sets: Vec<Set>,
    values: usize,
    values_max: usize,
}

/// The answer to one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// In this line already; `None` past line 2^32.
    Before(Option<u64>),
    /// Never, and now remembered.
    First,
    /// Never, and there is no room to remember it.
    Full,
}

/// One column's values, in segments so that growing one moves little.
struct Set {
    segments: Vec<Segment>,
}

/// Open addressing with linear probing; hash 0 marks a free slot.
#[derive(Clone, Default)]
struct Segment {
    hashes: Vec<u128>,
    lines: Vec<u32>,
    used: usize,
}

// === impl Uniques ===

impl Uniques {
    /// `sets` independent sets under one bound of `bytes_max` memory.
    pub(crate) fn new(seed: [u8; 16], sets: usize, bytes_max: usize) -> Self {
        let seed = u128::from_le_bytes(seed);
        Self {
            key: [low(seed), low(seed >> 64)],
            sets: (0..sets).map(|_| Set::new()).collect(),
            values: 0,
            values_max: bytes_max / limits::UNIQUE_VALUE_BYTES,
        }
    }

    /// The keyed hash of one value's bytes.
    pub(crate) fn hash(&self, value: &[u8]) -> u128 {
        siphash128::<1, 3>(self.key, value)
    }

    /// Reads where a hash belongs, so that it is near when it is looked up: many of these wait for
    /// memory at once, look-ups one after the other.
    #[inline]
    pub(crate) fn touch(&self, set: usize, hash: u128) -> u64 {
        let segments = self.sets.get(set).map(|set| &set.segments);
        let hash = hash.max(1);
        let segment = segments.and_then(|all| all.get(index_below(low(hash >> 64), all.len())));
        segment.map_or(0, |segment| {
            let at = index_below(low(hash), segment.hashes.len());
            let line = segment.lines.get(at).copied().unwrap_or(0);
            low(segment.hashes.get(at).copied().unwrap_or(0)) ^ u64::from(line)
        })
    }

    /// Whether a hash is remembered in one set.
    pub(crate) fn has(&self, set: usize, hash: u128) -> bool {
        self.seen(set, hash) != Seen::First
    }

    /// Looks a hash up in one set.
    pub(crate) fn seen(&self, set: usize, hash: u128) -> Seen {
        self.sets.get(set).map_or(Seen::First, |set| set.seen(hash))
    }

    /// Looks a hash up in one set and remembers it.
    pub(crate) fn insert(&mut self, set: usize, hash: u128, line: u64) -> Seen {
        let Some(set) = self.sets.get_mut(set) else {
            return Seen::First;
        };
        let room = self.values < self.values_max;
        let seen = set.insert(hash, line, room);
        if seen == Seen::First {
            self.values += 1;
        }
        seen
    }
}

// === impl Set ===

impl Set {
    const SEGMENTS: usize = 64;

    fn new() -> Self {
        Self {
            segments: vec![Segment::default(); Self::SEGMENTS],
        }
    }

    fn insert(&mut self, hash: u128, line: u64, room: bool) -> Seen {
        let hash = hash.max(1);
        let at = index_below(low(hash >> 64), self.segments.len());
        match self.segments.get_mut(at) {
            Some(segment) => segment.insert(hash, line, room),
            None => Seen::Full,
        }
    }

    fn seen(&self, hash: u128) -> Seen {
        let hash = hash.max(1);
        let at = index_below(low(hash >> 64), self.segments.len());
        let segment = self.segments.get(at);
        segment.map_or(Seen::First, |segment| segment.seen(hash))
    }
}

// === impl Segment ===

impl Segment {
    fn seen(&self, hash: u128) -> Seen {
        let at = self.slot(hash);
        match (self.hashes.get(at), self.lines.get(at)) {
            (Some(found), Some(first)) if *found == hash => before(*first),
            _ => Seen::First,
        }
    }

    fn insert(&mut self, hash: u128, line: u64, room: bool) -> Seen {
        if (self.used + 1) * 8 > self.hashes.len() * 7 {
            // By a third: between 2/3 and 7/8 of the slots are in use.
            let larger = (self.hashes.len() * 4 / 3).max(16);
            self.grow(larger);
        }
        let at = self.slot(hash);
        match (self.hashes.get_mut(at), self.lines.get_mut(at)) {
            (Some(found), Some(first)) if *found == hash => before(*first),
            (Some(free), Some(first)) if room => {
                *free = hash;
                *first = u32::try_from(line).unwrap_or(u32::MAX);
                self.used += 1;
                Seen::First
            }
            _ => Seen::Full,
        }
    }

    /// The slot that holds `hash`, or the free one it belongs in. There always is a free one.
    fn slot(&self, hash: u128) -> usize {
        let mut at = index_below(low(hash), self.hashes.len());
        while let Some(&found) = self.hashes.get(at) {
            if found == hash || found == 0 {
                return at;
            }
            at = if at + 1 == self.hashes.len() {
                0
            } else {
                at + 1
            };
        }
        at
    }

    fn grow(&mut self, slots: usize) {
        let hashes = std::mem::replace(&mut self.hashes, vec![0; slots]);
        let lines = std::mem::replace(&mut self.lines, vec![u32::MAX; slots]);
        for (hash, line) in hashes.into_iter().zip(lines) {
            if hash != 0 {
                let at = self.slot(hash);
                if let (Some(to), Some(first)) = (self.hashes.get_mut(at), self.lines.get_mut(at)) {
                    *to = hash;
                    *first = line;
                }
            }
        }
    }
}

/// Seen in a line, as that is remembered.
fn before(line: u32) -> Seen {
    Seen::Before((line != u32::MAX).then_some(u64::from(line)))
}

/// A number below `bound`, evenly spread (Lemire, "Fast Random Integer Generation in an
/// Interval", 2019: multiply, keep the high half).
fn index_below(word: u64, bound: usize) -> usize {
    let bound = u64::try_from(bound).unwrap_or(u64::MAX);
    let high = low((u128::from(word) * u128::from(bound)) >> 64);
    usize::try_from(high).unwrap_or(0)
}

/// The low 64 bits.
fn low(wide: u128) -> u64 {
    u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(0)
}

fn siphash128<const COMPRESS: usize, const FINISH: usize>(key: [u64; 2], bytes: &[u8]) -> u128 {
    let [k0, k1] = key;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let length = u64::try_from(bytes.len()).unwrap_or(0);
    let last = u64::from_le_bytes(last) | (length << 56);
    for word in words
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .chain([last])
    {
        v[3] ^= word;
        rounds::<COMPRESS>(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xee;
    rounds::<FINISH>(&mut v);
    let first = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    rounds::<FINISH>(&mut v);
    let second = v[0] ^ v[1] ^ v[2] ^ v[3];
    u128::from(first) | (u128::from(second) << 64)
}

#[inline]
fn rounds<const COUNT: usize>(v: &mut [u64; 4]) {
    for _ in 0..COUNT {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference_key() -> [u64; 2] {
        [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]
    }

    #[test]
    fn siphash_2_4_128_gives_the_reference_vectors() {
        // vectors_sip128 of the reference implementation (github.com/veorq/SipHash, vectors.h).
        let expect: [(&[u8], [u8; 16]); 2] = [
            (
                &[],
                [
                    0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7,
                    0x55, 0x02, 0x93,
                ],
            ),
            (
                &[0],
                [
                    0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b,
                    0x22, 0xfc, 0x45,
                ],
            ),
        ];
        for (bytes, hash) in expect {
            assert_eq!(
                siphash128::<2, 4>(reference_key(), bytes).to_le_bytes(),
                hash
            );
        }
    }

    #[test]
    fn a_repeat_names_the_line_of_the_first() {
        let mut uniques = Uniques::new([7; 16], 2, 1 << 20);
        let (a, b) = (uniques.hash(b"a"), uniques.hash(b"b"));
        assert_ne!(a, b);
        assert_eq!(uniques.insert(0, a, 2), Seen::First);
        assert_eq!(uniques.insert(0, b, 3), Seen::First);
        assert_eq!(uniques.insert(0, a, 4), Seen::Before(Some(2)));
        assert_eq!(uniques.insert(1, a, 5), Seen::First);
        assert_eq!(uniques.insert(1, b, u64::MAX), Seen::First);
        assert_eq!(uniques.insert(1, b, 9), Seen::Before(None));
    }

    #[test]
    fn a_hundred_thousand_values_are_all_found_again() {
        let mut uniques = Uniques::new([1; 16], 1, 1 << 30);
        for n in 0..100_000_u64 {
            let hash = uniques.hash(&n.to_le_bytes());
            assert_eq!(uniques.insert(0, hash, n), Seen::First);
        }
        for n in 0..100_000_u64 {
            let hash = uniques.hash(&n.to_le_bytes());
            assert_eq!(uniques.insert(0, hash, 0), Seen::Before(Some(n)));
        }
        let slots: usize = uniques.sets[0]
            .segments
            .iter()
            .map(|s| s.hashes.len())
            .sum();
        assert!(
            slots * 20 <= 100_000 * limits::UNIQUE_VALUE_BYTES,
            "{slots} slots"
        );
    }

    #[test]
    fn the_bound_strikes_at_the_same_value_whatever_the_seed() {
        for seed in 0..20 {
            let bytes_max = 1000 * limits::UNIQUE_VALUE_BYTES;
            let mut uniques = Uniques::new([seed; 16], 1, bytes_max);
            for n in 0..1000_u64 {
                let hash = uniques.hash(&n.to_le_bytes());
                assert_eq!(uniques.insert(0, hash, n), Seen::First);
            }
            let known = uniques.hash(&5_u64.to_le_bytes());
            assert_eq!(uniques.insert(0, known, 0), Seen::Before(Some(5)));
            let fresh = uniques.hash(&1000_u64.to_le_bytes());
            assert_eq!(uniques.insert(0, fresh, 0), Seen::Full);
        }
    }
}
