//! Container ids, and how a cgroup directory's name tells one.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The 256-bit id of a container, as every OCI engine prints it: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId([u8; 32]);

/// One word in place of 32 bytes: ids are random, and a scrape looks each of them up several times.
impl Hash for ContainerId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let words = self.0.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word));
        state.write_u64(words.fold(0, |all, word| all ^ word));
    }
}

impl ContainerId {
    /// Parses exactly 64 hex digits; anything else is no container id.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: &[u8; 64] = text.try_into().ok()?;
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let &[high, low] = pair else { return None };
            *byte = hex_digit(high)? << 4 | hex_digit(low)?;
        }
        Some(Self(id))
    }

    /// Tells the container that a cgroup directory of this name belongs to.
    ///
    /// Known shapes: `<id>` (cgroupfs driver), `docker-<id>.scope`, `libpod-<id>.scope`,
    /// `cri-containerd-<id>.scope`, `crio-<id>.scope` (systemd driver) and `libpod-<id>` (Podman with cgroupfs).
    /// Helpers beside a container, such as `crio-conmon-<id>.scope`, are not containers.
    #[must_use]
    pub fn from_cgroup_name(name: &[u8]) -> Option<Self> {
        const PREFIXES: [&[u8]; 4] = [b"docker-", b"libpod-", b"cri-containerd-", b"crio-"];
        if let Some(id) = Self::parse(name) {
            return Some(id);
        }
        let stem = name.strip_suffix(b".scope").unwrap_or(name);
        PREFIXES.iter().find_map(|prefix| Self::parse(stem.strip_prefix(*prefix)?))
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::ContainerId;

    const ID: &str = "1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";

    #[test]
    fn an_id_survives_the_round_trip() {
        assert_eq!(ContainerId::parse(ID.as_bytes()).unwrap().to_string(), ID);
    }

    #[test]
    fn every_engine_s_directory_name_is_known() {
        for name in [
            ID.to_owned(),
            format!("docker-{ID}.scope"),
            format!("libpod-{ID}.scope"),
            format!("libpod-{ID}"),
            format!("cri-containerd-{ID}.scope"),
            format!("crio-{ID}.scope"),
        ] {
            assert!(ContainerId::from_cgroup_name(name.as_bytes()).is_some(), "{name}");
        }
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        for name in [
            format!("crio-conmon-{ID}.scope"),
            format!("libpod-conmon-{ID}.scope"),
            format!("{ID}0"),
            ID[1..].to_owned(),
            ID.to_uppercase(),
            "docker-.scope".to_owned(),
            "system.slice".to_owned(),
        ] {
            assert_eq!(ContainerId::from_cgroup_name(name.as_bytes()), None, "{name}");
        }
    }
}
