//! A folder of the operator's in place of the built-in page: the tutorial's own page, say.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use percent_encoding::percent_decode_str;
use thiserror::Error;
use tower_http::services::ServeDir;

use super::not_found;

/// Such a page may load what it likes and be written as it likes; it shall only not be framed by
/// others, nor be given a base elsewhere.
const POLICY: HeaderValue =
    HeaderValue::from_static("base-uri 'self'; object-src 'none'; frame-ancestors 'self'");

/// What lies beside a page because its author's tools put it there; none of it is the page's.
const NOT_FOR_VISITORS: [&str; 3] = ["node_modules", "package.json", "package-lock.json"];

/// A folder that can be served: it has an `index.html`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageFolder(Arc<Path>);

/// Why a folder cannot be served as the page.
#[derive(Debug, Error)]
pub enum PageError {
    /// Not there, or not readable.
    #[error("The page's folder {} cannot be read: {error}.", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A file, or something stranger.
    #[error("{} is no folder: name the folder that holds the page's index.html.", .0.display())]
    NoFolder(PathBuf),
    /// A folder without an entrance.
    #[error("The page's folder {} has no index.html: name the folder that holds it.", .0.display())]
    NoIndex(PathBuf),
}

impl PageFolder {
    /// The folder at `path`.
    ///
    /// # Errors
    /// When it is none that could be served.
    pub fn open(path: &Path) -> Result<Self, PageError> {
        let unreadable = |error| PageError::Unreadable { path: path.to_owned(), error };
        let full = path.canonicalize().map_err(unreadable)?;
        if !full.metadata().map_err(unreadable)?.is_dir() {
            return Err(PageError::NoFolder(path.to_owned()));
        }
        if !full.join("index.html").is_file() {
            return Err(PageError::NoIndex(path.to_owned()));
        }
        Ok(Self(full.into()))
    }

    /// Answers a request that is for none of the server's own addresses.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let (parts, _) = request.into_parts();
        let path = parts.uri.path();
        if !is_for_visitors(path) {
            return not_found();
        }
        // A link to a room leads to the page, unless the page has something else there.
        let is_room = path.strip_prefix("/room/").is_some_and(|name| !name.contains('/'));
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let head = Request::head(parts.uri.clone()).body(Body::empty()).unwrap_or_default();
            return match self.serve(head).await.status() {
                StatusCode::NOT_FOUND if !is_room => not_found(),
                _ => {
                    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET,HEAD")]).into_response()
                }
            };
        }
        let mut entrance = parts.clone();
        entrance.uri = Uri::from_static("/");
        let mut response = self.serve(Request::from_parts(parts, Body::empty())).await;
        if is_room && response.status() == StatusCode::NOT_FOUND {
            response = self.serve(Request::from_parts(entrance, Body::empty())).await;
        }
        if response.status() == StatusCode::NOT_FOUND {
            return not_found();
        }
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
        response
    }

    async fn serve(&self, request: Request) -> Response {
        let files = TowerToHyperService::new(ServeDir::new(&self.0));
        match files.call(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }
}

/// Whether a path, as it stands in the request, can name a file of the page: no hidden file, no
/// way out of the folder, nothing that systems read in different ways.
fn is_for_visitors(path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else {
        return false;
    };
    let Ok(path) = percent_decode_str(path).decode_utf8() else {
        return false;
    };
    if path.is_empty() {
        return true;
    }
    // The last one may be empty: a folder's own address ends so.
    let folder = path.strip_suffix('/').unwrap_or(&path);
    folder.split('/').all(|name| {
        !name.is_empty()
            && !name.starts_with('.')
            && !name.contains(|c: char| c.is_control() || matches!(c, '\\' | ':'))
            && !NOT_FOR_VISITORS.iter().any(|other| name.eq_ignore_ascii_case(other))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_lead_into_the_folder() {
        for path in ["/", "/index.html", "/js/main.js", "/js/", "/a%20b.html", "/%E8%8C%B6.png"] {
            assert!(is_for_visitors(path), "{path}");
        }
        for path in [
            "",
            "*",
            "//",
            "//evil.example",
            "//evil.example/%2e%2e",
            "/%2e%2e",
            "/../x",
            "/a/../b",
            "/%00",
            "/a%00.html",
            "/.env",
            "/js/.git/config",
            "/%2eenv",
            "/a//b",
            "/a%2f%2e%2e",
            "/a%5c..%5cb",
            "/c:/x",
            "/%ff",
            "/node_modules/x.js",
            "/Package.json",
        ] {
            assert!(!is_for_visitors(path), "{path}");
        }
    }

    #[test]
    fn a_folder_that_is_none_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index.html");
        let said = |path: &Path| PageFolder::open(path).expect_err("none").to_string();
        assert!(said(Path::new("/nowhere/at/all")).contains("/nowhere/at/all"));
        assert!(said(folder.path()).contains("no index.html"));
        std::fs::write(&index, "x").unwrap();
        assert!(said(&index).contains("is no folder"));
        assert!(PageFolder::open(folder.path()).is_ok());
    }
}
