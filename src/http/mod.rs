//! HTTP/1.1 as values: bytes in, values out. No I/O, no clock, no configuration.

pub mod chunked;
pub mod conditional;
pub mod date;
pub mod fields;
pub mod mime;
pub mod range;
pub mod request;
pub mod response;
