//! HTTP/1.1 as values: bytes in, values out. No I/O, no clock, no configuration.
//!
//! A message that two peers could read in different ways is refused, never repaired: bare line feeds, two lengths,
//! a length beside a transfer coding, folded fields, blanks before a colon. That is strict for requests; in
//! responses equal repeated lengths are accepted (RFC 9112 section 6.3).
//!
//! [`request`] and [`response`] read and write heads, [`chunked`] frames bodies, [`fields`] holds a header section.
//! [`conditional`], [`range`], [`multipart`], [`date`], [`etag`] and [`mime`] serve a hit, [`identity`] and
//! [`retry_after`] a fill that is resumed; [`url`] resolves the reference in a Location; [`percent`] decodes.

mod bad_message;
pub mod body;
pub mod caching;
pub mod chunked;
pub mod conditional;
pub mod date;
pub mod etag;
pub mod fields;
mod head;
pub mod identity;
mod message;
pub mod mime;
pub mod multipart;
pub mod percent;
pub mod range;
pub mod request;
pub mod response;
pub mod retry_after;
mod target;
pub mod url;

pub use bad_message::BadMessage;
pub(crate) use head::is_text_byte;
