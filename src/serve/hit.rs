//! A finished file: conditions, range, head, and the body by sendfile; a small one from memory.

use std::rc::Rc;

use super::client::Client;
use super::exchange::Exchange;
use super::head;
use super::lent::{self, Lent, SMALL, Shelf};
use super::ready::{Asked, Ready};
use super::reply::Reply;
use super::warm::Heat;
use crate::error::Error;
use crate::http::conditional::{self, Validators, Verdict};
use crate::http::multipart::{Multipart, content_range};
use crate::http::range::{self, Span};
use crate::http::request::Method;
use crate::key::Key;
use crate::rt::{Runtime, fairness};
use crate::store::Entry;
use crate::sys::clock;

/// What became of the attempt to answer without waiting.
pub enum AtOnce {
    /// It is not that simple: answer in the ordinary way.
    No,
    /// All of it is sent, or the sending has failed.
    Sent(Reply),
    /// The client takes the rest later; then the answer is this.
    Begun(Rest, Reply),
}

/// What is left of a plain answer.
pub struct Rest {
    file: Rc<Ready>,
    /// Of the head and a body in memory.
    unsent: Vec<u8>,
    /// Where the body goes on in the file.
    at: u64,
}

/// Answers a plain GET of a file that is ready, without waiting.
pub fn at_once<R: Runtime>(exchange: &Exchange<'_, R>, client: &Client<R>) -> AtOnce {
    let request = exchange.request;
    let is_get = request.method == Method::Get && exchange.keep();
    // For whom one in absolute form is must be found out first.
    if !is_get || !request.is_origin_form() || !conditional::is_bare(&request.fields) {
        return AtOnce::No;
    }
    let asked = if R::RECEIVES_AHEAD { Asked::BeforeThisRound } else { Asked::JustNow };
    let context = exchange.context;
    if context.shared.comparisons.any() {
        return AtOnce::No;
    }
    let file = context.files.find(request.path(), &context.shared.store, asked);
    file.map_or(AtOnce::No, |file| send_plain(client, file))
}

/// Is the whole file wanted, on a connection that stays?
pub fn is_plain<R: Runtime>(exchange: &Exchange<'_, R>) -> bool {
    let request = exchange.request;
    request.method == Method::Get && conditional::is_plain(&request.fields) && exchange.keep()
}

/// Sends a file whose bytes are in memory by one call or two that do not wait: head and body from
/// our own memory, or the head and a first slice of the file.
fn send_plain<R: Runtime>(client: &Client<R>, file: Rc<Ready>) -> AtOnce {
    let (size, kept) = (file.entry.info.size, file.has_body());
    if !kept && !file.is_warm(fairness::quantum()) {
        return AtOnce::No;
    }
    let reply = Reply::sent(200, Some(size), true);
    let out = client.out();
    let message = file.with_message(|bytes| {
        out.send_now(bytes, !kept).map(|sent| bytes.get(sent..).map(<[u8]>::to_vec).unwrap_or_default())
    });
    let mut rest = Rest { unsent: Vec::new(), at: if kept { size } else { 0 }, file };
    match message {
        Err(error) => return AtOnce::Sent(reply.failed(error)),
        Ok(unsent) => rest.unsent = unsent,
    }
    if rest.unsent.is_empty() && rest.at < size {
        let turn = size.min(fairness::quantum());
        if let Err(error) = out.send_file_now(&rest.file.entry.file, &mut rest.at, turn) {
            return AtOnce::Sent(reply.failed(error));
        }
    }
    if rest.unsent.is_empty() && rest.at == size { AtOnce::Sent(reply) } else { AtOnce::Begun(rest, reply) }
}

/// Answers from a file for which there is no descriptor to stay open. A small one is read before the head is sent.
pub async fn send_lent<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    key: Key,
    entry: Entry,
) -> Reply {
    let told = exchange.context.shared.config.cache_status;
    if entry.info.size > SMALL || !is_plain(exchange) {
        let file = Rc::new(Ready::new(key, entry, 0, told));
        return serve_with(exchange, client, file).await;
    }
    let (size, lent) = (entry.info.size, Lent::new(&exchange.context.shared, &key, Shelf::Tree, &entry));
    drop(entry);
    let made = lent.with::<R, _>(size, move |entry| {
        let ready = Ready::read(key, entry, told);
        Ok(ready.has_body().then(|| ready.with_message(<[u8]>::to_vec)))
    });
    match made.await {
        Ok(Some(message)) => Reply::ended(200, Some(size), true, client.out().send(&message).await),
        Ok(None) | Err(_) => client.send_empty(500, false).await,
    }
}

/// Where the bytes of a body are.
enum Source {
    Open(Rc<Ready>),
    Lent(Lent),
}

impl Source {
    fn of<R: Runtime>(exchange: &Exchange<'_, R>, file: Rc<Ready>) -> Self {
        match lent::lent(&exchange.context.shared, &file.key, Shelf::Tree, &file.entry) {
            Some(lent) => Self::Lent(lent),
            None => Self::Open(file),
        }
    }

