//! What every black-box test stands on: a scripted origin, the real binary, and a client that
//! speaks bytes. Nothing here knows how the server works inside, so a test can only see what a
//! user sees: sockets, files, log lines and exit codes.

pub(crate) mod client;
pub(crate) mod fuse;
pub(crate) mod mounted;
pub(crate) mod origin;
pub(crate) mod sandbox;
pub(crate) mod server;
pub(crate) mod tls;
pub(crate) mod util;

pub(crate) use client::{Client, Framing, Response};
pub(crate) use fuse::{Call, Fuse};
pub(crate) use mounted::{Dead, Mounted};
pub(crate) use origin::{Gate, LAST_MODIFIED, LAST_MODIFIED_SECS, Origin, Reply};
pub(crate) use server::{Io, Launch, Server, has_substitutes, run_cli};
pub(crate) use util::{assert_bytes, bytes, tree, wait_until, within};

/// Turns each named `fn(Io)` into two tests, `name::uring` and `name::poll`.
///
/// The functions stay ordinary functions, so a name forgotten in the list is dead code and fails
/// the lint.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[test]
            fn uring() {
                if $crate::support::server::uring_works() {
                    super::$name($crate::support::Io::Uring);
                }
            }

            #[test]
            fn poll() {
                super::$name($crate::support::Io::Poll);
            }
        }
    )+ };
}
pub(crate) use on_both;
