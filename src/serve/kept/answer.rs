//! A stored answer as the client gets it: its conditions, its range, the stored head and its age.

use super::super::client::Client;
use super::super::hit::{content_range, unsatisfiable};
use super::super::warm::Heat;
use super::super::{Reply, head};
use super::{Body, Kept, Wanted};
use crate::error::Error;
use crate::http::caching::freshness;
use crate::http::conditional::{self, Validators, Verdict};
use crate::http::range::{self, Selection};
use crate::http::request::Method;
use crate::http::response::HeadWriter;
use crate::outcome::Kept as How;
use crate::rt::Runtime;
use crate::sys::clock;

/// Answers with what is kept.
pub(super) async fn send<R: Runtime>(
    wanted: &Wanted<'_, '_, R>,
    client: &Client<R>,
    kept: &Kept,
    how: How,
) -> Reply {
    wanted.debug(&format!("is kept, {} - streaming to client", how.as_str()));
    let (request, keep, size) = (wanted.exchange.request, wanted.exchange.keep(), kept.size());
    let stored = &kept.head;
    // How long ago a file of which nothing is known was checked cannot be said.
    let age = (!stored.is_unknown()).then(|| freshness::age(stored, clock::unix_secs()));
    let fields = head::kept_fields(stored, age);
    let validators = Validators { etags: [stored.etag(), None], last_modified: stored.modified() };
    let mut selection = Selection::Whole;
    if stored.status == 200 {
        // Without a Last-Modified it is as old as its date (RFC 9111 section 4.3.2).
        let since = stored.modified().or(stored.date()).or(Some(stored.times.came));
        let conditions = Validators { last_modified: since, ..validators.clone() };
        match conditional::evaluate(&request.method, &request.fields, &conditions) {
            Verdict::NotModified => {
                let sent = client.out().send(&head::finish_dated(head::not_modified(&fields), keep)).await;
                return Reply::ended(304, None, keep, sent);
            }
            Verdict::PreconditionFailed => return client.send_empty(412, keep).await,
            Verdict::Proceed => {}
        }
        selection = range::select(&request.method, &request.fields, size, &validators);
    }
    let (status, first, end) = match selection {
        Selection::Whole => (stored.status, 0, size),
        Selection::Part { first, last } => (206, first, last + 1),
        Selection::Unsatisfiable => return unsatisfiable(client, size, keep).await,
    };
    let described = match selection {
        Selection::Part { .. } => {
            HeadWriter::new(206).field("Content-Range", content_range(first, end, size))
        }
        Selection::Whole | Selection::Unsatisfiable => HeadWriter::with_reason(status, &stored.reason),
    };
    let mut described = described.fields(&fields);
    let length = (status != 204).then_some(end - first);
    if let Some(length) = length {
        described = described.field("Content-Length", length.to_string());
    }
    if stored.status == 200 {
        described = described.field("Accept-Ranges", "bytes");
    }
    let bytes = head::finish_dated(described, keep);
    let end = if request.method == Method::Head { first } else { end };
    Reply::ended(status, length, keep, send_part(client, kept, &bytes, first, end).await)
}

async fn send_part<R: Runtime>(
    client: &Client<R>,
    kept: &Kept,
    head: &[u8],
    first: u64,
    end: u64,
) -> Result<(), Error> {
    let out = client.out();
    match &kept.body {
        _ if first == end => out.send(head).await,
        Body::File(entry) => {
            out.send_more(head).await?;
            out.send_file(&entry.file, first, end, Heat::Unknown).await
        }
        Body::Memory(bytes) => {
            let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            let part = &bytes[within(first)..within(end)];
            let sent = out.send_with_body(head, part).await?;
            out.send(&part[sent..]).await
        }
    }
}
