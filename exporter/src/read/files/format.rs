//! Parses the text forms of cgroup files (`cgroup-v2.rst`, "Interface Files / Format") and of `net/dev`, without I/O or allocation.
//!
//! Every parser ignores keys that were not requested, passes each value to the caller, and returns the number of requested values
//! that were malformed. A malformed line does not affect the others.

/// The content of a file with one number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Single {
    /// A number.
    Value(u64),
    /// `max`: no limit.
    Max,
    /// Anything else.
    Malformed,
}

/// Parses an unsigned decimal number that fills the whole of `text`.
#[must_use]
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// Parses a file of one number.
#[must_use]
pub(crate) fn single(text: &[u8]) -> Single {
    match text.trim_ascii() {
        b"max" => Single::Max,
        trimmed => number(trimmed).map_or(Single::Malformed, Single::Value),
    }
}

/// Returns the non-empty lines of a file.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Returns the blank-separated words of a line.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ' || *byte == b'\t').filter(|word| !word.is_empty())
}

/// Parses `KEY VALUE` lines: passes index in `keys` and value of each key found.
///
/// The kernel writes keys in a fixed order, so the key after the last match is tried first: with `keys` in file order a
/// file is parsed in one comparison per line.
pub(crate) fn flat<K: AsRef<[u8]>>(text: &[u8], keys: &[K], mut found: impl FnMut(usize, u64)) -> u64 {
    let mut malformed = 0;
    let mut expected = 0;
    for line in lines(text) {
        // A key without a value is as malformed as one whose value is no number.
        let (key, value) = split_once(line, b' ').unwrap_or((line, b""));
        let Some(index) = position(keys, expected, key) else { continue };
        expected = index + 1;
        match number(value.trim_ascii()) {
            Some(value) => found(index, value),
            None => malformed += 1,
        }
    }
    malformed
}

/// Parses pressure lines (`some avg10=… total=N`): passes the index in `keys` of the line's first word, and the total.
pub(crate) fn psi<K: AsRef<[u8]>>(text: &[u8], keys: &[K], mut found: impl FnMut(usize, u64)) -> u64 {
    let mut malformed = 0;
    for line in lines(text) {
        let mut words = words(line);
        let Some(index) = words.next().and_then(|word| position(keys, 0, word)) else { continue };
        match words.find_map(|word| word.strip_prefix(b"total=")).and_then(number) {
            Some(total) => found(index, total),
            None => malformed += 1,
        }
    }
    malformed
}

/// The number of a block device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Device {
    /// Number of the driver, of 12 bits.
    pub major: u32,
    /// Number of the device, of 20 bits.
    pub minor: u32,
}

impl Device {
    /// Parses `MAJOR:MINOR`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (major, minor) = split_once(text, b':')?;
        Some(Self { major: number(major)?.try_into().ok()?, minor: number(minor)?.try_into().ok()? })
    }
}

/// Parses `MAJOR:MINOR KEY=VALUE …` lines (`io.stat`): passes device, index in `keys` and value.
///
/// A device without values has no I/O. Linux 5.x leaves such devices on the line of the next one (`7:1 7:0 rbytes=…`), so values
/// belong to the last device before them. A line without a device is malformed.
pub(crate) fn nested<K: AsRef<[u8]>>(text: &[u8], keys: &[K], mut found: impl FnMut(Device, usize, u64)) -> u64 {
    let mut malformed = 0;
    for line in lines(text) {
        let (mut owner, mut expected) = (None, 0);
        for word in words(line) {
            let pair = split_once(word, b'=');
            if pair.is_none() {
                owner = Device::parse(word);
            }
            let Some(device) = owner else {
                malformed += 1;
                break;
            };
            let Some((key, value)) = pair else { continue };
            let Some(index) = position(keys, expected, key) else { continue };
            expected = index + 1;
            match number(value) {
                Some(value) => found(device, index, value),
                None => malformed += 1,
            }
        }
    }
    malformed
}

