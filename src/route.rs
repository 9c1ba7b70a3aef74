//! What a request is about, decided in one place from its head and the configuration alone.

use crate::http::request::{Method, RequestHead};
use crate::key::{self, Key};
use crate::outcome::Why;
use crate::pattern::Pattern;

/// Where a request goes.
#[derive(Debug)]
pub enum Route {
    /// To the cache, and from there to the origin if need be.
    Cache(Key),
    /// A path with a slash at its end, here relative and without it: never a file.
    Directory(String),
    /// To the origin, nothing kept.
    Pass(Why),
    /// Nowhere: the path cannot be decoded. The text says why.
    BadPath(&'static str),
}

/// Decides by method, path and pattern (the cacheable paths).
pub fn decide(request: &RequestHead, pattern: &Pattern) -> Route {
    // The server-wide request of OPTIONS has no path to decode.
    if *request.target == *b"*" {
        return Route::Pass(Why::Method);
    }
    let path = match key::decode(request.path()) {
        Ok(path) => path,
        Err(bad) => return Route::BadPath(bad.as_str()),
    };
    if !matches!(request.method, Method::Get | Method::Head) {
        return Route::Pass(Why::Method);
    }
    if !pattern.matches(&path.normalized) {
        return Route::Pass(Why::NoMatch);
    }
    match path.key {
        None if path.normalized.ends_with('/') => {
            Route::Directory(path.normalized.trim_matches('/').to_owned())
        }
        None => Route::Pass(Why::NoName),
        Some(key) if key.is_in_progress_name() => Route::Pass(Why::InProgressName),
        Some(key) => Route::Cache(key),
    }
}
