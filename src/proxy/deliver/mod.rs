//! What is stored, or is being stored, as one client gets it: its conditions, its range, the head, and the body from
//! wherever that is (RFC 9110 sections 13 to 15). All of 200, 206, 304, 412 and 416 is decided here.

pub mod follow;
pub mod growing;
pub mod lent;
pub mod relay;
pub mod silent;

use crate::downstream::head;
use std::sync::Arc;

use super::exchange::Exchange;
use crate::cache::aside::Shelf;
use crate::cache::memory::StoredBody;
use crate::cache::stored_file::StoredFile;
use crate::downstream::client::{Client, Out};
use crate::downstream::readahead::Heat;
use crate::downstream::reply::Reply;
use crate::error::Error;
use crate::http::conditional::{self, Validators, Verdict};
use crate::http::fields::Fields;
use crate::http::multipart::{Multipart, content_range};
use crate::http::range::{self, Selection, Span};
use crate::http::request::{Method, Version};
use crate::http::response::HeadWriter;
use crate::rt::Runtime;
use growing::Growing;

/// A response that may be sent, whole or in parts.
pub struct Representation<'a> {
    /// Its status; conditions and ranges are for a 200.
    pub status: u16,
    /// Its reason phrase.
    pub reason: &'a [u8],
    /// Its fields, but for those about the length. Without a Date it gets ours.
    pub fields: Fields,
    /// What conditions are held against.
    pub validators: Validators<'a>,
    /// Its body.
    pub body: Body<'a>,
}

/// Where the bytes of a body are.
pub enum Body<'a> {
    /// In a file.
    File(StoredFile),
    /// In memory, or put aside.
    StoredBody(StoredBody),
    /// In a file that still grows.
    Growing(Growing<'a>),
}

/// What goes out of a body.
enum Part {
    /// These bytes, which may be all.
    One(Span),
    /// Several parts, with what stands between them.
    Several(Multipart),
}

/// What a range comes to.
enum Plan {
    /// A head without its length, and what goes with it.
    Part { status: u16, head: HeadWriter, length: u64, part: Part },
    /// All of a body whose length nobody knows.
    Endless(HeadWriter),
    /// Nothing of a body of so many bytes is what was asked for (RFC 9110 section 15.5.17).
    Unsatisfiable(u64),
}

/// Sends what of it the request asks for.
pub async fn deliver<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    response: Representation<'_>,
) -> Reply {
    let Representation { status: whole, reason, fields, validators, mut body } = response;
    let shelf = &exchange.context.shared.store.aside;
    let (request, keep, out) = (exchange.request, exchange.keep(), client.out());
    let is_dated = fields.contains("date");
    let (mut selection, mut size) = (Selection::Whole, body.size());
    if whole == 200 {
        match conditional::evaluate(&request.method, &request.fields, &validators) {
            Verdict::NotModified => {
                let described = HeadWriter::new(304).fields(&head::not_modified(&fields));
                let bytes = finish(exchange, described, is_dated, keep);
                return Reply::ended(304, None, keep, out.send(&bytes).await);
            }
            Verdict::PreconditionFailed => return client.send_empty(412, keep).await,
            Verdict::Proceed => {}
        }
        (selection, size) = body.select(exchange, &validators).await;
    }
    let (status, described, length, part) = match plan(selection, size, whole, reason, fields) {
        Plan::Part { status, head, length, part } => (status, head, length, part),
        Plan::Endless(described) => {
            return endless(exchange, client, (whole, described), is_dated, &body).await;
        }
        Plan::Unsatisfiable(size) => {
            let refused = head::local(416, 0).field("Content-Range", format!("bytes */{size}"));
            return Reply::ended(416, Some(0), keep, out.send(&exchange.finish(refused, keep)).await);
        }
    };
    let length = (status != 204).then_some(length);
    let with_length = |head: HeadWriter, length: u64| head.field("Content-Length", length.to_string());
    let described = length.into_iter().fold(described, with_length);
    let described = if whole == 200 { described.field("Accept-Ranges", "bytes") } else { described };
    // Asked before the head goes out: until then nothing is promised.
    let far = match (&body, &part) {
        (Body::Growing(growing), Part::One(span)) if status == 206 => {
            growing.fetch_far(exchange, &out, *span).await
        }
        _ => None,
    };
    let bytes = finish(exchange, described, is_dated, keep);
    let sent = async {
        match (part, far) {
            _ if request.method == Method::Head => out.send(&bytes).await,
            (_, Some(far)) => {
                out.send_more(&bytes).await?;
                far.send(exchange, &out).await
            }
            (Part::One(span), None) => body.send(shelf, &out, &bytes, span).await,
            (Part::Several(multipart), None) => {
                out.send_more(&bytes).await?;
                for (part_head, span) in multipart.parts() {
                    body.send(shelf, &out, part_head, span).await?;
                }
                out.send(multipart.end()).await
            }
        }
    };
    Reply::ended(status, length, keep, sent.await)
}

