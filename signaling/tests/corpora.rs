//! The fuzzers' checks over their kept corpora, so that every run covers what the fuzzers found.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use visavis_signaling::protocol;

#[path = "../fuzz/cluster.rs"]
mod cluster;
#[path = "../fuzz/proxies.rs"]
mod proxies;
#[path = "../fuzz/rooms.rs"]
mod rooms;
#[allow(dead_code)] // only what is heard and said
#[path = "../src/carrier/socketio/words.rs"]
mod socketio_words;
#[path = "../fuzz/token.rs"]
mod token;
#[path = "../fuzz/turn.rs"]
mod turn;
#[path = "../fuzz/wire.rs"]
mod wire;
#[path = "../fuzz/words.rs"]
mod words;

type Check = fn(&[u8]);

/// Every target of `fuzz/fuzz_targets`.
const TARGETS: [(&str, Check); 7] = [
    ("cluster", cluster::check),
    ("proxies", proxies::check),
    ("rooms", rooms::check),
    ("token", token::check),
    ("turn", turn::check),
    ("wire", wire::check),
    ("words", words::check),
];

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
fn the_kept_corpora_break_nothing() {
    for (name, check) in TARGETS {
        let folder = fuzz().join("corpus").join(name);
        let files = files(&folder);
        assert!(!files.is_empty(), "{} is empty; see docs/testing.md", folder.display());
        for file in files {
            println!("{}", file.display()); // what a failure is about
            check(&fs::read(file).expect("a file"));
        }
    }
}
