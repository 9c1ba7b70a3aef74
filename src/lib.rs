//! A caching HTTP proxy that keeps package files as plain files at the URL's own path.
//!
//! One request, in order: [`server::worker`] accepts a connection, [`server::connection`] reads a
//! head ([`http::request`]), [`route`] decides which class it is of, and [`proxy`] takes steps until
//! there is a response: from a finished file ([`proxy::hit`]; recent ones are in
//! [`proxy::open_files`], with their heads prepared), from a file that a fill is writing
//! ([`proxy::fetch::fill`] leads, [`proxy::deliver::follow`] reads along), from a stored response
//! that the origin has confirmed ([`proxy::revalidated`]), or from the origin with nothing stored
//! ([`proxy::pass`]). Then the access line is written ([`observe`]), and the connection is read
//! again, or is parked while it is idle.
//!
//! [`cache`] holds the files and the table of fills and knows no sockets; [`upstream`] is the way
//! to the origin, and [`downstream`] the way to the clients; [`packages`] is what package sites need
//! beyond HTTP; [`http`] is pure; [`rt`] is the event loop, with two backends; [`sys`] holds every
//! system call and all `unsafe` code.

#[macro_use]
mod labelled;

pub mod cache;
pub mod cli;
pub mod config;
pub mod downstream;
pub mod error;
pub mod fd_budget;
pub mod http;
pub mod key;
pub mod observe;
pub mod outcome;
pub mod packages;
pub mod pattern;
pub mod preset;
pub mod proxy;
pub mod route;
pub mod rt;
pub mod server;
pub mod stop;
pub mod sys;
pub mod upstream;
