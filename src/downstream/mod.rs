//! The client's side of the transport: bytes to a client, at its pace. The twin of `upstream`.

pub mod buffers;
pub mod client;
pub mod evictable;
pub mod head;
pub mod rate;
pub mod readahead;
pub mod reply;
