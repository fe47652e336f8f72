//! Every check over its corpus, and over what seeded chance makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{assemble, fec, jitter, nack, pictures, red, sending};
use crate::peer::fuzz::{packets, sdp, stun};

type Check = fn(&[u8]);

/// Every target of `fuzz_targets`.
const TARGETS: [(&str, Check); 10] = [
    ("assemble", assemble::check),
    ("fec", fec::check),
    ("jitter", jitter::check),
    ("nack", nack::check),
    ("packets", packets::check),
    ("pictures", pictures::check),
    ("red", red::check),
    ("sdp", sdp::check),
    ("sending", sending::check),
    ("stun", stun::check),
];

/// Inputs of chance for each target, beside its corpus.
const ROUNDS: usize = 1000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}; see docs/testing.md", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn every_target_is_run_here() {
    let stem = |path: &PathBuf| {
        path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned()
    };
    let targets: BTreeSet<_> = files(&fuzz().join("fuzz_targets")).iter().map(stem).collect();
    assert_eq!(targets, TARGETS.map(|(name, _)| name.to_owned()).into());
}

#[test]
fn the_corpora_and_what_chance_makes_of_them_break_nothing() {
    for (name, check) in TARGETS {
        let folder = fuzz().join("corpus").join(name);
        let files = files(&folder);
        assert!(!files.is_empty(), "{} is empty; see docs/testing.md", folder.display());
        let inputs: Vec<_> = files.iter().map(|file| fs::read(file).expect("a file")).collect();
        for (file, input) in files.iter().zip(&inputs) {
            println!("{}", file.display()); // what a failure is about
            check(input);
        }
        let mut random = StdRng::seed_from_u64(0x7ea);
        for round in 0..ROUNDS {
            println!("{name}, round {round}");
            let mut input = inputs[random.random_range(0..inputs.len())].clone();
            for _ in 0..random.random_range(1..6) {
                mutate(&mut input, &mut random);
            }
            check(&input);
        }
    }
}

fn mutate(data: &mut Vec<u8>, random: &mut StdRng) {
    if data.is_empty() {
        return data.push(random.random());
    }
    let at = random.random_range(0..data.len());
    match random.random_range(0..5) {
        0 => data[at] = random.random(),
        1 => data[at] ^= 1 << random.random_range(0..8),
        2 => data.insert(at, random.random()),
        3 => drop(data.remove(at)),
        _ => {
            let end = random.random_range(at..=data.len()).min(at + 1000);
            let piece = data[at..end].to_vec();
            data.splice(at..at, piece);
        }
    }
}
