//! What the operator sees: the access log and the debug log.

pub mod access_log;
pub mod log;
