//! A finished file: conditions, range, head, and the body by sendfile.

use std::time::SystemTime;

use super::client::Client;
use super::warm::Heat;
use super::{Exchange, Reply, head};
use crate::http::conditional::{self, Validators, Verdict};
use crate::http::request::Method;
use crate::http::response::HeadWriter;
use crate::http::{date, mime, range};
use crate::key::Key;
use crate::rt::Runtime;
use crate::store::Entry;

/// Answers from the file.
pub async fn serve<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    key: &Key,
    entry: Entry,
) -> Reply {
    let (request, keep) = (exchange.request, exchange.keep());
    let millis = unix_millis(entry.modified);
    let tag = etag(entry.size, millis);
    let modified = millis / 1000;
    let validators = Validators { etags: [Some(tag.as_bytes()), None], last_modified: Some(modified) };
    let described = |status| {
        HeadWriter::new(status)
            .field("Last-Modified", date::format(modified))
            .field("Content-Type", mime::by_name(key.file_name().as_bytes()))
            .field("ETag", &tag)
    };
    match conditional::evaluate(&request.method, &request.fields, &validators) {
        Verdict::NotModified => {
            let sent = client.out().send(&head::finish(described(304), keep)).await;
            return Reply::ended(304, None, keep, sent);
        }
        Verdict::PreconditionFailed => return client.send_empty(412, keep).await,
        Verdict::Proceed => {}
    }
    let (status, first, end) = match range::select(&request.method, &request.fields, entry.size, &validators)
    {
        range::Selection::Whole => (200, 0, entry.size),
        range::Selection::Part { first, last } => (206, first, last + 1),
        range::Selection::Unsatisfiable => {
            return unsatisfiable(client, entry.size, keep).await;
        }
    };
    let mut described = described(status).field("Content-Length", (end - first).to_string());
    described = described.field("Accept-Ranges", "bytes");
    if status == 206 {
        described = described.field("Content-Range", content_range(first, end, entry.size));
    }
    let bytes = head::finish(described, keep);
    let sent = async {
        if request.method == Method::Head || first == end {
            return client.out().send(&bytes).await;
        }
        client.out().send_more(&bytes).await?;
        client.out().send_file(&entry.file, first, end, Heat::Unknown).await
    };
    Reply::ended(status, Some(end - first), keep, sent.await)
}

/// The whole is shorter than what was asked for (RFC 9110 section 15.5.17).
pub async fn unsatisfiable<R: Runtime>(client: &Client<R>, size: u64, keep: bool) -> Reply {
    let refused = head::local(416, 0).field("Content-Range", format!("bytes */{size}"));
    Reply::ended(416, Some(0), keep, client.out().send(&head::finish(refused, keep)).await)
}

/// The value of Content-Range for the bytes from `first` up to and without `end`.
pub fn content_range(first: u64, end: u64, size: u64) -> String {
    format!("bytes {first}-{}/{size}", end - 1)
}

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
fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = since.as_secs() as f64 * 1000.0 + f64::from(since.subsec_nanos()) / 1_000_000.0;
    (millis + 0.5).floor() as u64
}
