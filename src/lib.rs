//! A caching HTTP proxy that keeps package files as plain files at the URL's own path.

pub mod cli;
pub mod config;
pub mod http;
pub mod key;
pub mod observe;
pub mod pattern;