/// Parses `MAJOR:MINOR OPERATION VALUE` lines (`blkio.*` of v1): passes device, index in `keys` and value. Skips the last line,
/// `Total VALUE`.
pub(crate) fn operations<K: AsRef<[u8]>>(text: &[u8], keys: &[K], mut found: impl FnMut(Device, usize, u64)) -> u64 {
    let mut malformed = 0;
    let mut expected = 0;
    for line in lines(text) {
        let mut words = words(line);
        let (Some(device), Some(operation)) = (words.next(), words.next()) else {
            malformed += 1;
            continue;
        };
        if device == b"Total" {
            continue;
        }
        let Some(index) = position(keys, expected, operation) else { continue };
        expected = index + 1;
        match (Device::parse(device), words.next().and_then(number)) {
            (Some(device), Some(value)) => found(device, index, value),
            _ => malformed += 1,
        }
    }
    malformed
}

/// Parses `KEY N0=VALUE N1=VALUE …` lines (v2) or `KEY=TOTAL N0=VALUE …` lines (v1): passes node, index in `keys` and value.
pub(crate) fn nodes<K: AsRef<[u8]>>(text: &[u8], keys: &[K], mut found: impl FnMut(u32, usize, u64)) -> u64 {
    let mut malformed = 0;
    for line in lines(text) {
        let mut words = words(line);
        let key = words.next().map(|word| split_once(word, b'=').map_or(word, |(key, _)| key));
        let Some(index) = key.and_then(|key| position(keys, 0, key)) else { continue };
        for word in words {
            let pair = word.strip_prefix(b"N").and_then(|word| split_once(word, b'='));
            let parsed = pair.and_then(|(node, value)| Some((number(node)?.try_into().ok()?, number(value)?)));
            match parsed {
                Some((node, value)) => found(node, index, value),
                None => malformed += 1,
            }
        }
    }
    malformed
}

/// Parses a line of numbers: passes the index of each and its value.
pub(crate) fn list(text: &[u8], mut found: impl FnMut(u32, u64)) -> u64 {
    let mut malformed = 0;
    for (index, word) in (0..).zip(words(text.trim_ascii())) {
        match number(word) {
            Some(value) => found(index, value),
            None => malformed += 1,
        }
    }
    malformed
}

/// Number of counters in a line of `/proc/PID/net/dev`: 8 received, then 8 transmitted.
pub(crate) const INTERFACE_COLUMNS: usize = 16;

/// Parses `/proc/PID/net/dev`: passes name and counters of each interface whose name is wanted. A line with fewer counters is
/// malformed. Lines of other interfaces are skipped, because a host has one for each container.
pub(crate) fn interfaces(
    text: &[u8],
    wanted: impl Fn(&[u8]) -> bool,
    mut found: impl FnMut(&[u8], &[u64; INTERFACE_COLUMNS]),
) -> u64 {
    let mut malformed = 0;
    for line in lines(text).skip(2) {
        // A name may hold a colon (an alias); the counters never do.
        let Some((name, values)) = rsplit_once(line, b':').map(|(name, values)| (name.trim_ascii(), values)) else {
            malformed += 1;
            continue;
        };
        if !wanted(name) {
            continue;
        }
        let (mut counters, mut words) = ([0; INTERFACE_COLUMNS], words(values));
        let parsed = counters.iter_mut().try_for_each(|counter| {
            *counter = number(words.next()?)?;
            Some(())
        });
        match parsed {
            Some(()) => found(name, &counters),
            None => malformed += 1,
        }
    }
    malformed
}

/// Returns the index of a key, trying `expected` first.
fn position<K: AsRef<[u8]>>(keys: &[K], expected: usize, key: &[u8]) -> Option<usize> {
    if keys.get(expected).is_some_and(|candidate| candidate.as_ref() == key) {
        return Some(expected);
    }
    keys.iter().position(|candidate| candidate.as_ref() == key)
}

/// Splits at the first `separator`.
#[must_use]
pub(crate) fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn rsplit_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().rposition(|byte| *byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests;