fn plan(selection: Selection, size: Option<u64>, whole: u16, reason: &[u8], fields: Fields) -> Plan {
    match (selection, size) {
        (Selection::Whole, Some(length)) => {
            let head = HeadWriter::with_reason(whole, reason).fields(&fields);
            Plan::Part { status: whole, head, length, part: Part::One(Span { first: 0, end: length }) }
        }
        (Selection::Part { first, last }, _) => {
            let span = Span { first, end: last + 1 };
            let head = HeadWriter::new(206).field("Content-Range", content_range(span, size));
            let head = head.fields(&head::part_fields(fields));
            Plan::Part { status: 206, head, length: span.count(), part: Part::One(span) }
        }
        (Selection::Parts(spans), Some(size)) => {
            let multipart = Multipart::new(spans, size, fields.get("content-type"), head::boundary());
            let head = HeadWriter::new(206).fields(&head::several_parts(fields, &multipart));
            Plan::Part { status: 206, head, length: multipart.length(), part: Part::Several(multipart) }
        }
        (Selection::Unsatisfiable, Some(size)) => Plan::Unsatisfiable(size),
        (Selection::Whole | Selection::Parts(_) | Selection::Unsatisfiable, None) => {
            Plan::Endless(HeadWriter::with_reason(whole, reason).fields(&fields))
        }
    }
}

/// A body of unknown length: chunks for HTTP/1.1, and for HTTP/1.0 everything until the close.
async fn endless<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    (status, described): (u16, HeadWriter),
    is_dated: bool,
    body: &Body<'_>,
) -> Reply {
    let (is_head, chunked) =
        (exchange.request.method == Method::Head, exchange.request.version == Version::Http11);
    let keep = exchange.keep() && (chunked || is_head);
    let described = if chunked { described.field("Transfer-Encoding", "chunked") } else { described };
    let (bytes, out) = (finish(exchange, described, is_dated, keep), client.out());
    let sent = async {
        out.send(&bytes).await?;
        match body {
            Body::Growing(growing) if !is_head => growing.send_all(&out, chunked).await,
            Body::File(_) | Body::StoredBody(_) | Body::Growing(_) => Ok(()),
        }
    };
    Reply::ended(status, None, keep, out.until_close(!chunked, sent).await)
}

/// Ends a head. One that is dated already keeps the origin's date.
fn finish<R: Runtime>(exchange: &Exchange<'_, R>, head: HeadWriter, is_dated: bool, keep: bool) -> Vec<u8> {
    if is_dated { exchange.finish_dated(head, keep) } else { exchange.finish(head, keep) }
}

impl Body<'_> {
    /// Its bytes, as far as anybody knows.
    fn size(&self) -> Option<u64> {
        match self {
            Self::File(file) => Some(file.info().size),
            Self::StoredBody(stock) => Some(stock.count()),
            Self::Growing(growing) => growing.length(),
        }
    }

    /// What a range selects of it, and its size, where that is needed for it.
    async fn select<R: Runtime>(
        &self,
        exchange: &Exchange<'_, R>,
        validators: &Validators<'_>,
    ) -> (Selection, Option<u64>) {
        let (method, fields) = (&exchange.request.method, &exchange.request.fields);
        match (self.size(), self) {
            (None, Self::Growing(growing)) => {
                let near = exchange.context.shared.config.limits.far_range;
                growing.select(method, fields, validators, near).await
            }
            (size, _) => (range::select(method, fields, size.unwrap_or(0), validators), size),
        }
    }

    /// Sends a head, and these bytes behind it.
    async fn send<R: Runtime>(
        &mut self,
        shelf: &Arc<Shelf>,
        out: &Out<'_, R>,
        head: &[u8],
        span: Span,
    ) -> Result<(), Error> {
        match self {
            _ if span.first == span.end => out.send(head).await,
            Self::File(file) => {
                out.send_more(head).await?;
                match file {
                    StoredFile::Open(entry) => {
                        out.send_file(&entry.file, span.first, span.end, Heat::Unknown).await
                    }
                    StoredFile::Lent(file) => lent::send(file, out, span).await,
                }
            }
            Self::StoredBody(stock) => silent::send(stock, shelf, out, head, span.first, span.end).await,
            Self::Growing(growing) => growing.send(out, head, span).await,
        }
    }
}
