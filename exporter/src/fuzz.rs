//! The fuzz targets: one per parser of untrusted bytes, each with a property besides "does not panic".
//!
//! `cargo xtask fuzz` runs them guided by coverage (`fuzz/`). The unit test below runs them for a moment on random
//! mutations of `fuzz/seeds/TARGET`, which holds ordinary inputs and inputs on which a target once failed.

use std::sync::Arc;

use crate::render::LabelSets;
use crate::{docker, read, serve, top, web_config};

/// A check that fails an assertion if the property does not hold.
pub type Check = fn(&[u8]);

/// All targets by name.
pub static TARGETS: &[(&str, Check)] = &[
    ("cgroup_files", read::fuzz::cgroup_files),
    ("proc_files", read::fuzz::proc_files),
    ("netlink", read::fuzz::netlink),
    ("engine_stream", docker::fuzz::stream),
    ("engine_answers", engine_answers),
    ("headers", serve::fuzz::headers),
    ("query", serve::fuzz::query),
    ("web_config", web_config::fuzz::file),
    ("certificates", web_config::fuzz::certificate),
    ("exposition", |bytes| top::fuzz::exposition(&String::from_utf8_lossy(bytes))),
];

/// Checks that the rendered labels of a container, whatever its engine reports, are parsed as the original values.
fn engine_answers(bytes: &[u8]) {
    for info in docker::fuzz::answers(bytes) {
        let expected: Vec<_> = info.labels.iter().map(|(_, value)| value.clone()).collect();
        let (name, image) = (info.name.clone(), info.image.clone());
        let sets = LabelSets::new(Some(info.id), "/docker/a", Some(&Arc::new(info)));
        let read = top::fuzz::labels(sets.text());
        let values: Vec<_> = read.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [vec!["/docker/a".to_owned(), image, name], expected].concat());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use crate::fuzz::TARGETS;

    /// How long each target runs.
    const TIME: Duration = Duration::from_millis(300);

    /// A generator of pseudo-random numbers, the same in each run (`splitmix64`).
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        pub(crate) fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((mixed ^ mixed >> 31) % end.max(1) as u64).unwrap()
        }

        pub(crate) fn one_in(&mut self, chances: usize) -> bool {
            self.below(chances) == 0
        }

        /// Cuts, repeats and overwrites some of the bytes.
        fn mutate(&mut self, bytes: &mut Vec<u8>) {
            for _ in 0..=self.below(4) {
                let (from, to) = (self.below(bytes.len()), self.below(bytes.len()));
                let range = from.min(to)..from.max(to);
                match self.below(4) {
                    0 => drop(bytes.drain(range)),
                    1 => bytes.extend_from_within(range),
                    2 => bytes.insert(from, u8::try_from(self.below(256)).unwrap()),
                    _ => bytes.get_mut(from).into_iter().for_each(|byte| *byte ^= 1 << self.below(8)),
                }
                bytes.truncate(4096);
            }
        }
    }

    #[test]
    fn every_property_holds_for_seeds_and_what_is_like_them() {
        for (name, check) in TARGETS {
            let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
            let files = fs::read_dir(seeds).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
            let seeds: Vec<_> = files.inspect(|seed| check(seed)).collect();
            let (mut random, end) = (Random(1), Instant::now() + TIME);
            while Instant::now() < end {
                let mut bytes = seeds[random.below(seeds.len())].clone();
                random.mutate(&mut bytes);
                check(&bytes);
            }
        }
    }
}
