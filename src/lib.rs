//! A caching HTTP proxy that keeps package files as plain files at the URL's own path.
//!
//! One request, in order: [`server::worker`] accepts a connection, [`server::connection`] reads a
//! head ([`http::request`]), [`route`] decides where it goes, and [`serve`] answers it: from a
//! finished file ([`serve::hit`]; what was asked for lately is [`serve::ready`], open and with its
//! head written), from a file that a fill is writing ([`serve::fill`] leads,
//! [`serve::follow`] reads along), or from the origin with nothing kept ([`serve::pass`]). Then
//! the access line is written ([`observe`]) and the connection is read again, or is parked once it
//! idles.
//!
//! [`store`] holds the files and the table of fills and knows no sockets; [`upstream`] is the way
//! to the origin and knows nothing of the cache; [`http`] is pure; [`rt`] is the event loop, with
//! two backends; [`sys`] holds every system call and all `unsafe` code.

pub mod cli;
pub mod config;
pub mod error;
pub mod fd_budget;
pub mod http;
pub mod index;
pub mod key;
pub mod observe;
pub mod outcome;
pub mod pattern;
pub mod preset;
pub mod route;
pub mod rt;
pub mod serve;
pub mod server;
pub mod stop;
pub mod store;
pub mod sys;
pub mod upstream;
