//! Entity tags (RFC 9110 section 8.8.3): those of files, as the first version made them, and how tags compare.

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

/// The tag without the mark of a weak one.
pub(super) fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The weak comparison (RFC 9110 section 8.8.3.2).
pub(super) fn weakly_equal(one: &[u8], other: &[u8]) -> bool {
    opaque(one) == opaque(other)
}

/// The strong comparison.
pub(super) fn strongly_equal(one: &[u8], other: &[u8]) -> bool {
    one == other && !is_weak(one)
}

/// Is it marked as a weak one?
pub(super) fn is_weak(tag: &[u8]) -> bool {
    tag.starts_with(b"W/")
}
