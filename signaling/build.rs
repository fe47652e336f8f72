//! Lists the page's files for `page.rs`, so that a file added to `web/` is served without a
//! word of Rust, and a file of a kind a browser does not need is not.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
};

/// What the page may consist of: extension, content type.
const KINDS: [(&str, &str); 10] = [
    ("css", "text/css; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("webmanifest", "application/manifest+json"),
    ("woff2", "font/woff2"),
];

fn main() -> io::Result<()> {
    let crate_root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let web = crate_root.join("web");
    println!("cargo:rerun-if-changed={}", web.display());
    let mut files = Vec::new();
    collect(&web, "", &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for (path, kind, file) in files {
        let line = format_args!(
            "    Asset {{ path: {path:?}, content_type: {kind:?}, body: include_bytes!({file:?}) }},\n"
        );
        fmt::Write::write_fmt(&mut table, line).map_err(io::Error::other)?;
    }
    table.push_str("]\n");
    fs::write(PathBuf::from(variable("OUT_DIR")?).join("page_files.rs"), table)
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(|error| io::Error::other(format!("{name}: {error}")))
}

/// Adds `(path below /, content type, file)` for each servable file. Tests stay at home.
fn collect(
    folder: &Path,
    below: &str,
    files: &mut Vec<(String, &'static str, String)>,
) -> io::Result<()> {
    println!("cargo:rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') || name.contains(".test.") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            if !matches!(name.as_str(), "test" | "tests" | "node_modules") {
                collect(&entry.path(), &format!("{below}/{name}"), files)?;
            }
            continue;
        }
        let kind = KINDS
            .iter()
            .find(|(extension, _)| Path::new(&name).extension().is_some_and(|e| e == *extension));
        if let Some((_, kind)) = kind {
            let file = entry.path().display().to_string();
            files.push((format!("{below}/{name}"), kind, file));
        }
    }
    Ok(())
}