    async fn send<R: Runtime>(&self, client: &Client<R>, first: u64, end: u64) -> Result<(), Error> {
        match self {
            Self::Open(file) => client.out().send_file(&file.entry.file, first, end, Heat::Unknown).await,
            Self::Lent(lent) => lent.send(&client.out(), first, end).await,
        }
    }
}

/// Sends what is left.
pub async fn go_on<R: Runtime>(client: &Client<R>, rest: Rest, reply: Reply) -> Reply {
    let size = rest.file.entry.info.size;
    let sent = async {
        if rest.at == size {
            return client.out().send(&rest.unsent).await;
        }
        client.out().send_more(&rest.unsent).await?;
        let heat = if rest.file.is_warm(size) { Heat::Warm } else { Heat::Unknown };
        client.out().send_file(&rest.file.entry.file, rest.at, size, heat).await?;
        rest.file.note_sent();
        Ok(())
    };
    Reply::ended(reply.status, reply.length, reply.keep, sent.await)
}

/// Answers from the file.
pub async fn serve<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>, file: Rc<Ready>) -> Reply {
    if is_plain(exchange) {
        match send_plain(client, Rc::clone(&file)) {
            AtOnce::Sent(reply) => return reply,
            AtOnce::Begun(rest, reply) => return go_on(client, rest, reply).await,
            AtOnce::No => {}
        }
    }
    serve_with(exchange, client, file).await
}

/// The same in the ordinary way.
async fn serve_with<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    file: Rc<Ready>,
) -> Reply {
    let (request, keep, size) = (exchange.request, exchange.keep(), file.entry.info.size);
    let validators = Validators {
        etags: [Some(file.etag.as_bytes()), None],
        last_modified: Some(file.modified),
        now: clock::unix_secs(),
    };
    match conditional::evaluate(&request.method, &request.fields, &validators) {
        Verdict::NotModified => {
            let sent = client.out().send(&exchange.finish(file.describe(304), keep)).await;
            return Reply::ended(304, None, keep, sent);
        }
        Verdict::PreconditionFailed => return client.send_empty(412, keep).await,
        Verdict::Proceed => {}
    }
    let (status, first, end) = match range::select(&request.method, &request.fields, size, &validators) {
        range::Selection::Whole => (200, 0, size),
        range::Selection::Part { first, last } => (206, first, last + 1),
        range::Selection::Parts(spans) => return send_parts(exchange, client, file, spans, keep).await,
        range::Selection::Unsatisfiable => return unsatisfiable(exchange, client, size, keep).await,
    };
    let bytes = head_of(exchange, &file, status, first, end, keep);
    let source = Source::of(exchange, file);
    let sent = async {
        if request.method == Method::Head || first == end {
            return client.out().send(&bytes).await;
        }
        client.out().send_more(&bytes).await?;
        source.send(client, first, end).await?;
        if let (200, Source::Open(file)) = (status, &source) {
            file.note_sent();
        }
        Ok(())
    };
    Reply::ended(status, Some(end - first), keep, sent.await)
}

/// The head of an answer with the bytes from `first` up to and without `end`.
fn head_of<R: Runtime>(
    exchange: &Exchange<'_, R>,
    file: &Ready,
    status: u16,
    first: u64,
    end: u64,
    keep: bool,
) -> Vec<u8> {
    if status == 200 && keep {
        return file.with_message(|bytes| bytes[..file.head()].to_vec());
    }
    let mut described = file.describe(status).field("Content-Length", (end - first).to_string());
    described = described.field("Accept-Ranges", "bytes");
    if status == 206 {
        let range = content_range(Span { first, end }, Some(file.entry.info.size));
        described = described.field("Content-Range", range);
    }
    exchange.finish(described, keep)
}

/// Several parts in one body, each from the file.
async fn send_parts<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    file: Rc<Ready>,
    spans: Vec<Span>,
    keep: bool,
) -> Reply {
    let size = file.entry.info.size;
    let multipart = Multipart::new(spans, size, Some(file.content_type().as_bytes()), head::boundary());
    let described = file.describe_as(206, &multipart.content_type());
    let described = described.field("Content-Length", multipart.length().to_string());
    let bytes = exchange.finish(described.field("Accept-Ranges", "bytes"), keep);
    let source = Source::of(exchange, file);
    let sent = async {
        client.out().send_more(&bytes).await?;
        for (part_head, span) in multipart.parts() {
            client.out().send_more(part_head).await?;
            source.send(client, span.first, span.end).await?;
        }
        client.out().send(multipart.end()).await
    };
    Reply::ended(206, Some(multipart.length()), keep, sent.await)
}

/// The whole is shorter than what was asked for (RFC 9110 section 15.5.17).
pub async fn unsatisfiable<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    size: u64,
    keep: bool,
) -> Reply {
    let refused = head::local(416, 0).field("Content-Range", format!("bytes */{size}"));
    Reply::ended(416, Some(0), keep, client.out().send(&exchange.finish(refused, keep)).await)
}
