//! A stored answer as the client gets it: its conditions, its range, the stored head and its age.

use super::super::client::Client;
use super::super::head;
use super::super::hit::unsatisfiable;
use super::super::reply::Reply;
use super::super::warm::Heat;
use super::stored::{Body, Kept};
use super::wanted::{Wanted, may_use, why_stale};
use crate::error::Error;
use crate::http::caching::freshness;
use crate::http::conditional::{self, Validators, Verdict};
use crate::http::fields::Fields;
use crate::http::multipart::{Multipart, content_range};
use crate::http::range::{self, Selection, Span};
use crate::http::request::Method;
use crate::http::response::HeadWriter;
use crate::outcome::{Kept as How, Outcome};
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
    let now = clock::unix_secs();
    let left = freshness::left(stored, now, &wanted.policy);
    wanted.exchange.outcome.set(Some(match how {
        How::Hit => Outcome::Hit(Some(left)),
        How::Revalidated => Outcome::Revalidated,
        // In the place of what was there, or not: whoever asked knows.
        How::Fetched => wanted.exchange.outcome.get().unwrap_or(Outcome::Miss),
        How::Stale(why) => Outcome::Stale(why, -left),
    }));
    let validators = Validators { etags: [stored.etag(), None], last_modified: stored.modified(), now };
    let mut selection = Selection::Whole;
    if stored.status == 200 {
        // Without a Last-Modified it is as old as its date (RFC 9111 section 4.3.2).
        let since = stored.modified().or(stored.date()).or(Some(stored.times.came));
        let conditions = Validators { last_modified: since, ..validators.clone() };
        match conditional::evaluate(&request.method, &request.fields, &conditions) {
            Verdict::NotModified => {
                let sent =
                    client.out().send(&wanted.exchange.finish_dated(head::not_modified(&fields), keep)).await;
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
        Selection::Parts(spans) => return send_parts(wanted, client, kept, fields, spans).await,
        Selection::Unsatisfiable => return unsatisfiable(wanted.exchange, client, size, keep).await,
    };
    let mut described = if stored.status == 200 && status == 206 {
        HeadWriter::new(206)
            .field("Content-Range", content_range(Span { first, end }, Some(size)))
            .fields(&head::part_fields(fields))
    } else {
        HeadWriter::with_reason(status, &stored.reason).fields(&fields)
    };
    let length = (status != 204).then_some(end - first);
    if let Some(length) = length {
        described = described.field("Content-Length", length.to_string());
    }
    if stored.status == 200 {
        described = described.field("Accept-Ranges", "bytes");
    }
    let bytes = wanted.exchange.finish_dated(described, keep);
    let end = if request.method == Method::Head { first } else { end };
    Reply::ended(status, length, keep, send_part(client, kept, &bytes, first, end).await)
}

/// The origin could not be asked, or failed: what is kept will do, if the rules allow.
pub(super) async fn failed<R: Runtime>(
    wanted: &Wanted<'_, '_, R>,
    client: &Client<R>,
    error: &Error,
    kept: Option<Kept>,
) -> Reply {
    let exchange = wanted.exchange;
    exchange.log.debug(format_args!("error with proxy request {error}"));
    match kept.filter(|kept| may_use(wanted, kept, error)) {
        Some(kept) => {
            let why = why_stale(wanted, &kept, error);
            send(wanted, client, &kept, How::Stale(why)).await
        }
        None => client.send_error(error, exchange.keep(), exchange.request.method != Method::Head).await,
    }
}

/// Several parts in one body.
async fn send_parts<R: Runtime>(
    wanted: &Wanted<'_, '_, R>,
    client: &Client<R>,
    kept: &Kept,
    fields: Fields,
    spans: Vec<Span>,
) -> Reply {
    let multipart = Multipart::new(spans, kept.size(), fields.get("content-type"), head::boundary());
    let keep = wanted.exchange.keep();
    let bytes = wanted.exchange.finish_dated(head::several_parts(fields, &multipart), keep);
    let sent = async {
        client.out().send_more(&bytes).await?;
        for (part_head, span) in multipart.parts() {
            send_part(client, kept, part_head, span.first, span.end).await?;
        }
        client.out().send(multipart.end()).await
    };
    Reply::ended(206, Some(multipart.length()), keep, sent.await)
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
        Body::File(entry) | Body::Document(entry) => {
            out.send_more(head).await?;
            out.send_file(&entry.file, first, end, Heat::Unknown).await
        }
        Body::Lent(_, lent) => {
            out.send_more(head).await?;
            lent.send(&out, first, end).await
        }
        Body::Memory(bytes) => {
            let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            let part = &bytes[within(first)..within(end)];
            let sent = out.send_with_body(head, part).await?;
            out.send(&part[sent..]).await
        }
    }
}
