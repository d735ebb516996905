//! Every target survives a little noise, the seeds (`just fuzz-seeds` writes them), damaged ones too, and everything that has ever broken one of them (`regressions`). The fuzzer does the rest.

use std::{fs, path::Path};

use zlay_fuzz::{TARGETS, Target, measure};

fn targets() -> impl Iterator<Item = &'static Target> {
    static ALL: [Target; TARGETS.len()] = TARGETS;
    ALL.iter()
}

/// Enough for chance: the sequence of a linear congruential generator.
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 56) as u8
    }

    fn below(&mut self, limit: usize) -> usize {
        let n = u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()]);
        n as usize % limit.max(1)
    }
}

/// The files of a folder of inputs; none where there is no such folder.
fn inputs(folder: &str, target: &str) -> Vec<Vec<u8>> {
    let tests = Path::new(file!()).parent().unwrap();
    let path = tests.join("..").join(folder).join(target);
    let files = fs::read_dir(path).into_iter().flatten();
    files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn noise_is_survived() {
    // Miri is a thousand times as slow.
    let rounds = if cfg!(miri) { 4 } else { 2_000 };
    for target in targets() {
        let began = std::time::Instant::now();
        let mut noise = Noise(1);
        for _ in 0..rounds {
            let len = noise.below(300);
            let bytes: Vec<u8> = (0..len).map(|_| noise.byte()).collect();
            measure(target, &bytes);
        }
        println!("{} {:?}", target.name, began.elapsed());
    }
}

#[test]
fn what_has_broken_something_breaks_nothing_any_more() {
    for target in targets() {
        for bytes in inputs("regressions", target.name) {
            measure(target, &bytes);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "reads hundreds of files")]
fn seeds_are_survived_also_when_they_are_damaged() {
    for target in targets() {
        let mut noise = Noise(2);
        let seeds = inputs("seeds", target.name);
        assert!(
            !seeds.is_empty(),
            "`just fuzz-seeds` writes those of {}",
            target.name
        );
        for seed in seeds {
            measure(target, &seed);
            for _ in 0..20 {
                let mut bytes = seed.clone();
                for _ in 0..=noise.below(4) {
                    let (at, byte) = (noise.below(bytes.len()), noise.byte());
                    match noise.below(3) {
                        0 if !bytes.is_empty() => bytes[at] = byte,
                        1 if !bytes.is_empty() => {
                            bytes.remove(at);
                        }
                        _ => bytes.insert(at, byte),
                    }
                }
                measure(target, &bytes);
            }
        }
    }
}

/// What must not be missing here when a route is added there.
#[test]
fn every_method_that_changes_something_is_a_target() {
    let table = include_str!("../../src/http/admin/mod.rs");
    let mut count = 0;
    for line in table
        .lines()
        .filter(|line| line.contains("read::") && line.contains("=>"))
    {
        let function = line.split("read::").nth(1).unwrap();
        let function = function.trim_end_matches([',', ')', ' ']);
        let target = include_str!("../src/targets/orders.rs");
        assert!(target.contains(&format!("read::{function})")), "{function}");
        count += 1;
    }
    assert!(count > 15);
}
