//! What two texts have in common, and where in a stream a text was last.

/// Returns how many bytes both begin with.
#[inline]
pub(super) fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let ((one_words, one_rest), (other_words, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let mut length = 0;
    for (word, other) in one_words.iter().zip(other_words) {
        let difference = u64::from_le_bytes(*word) ^ u64::from_le_bytes(*other);
        if difference != 0 {
            return length + difference.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let (one_rest, other_rest) = match one_words.len().cmp(&other_words.len()) {
        std::cmp::Ordering::Equal => (one_rest, other_rest),
        _ => (one.get(length..).unwrap_or_default(), other.get(length..).unwrap_or_default()),
    };
    length + one_rest.iter().zip(other_rest).take_while(|(byte, other)| byte == other).count()
}

/// Returns how many bytes both end with.
#[inline]
pub(super) fn common_suffix(one: &[u8], other: &[u8]) -> usize {
    let shorter = one.len().min(other.len());
    let last = |text: &'_ [u8], count: usize| text.len() - count;
    let (one, other) = (one.get(last(one, shorter)..), other.get(last(other, shorter)..));
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    let ((one_rest, one_words), (other_rest, other_words)) = (one.as_rchunks::<8>(), other.as_rchunks::<8>());
    let mut length = 0;
    for (word, other) in one_words.iter().rev().zip(other_words.iter().rev()) {
        let difference = u64::from_le_bytes(*word) ^ u64::from_le_bytes(*other);
        if difference != 0 {
            return length + difference.leading_zeros() as usize / 8;
        }
        length += 8;
    }
    length + one_rest.iter().rev().zip(other_rest.iter().rev()).take_while(|(byte, other)| byte == other).count()
}

/// Where in a stream each text was last, by its hash. Texts may share a hash: the caller compares.
#[derive(Debug)]
pub(super) struct HashTable(Vec<u32>);

const PLACES_LOG2: u32 = 12;
const NEVER: u32 = u32::MAX;

impl HashTable {
    pub(super) fn new() -> Self {
        Self(vec![NEVER; 1 << PLACES_LOG2])
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(NEVER);
    }

    /// Notes that a text with this hash is at `at`. Returns where one was before.
    #[inline]
    pub(super) fn replace(&mut self, hash: u32, at: usize) -> Option<usize> {
        let slot = self.0.get_mut((hash >> (32 - PLACES_LOG2)) as usize)?;
        let found = std::mem::replace(slot, u32::try_from(at).unwrap_or(NEVER));
        usize::try_from(found).ok().filter(|_| found != NEVER)
    }
}

const FACTOR: u32 = 0x9E37_79B1;
const LONG_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// Returns a hash of the next four bytes; none at the end.
#[inline]
pub(super) fn hash_of_four(text: &[u8]) -> Option<u32> {
    text.first_chunk::<4>().map(|four| u32::from_le_bytes(*four).wrapping_mul(FACTOR))
}

/// Returns a hash of the next eight bytes; none where there are fewer.
#[inline]
pub(super) fn hash_of_eight(text: &[u8]) -> Option<u32> {
    let eight = u64::from_le_bytes(*text.first_chunk::<8>()?);
    let [.., a, b, c, d] = eight.wrapping_mul(LONG_FACTOR).to_le_bytes();
    Some(u32::from_le_bytes([a, b, c, d]))
}

/// Returns a hash of all bytes.
pub(super) fn hash(text: &[u8]) -> u32 {
    text.iter().fold(0, |hash: u32, byte| (hash.rotate_left(5) ^ u32::from(*byte)).wrapping_mul(FACTOR))
}
