//! A folder served in place of the built-in page.
#![allow(clippy::unwrap_used)] // Helpers of tests.

mod common;

use std::{fs, process::Command};

use common::Running;
use tempfile::TempDir;
use visavis_signaling::{PageFolder, ServerOptions};

/// A tutorial's folder: its page, and what lies beside it.
fn tutorial() -> TempDir {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("page");
    for (path, text) in [
        ("secret.txt", "secret"),
        ("page/index.html", "<!doctype html><title>Tutorial</title>"),
        ("page/js/main.js", "'use strict';"),
        ("page/css/main.css", "video {}"),
        ("page/picture.png", "\u{1}"),
        ("page/a b.html", "blank"),
        ("page/ws", "not this"),
        ("page/visavis", "nor this"),
        ("page/socket.io/socket.io.js", "nor this"),
        ("page/.env", "secret"),
        ("page/.git/config", "secret"),
        ("page/package.json", "secret"),
        ("page/node_modules/x/index.js", "secret"),
    ] {
        let path = parent.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(&folder, parent.path().join("link")).unwrap();
    parent
}

async fn serving(parent: &TempDir) -> Running {
    let page = Some(PageFolder::open(&parent.path().join("page")).unwrap());
    Running::with(ServerOptions { page, ..ServerOptions::default() }).await
}

#[tokio::test]
async fn its_files_are_served_with_their_types_and_the_servers_own_addresses_win() {
    let parent = tutorial();
    let server = serving(&parent).await;
    for (path, kind, words) in [
        ("/", "text/html", "Tutorial"),
        ("/index.html", "text/html", "Tutorial"),
        ("/room/tea", "text/html", "Tutorial"),
        ("/?room=tea", "text/html", "Tutorial"),
        ("/js/main.js", "text/javascript", "use strict"),
        ("/css/main.css", "text/css", "video"),
        ("/picture.png", "image/png", "\u{1}"),
        ("/a%20b.html", "text/html", "blank"),
        ("/visavis", "application/json", "protocol"),
        ("/socket.io/socket.io.js", "text/javascript", "t.io=e()"),
    ] {
        let answer = server.request("GET", path).await;
        assert!(answer.starts_with("HTTP/1.0 200"), "{path}: {answer}");
        assert!(answer.contains(&format!("content-type: {kind}")), "{path}: {answer}");
        assert!(answer.contains(words), "{path}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{path}: {answer}");
    }
    // Scripts in the page and from elsewhere may run; the built-in page's own rule forbids both.
    let answer = server.request("GET", "/").await;
    assert!(!answer.contains("script-src") && !answer.contains("default-src"), "{answer}");
    assert!(answer.contains("frame-ancestors 'self'"), "{answer}");
    assert!(server.request("GET", "/ws").await.starts_with("HTTP/1.0 426"));
    let head = server.request("HEAD", "/js/main.js").await;
    assert!(head.starts_with("HTTP/1.0 200") && !head.contains("use strict"), "{head}");
    server.stop().await;
}

#[tokio::test]
async fn nothing_beside_the_page_is_served() {
    let parent = tutorial();
    let server = serving(&parent).await;
    for path in [
        "/nothing",
        "/secret.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/js/../../secret.txt",
        "/js/%2e%2e/%2e%2e/secret.txt",
        "/..%5csecret.txt",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/package.json",
        "/node_modules/x/index.js",
        "/%00",
        "/index.html%00",
        "/%ff",
        "//evil.example/%2e%2e",
        "//evil.example/",
        "//",
        "//js/main.js",
        "/js//main.js",
        "/app.js",
        "/room/a/b",
    ] {
        for method in ["GET", "HEAD", "POST"] {
            let answer = server.request(method, path).await;
            assert!(answer.starts_with("HTTP/1.0 404"), "{method} {path}: {answer}");
            assert!(!answer.contains("location:"), "{method} {path}: {answer}");
        }
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        for path in ["/", "/index.html", "/js/main.js", "/room/tea"] {
            let answer = server.request(method, path).await;
            assert!(answer.starts_with("HTTP/1.0 405"), "{method} {path}: {answer}");
        }
    }
    let slash = server.request("GET", "/js").await;
    assert!(slash.contains("location: /js/\r\n") || slash.starts_with("HTTP/1.0 404"), "{slash}");
    assert!(server.request("GET", "/").await.starts_with("HTTP/1.0 200"));
    server.stop().await;
}

#[test]
fn a_folder_that_is_none_is_said_at_the_start() {
    let parent = tutorial();
    for (path, words) in [
        (parent.path().join("nowhere"), "cannot be read"),
        (parent.path().join("secret.txt"), "is no folder"),
        (parent.path().join("page/js"), "no index.html"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_visavis-signaling"))
            .args(["--listen", "127.0.0.1:0", "--page"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words) && said.contains(&*path.to_string_lossy()), "{said}");
    }
}
