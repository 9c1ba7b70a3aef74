//! Serving a client from a file that still grows. The one whose request started the fill is
//! served so too.

use std::sync::Arc;

use super::client::Client;
use super::exchange::Exchange;
use super::hit::unsatisfiable;
use super::reply::Reply;
use super::warm::{Heat, WINDOW};
use super::{far, head, pass};
use crate::error::{Error, Kind, Side};
use crate::http::caching::stored::OF_ONE_USER;
use crate::http::chunked::{CHUNK_END, LAST_CHUNK, chunk_head};
use crate::http::conditional::{self, Validators, Verdict};
use crate::http::etag::etag;
use crate::http::fields::Fields;
use crate::http::multipart::{Multipart, content_range};
use crate::http::range::{self, Selection, Span};
use crate::http::request::{Method, Version};
use crate::http::response::HeadWriter;
use crate::key::Key;
use crate::outcome::Outcome;
use crate::rt::Runtime;
use crate::rt::remote_wake::Waiter;
use crate::store::fill::{Answer, Fill, Follower, NoFile, Progress};
use crate::sys::{clock, socket};

/// Joins a fill that somebody else has started. `None` if the file is there by now.
pub async fn join<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    key: &Key,
    fill: Arc<Fill>,
) -> Option<Reply> {
    if exchange.log.is_on() {
        let path = exchange.context.shared.store.display(key);
        exchange.log.debug(format_args!("{path} download in progress - response follows it"));
    }
    exchange.outcome.set(Some(Outcome::Follow));
    let follower = fill.follow(0);
    serve(exchange, client, &fill, follower, Role::Follower).await
}

/// Whose request the fill is.
#[derive(PartialEq, Eq, Debug)]
pub enum Role {
    /// This one's; and its whole body, where that is in memory anyway.
    Leader(Option<Vec<u8>>),
    /// Another's: what the origin said to that client alone is not for this one.
    Follower,
}

/// Waits for the answer's head, then sends it and the body as it comes. `None` if there is a file
/// to look up instead.
pub async fn serve<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    fill: &Fill,
    follower: Result<Follower, NoFile>,
    role: Role,
) -> Option<Reply> {
    let Ok(waiter) = Waiter::new() else { return Some(client.send_empty(500, false).await) };
    let joined = match follower {
        Ok(follower) => fill.answer(&waiter).await.map(|answer| (follower, answer)),
        Err(no_file) => Err(no_file),
    };
    match joined {
        Ok((follower, answer)) => Some(send(exchange, client, &answer, &follower, &waiter, role).await),
        Err(NoFile::Again) => None,
        Err(NoFile::Declined(why)) => Some(pass::run(exchange, client, why).await),
        Err(NoFile::Failed(error)) => {
            let with_body = exchange.request.method != Method::Head;
            Some(client.send_error(&error, exchange.keep(), with_body).await)
        }
    }
}

async fn send<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    answer: &Answer,
    follower: &Follower,
    waiter: &Waiter,
    role: Role,
) -> Reply {
    let (request, keep) = (exchange.request, exchange.keep());
    // The tag that hits will have, where that is known already: it names the same bytes. What is
    // checked with the origin keeps the origin's tag.
    let plain = answer.kept.is_none();
    let hit = answer.length.zip(answer.modified).filter(|_| plain);
    let tag = hit.map(|(length, secs)| etag(length, secs * 1000));
    let validators = Validators {
        etags: [answer.head.fields.get("etag"), tag.as_deref().map(str::as_bytes)],
        last_modified: answer.modified,
        now: clock::unix_secs(),
    };
    match conditional::evaluate(&request.method, &request.fields, &validators) {
        Verdict::NotModified => return not_modified(exchange, client, answer, keep).await,
        Verdict::PreconditionFailed => return client.send_empty(412, keep).await,
        Verdict::Proceed => {}
    }
    let mut fields = answer.head.fields.clone();
    let at_hand = match role {
        Role::Leader(at_hand) => at_hand,
        Role::Follower => {
            if let Some(kept) = &answer.kept {
                fields = head::kept_fields(&kept.head, None);
            }
            OF_ONE_USER.iter().for_each(|name| fields.remove(name));
            grow_older(&mut fields, follower);
            None
        }
    };
    let (selection, size) = match answer.length {
        Some(size) => (range::select(&request.method, &request.fields, size, &validators), Some(size)),
        None => select_unknown(exchange, follower, waiter, &validators).await,
    };
    let (status, span) = match (selection, size) {
        (Selection::Whole, Some(size)) => (200, Span { first: 0, end: size }),
        (Selection::Part { first, last }, _) => (206, Span { first, end: last + 1 }),
        (Selection::Parts(spans), Some(size)) => {
            let multipart = Multipart::new(spans, size, fields.get("content-type"), head::boundary());
            return send_parts(exchange, client, answer, fields, follower, waiter, &multipart).await;
        }
        (Selection::Unsatisfiable, Some(size)) => return unsatisfiable(exchange, client, size, keep).await,
        (_, None) => return send_unknown(exchange, client, answer, fields, follower, waiter).await,
    };
    let direct = match status {
        206 if at_hand.is_none() => far::fetch(exchange, &client.out(), answer, follower, waiter, span).await,
        _ => None,
    };
    let described = match status {
        200 => HeadWriter::with_reason(200, &answer.head.reason).fields(&fields),
        _ => HeadWriter::new(206)
            .field("Content-Range", content_range(span, size))
            .fields(&head::part_fields(fields)),
    };
    let described = described.field("Content-Length", span.count().to_string());
    let bytes = finish(exchange, answer, described.field("Accept-Ranges", "bytes"), keep);
    let sent = async {
        if request.method == Method::Head {
            return client.out().send(&bytes).await;
        }
        if let Some(direct) = direct {
            client.out().send_more(&bytes).await?;
            return direct.send(exchange, &client.out()).await;
        }
        let body = part(at_hand.as_deref().unwrap_or_default(), span.first, span.end);
        let sent = client.out().send_with_body(&bytes, body).await?;
        drop(at_hand);
        send_known(client, answer, follower, waiter, span.first + sent as u64, span.end).await
    };
    Reply::ended(status, Some(span.count()), keep, sent.await)
}

