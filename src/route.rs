//! The class of a request, decided in one place from its head and the configuration alone.

use crate::http::request::{Method, RequestHead};
use crate::key::{self, Forms, Key};
use crate::outcome::BypassReason;
use crate::pattern::Pattern;
use crate::preset::Rules;

/// Where a request goes.
#[derive(Debug)]
pub enum Route {
    /// An immutable file: from the cache, or from the origin on a miss.
    Cache(Key),
    /// The same, for a response that is revalidated with the origin.
    Revalidate(Key),
    /// A path with a slash at its end, here relative and without it: never a file.
    Directory(String),
    /// To the origin, nothing stored.
    Pass(BypassReason),
    /// Refused: the path cannot be decoded, for this reason.
    BadPath(&'static str),
}

/// Which paths are cached.
#[derive(Clone, Debug)]
pub struct Classes {
    /// Immutable: never validated.
    pub immutable: Pattern,
    /// Stored and revalidated with the origin. A path that matches both is of this class.
    pub revalidate: Option<Pattern>,
    /// The rules of the presets for these paths.
    pub rules: Rules,
}

/// Decides by method, path and class.
pub fn decide(request: &RequestHead, classes: &Classes) -> Route {
    // The server-wide request of OPTIONS has no path to decode.
    if *request.target == *b"*" {
        return Route::Pass(BypassReason::Method);
    }
    let path = match key::decode(request.path()) {
        Ok(path) => path,
        Err(bad) => return Route::BadPath(bad.as_str()),
    };
    if !matches!(request.method, Method::Get | Method::Head) {
        return Route::Pass(BypassReason::Method);
    }
    if path.key.as_ref().is_some_and(Key::is_reserved) {
        return Route::Pass(BypassReason::Reserved);
    }
    let Some(class) = class(&path.normalized, classes) else { return Route::Pass(BypassReason::Pattern) };
    if class == Class::Revalidate {
        return match path.key {
            Some(key) if key.is_in_progress_name() => Route::Pass(BypassReason::InProgressName),
            Some(key) if request.query().is_none() && !classes.rules.is_document(&path.normalized) => {
                Route::Revalidate(key)
            }
            Some(_) | None => {
                Route::Revalidate(Key::resource(&Forms::of(request.path()).own, request.query()))
            }
        };
    }
    if class == Class::None {
        return Route::Pass(BypassReason::NoMatch);
    }
    match path.key {
        None if path.normalized.ends_with('/') => {
            Route::Directory(path.normalized.trim_matches('/').to_owned())
        }
        None => Route::Pass(BypassReason::NoName),
        Some(key) if key.is_in_progress_name() => Route::Pass(BypassReason::InProgressName),
        Some(key) => Route::Cache(key),
    }
}

#[derive(PartialEq, Eq)]
enum Class {
    Immutable,
    Revalidate,
    None,
}

/// The class of a path; `None` if a pattern takes too long.
fn class(path: &str, classes: &Classes) -> Option<Class> {
    if let Some(pattern) = &classes.revalidate
        && pattern.try_matches(path)?
        && !classes.rules.is_file_of_another(path)
    {
        return Some(Class::Revalidate);
    }
    let immutable = classes.immutable.try_matches(path)?;
    Some(if immutable { Class::Immutable } else { Class::None })
}
