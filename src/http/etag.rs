//! The tags of files, as the original made them: of size and date.

use std::time::SystemTime;

/// The tag of a file of `size` bytes, last modified at `millis`.
pub fn etag(size: u64, millis: u64) -> String {
    format!("\"{size}-{millis}\"")
}

/// Milliseconds since 1970, rounded as the original's runtime rounds them: in floating point, half
/// up. The tags of a directory must stay what they were.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the very imprecision is wanted; the value is neither negative nor beyond 2^53"
)]
pub fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = since.as_secs() as f64 * 1000.0 + f64::from(since.subsec_nanos()) / 1_000_000.0;
    (millis + 0.5).floor() as u64
}