/// What a range selects of a body whose length nobody has told, and that length if it is known by now.
/// A range whose end is there, or near, needs no length; any other gets the whole.
async fn select_unknown<R: Runtime>(
    exchange: &Exchange<'_, R>,
    follower: &Follower,
    waiter: &Waiter,
    validators: &Validators<'_>,
) -> (Selection, Option<u64>) {
    let (method, fields) = (&exchange.request.method, &exchange.request.fields);
    // A body sent whole keeps the framing that everybody else gets.
    let of_known = |size| {
        let selection = range::select(method, fields, size, validators);
        let needed = (selection != Selection::Whole).then_some(size);
        (selection, needed)
    };
    if let Some(size) = follower.size() {
        return of_known(size);
    }
    let Some((first, last)) = range::closed(method, fields, validators) else {
        return (Selection::Whole, None);
    };
    let near = exchange.context.shared.config.limits.far_range;
    let mut seen = 0;
    loop {
        match follower.next(seen, waiter).await {
            Progress::Upto(stored) if stored > last => return (Selection::Part { first, last }, None),
            Progress::Upto(stored) if last - stored <= near => seen = stored,
            Progress::End(size) if follower.size() == Some(size) => return of_known(size),
            // What follows is kept for all who have not got it: the whole goes on from its beginning.
            Progress::Upto(_) | Progress::Piece(..) | Progress::End(_) | Progress::Broken(_) => {
                return (Selection::Whole, None);
            }
        }
    }
}

/// Several parts of a known length in one body.
async fn send_parts<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    answer: &Answer,
    fields: Fields,
    follower: &Follower,
    waiter: &Waiter,
    multipart: &Multipart,
) -> Reply {
    let keep = exchange.keep();
    let bytes = finish(exchange, answer, head::several_parts(fields, multipart), keep);
    let sent = async {
        client.out().send(&bytes).await?;
        for (part_head, span) in multipart.parts() {
            client.out().send(part_head).await?;
            send_known(client, answer, follower, waiter, span.first, span.end).await?;
        }
        client.out().send(multipart.end()).await
    };
    Reply::ended(206, Some(multipart.length()), keep, sent.await)
}

/// An answer that says how old it is, is older for those who come later (RFC 9111 section 5.1).
fn grow_older(fields: &mut Fields, follower: &Follower) {
    let age = fields.only("age").and_then(|age| std::str::from_utf8(age).ok()?.parse::<u64>().ok());
    if let Some(age) = age {
        fields.remove("age");
        let age = age.saturating_add(follower.pace().took.as_secs());
        fields.push(b"Age", age.to_string().as_bytes());
    }
}

/// The bytes from `first` to `end`, as far as they are there.
fn part(bytes: &[u8], first: u64, end: u64) -> &[u8] {
    let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[within(first)..within(end)]
}

/// Ends a head; that of an answer which is checked with the origin has the origin's date.
fn finish<R: Runtime>(exchange: &Exchange<'_, R>, answer: &Answer, head: HeadWriter, keep: bool) -> Vec<u8> {
    if answer.kept.is_some() { exchange.finish_dated(head, keep) } else { exchange.finish(head, keep) }
}

async fn not_modified<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    answer: &Answer,
    keep: bool,
) -> Reply {
    if answer.kept.is_some() {
        let bytes = exchange.finish_dated(head::not_modified(&answer.head.fields), keep);
        return Reply::ended(304, None, keep, client.out().send(&bytes).await);
    }
    let mut described = HeadWriter::new(304);
    // The latter four because a 200 would have them (RFC 9110 section 15.4.5).
    for name in
        ["Last-Modified", "Content-Type", "ETag", "Cache-Control", "Content-Location", "Expires", "Vary"]
    {
        for value in answer.head.fields.all(name) {
            described = described.field(name, value);
        }
    }
    Reply::ended(304, None, keep, client.out().send(&exchange.finish(described, keep)).await)
}

/// A body whose length the head has told.
async fn send_known<R: Runtime>(
    client: &Client<R>,
    answer: &Answer,
    follower: &Follower,
    waiter: &Waiter,
    first: u64,
    end: u64,
) -> Result<(), Error> {
    let mut position = first;
    while position < end {
        match follower.next(position, waiter).await {
            Progress::Upto(stored) => {
                let to = stored.min(end);
                client.out().send_file(&answer.file, position, to, heat(position, stored)).await?;
                position = to;
            }
            Progress::Piece(bytes, skip) => {
                let want = usize::try_from(end - position).unwrap_or(usize::MAX);
                let bytes = &bytes[skip..][..want.min(bytes.len() - skip)];
                client.out().send(bytes).await?;
                position += bytes.len() as u64;
            }
            Progress::End(_) => return Err(Error::new(Side::Origin, Kind::Truncated)),
            Progress::Broken(error) => return Err(error),
        }
    }
    Ok(())
}

/// A body of unknown length: chunks for HTTP/1.1, and for HTTP/1.0 everything until the close.
async fn send_unknown<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    answer: &Answer,
    fields: Fields,
    follower: &Follower,
    waiter: &Waiter,
) -> Reply {
    let chunked = exchange.request.version == Version::Http11;
    let keep = exchange.keep() && (chunked || exchange.request.method == Method::Head);
    let mut described = HeadWriter::with_reason(200, &answer.head.reason).fields(&fields);
    if chunked {
        described = described.field("Transfer-Encoding", "chunked");
    }
    let bytes = finish(exchange, answer, described, keep);
    let sent = async {
        client.out().send(&bytes).await?;
        if exchange.request.method == Method::Head {
            return Ok(());
        }
        send_pieces(client, answer, follower, waiter, chunked).await
    };
    if chunked {
        return Reply::ended(200, None, keep, sent.await);
    }
    // The close is the body's end: until that is reached, any end of ours must look different.
    socket::reset_on_close(&client.socket);
    let sent = sent.await;
    if sent.is_ok() {
        socket::close_normally(&client.socket);
    }
    Reply::ended(200, None, keep, sent)
}

async fn send_pieces<R: Runtime>(
    client: &Client<R>,
    answer: &Answer,
    follower: &Follower,
    waiter: &Waiter,
    chunked: bool,
) -> Result<(), Error> {
    let out = client.out();
    let mut position = 0;
    loop {
        let progress = follower.next(position, waiter).await;
        let length = match &progress {
            Progress::Upto(stored) => stored - position,
            Progress::Piece(bytes, skip) => (bytes.len() - skip) as u64,
            Progress::End(_) if chunked => return out.send(LAST_CHUNK).await,
            Progress::End(_) => return Ok(()),
            Progress::Broken(error) => return Err(error.clone()),
        };
        if chunked {
            out.send_more(chunk_head(usize::try_from(length).unwrap_or(usize::MAX)).as_ref()).await?;
        }
        match progress {
            Progress::Upto(stored) => {
                out.send_file(&answer.file, position, stored, heat(position, stored)).await?;
            }
            Progress::Piece(bytes, skip) => out.send(&bytes[skip..]).await?,
            Progress::End(_) | Progress::Broken(_) => {}
        }
        if chunked {
            out.send(CHUNK_END).await?;
        }
        position += length;
    }
}

/// What was just written is in memory; what a follower who is far behind asks for may be no more.
fn heat(position: u64, stored: u64) -> Heat {
    if stored - position <= WINDOW { Heat::Warm } else { Heat::Unknown }
}
