//! The origin's answer on its way to the client, as it comes.

use super::silent;
use crate::cache::memory::StoredBody;
use crate::downstream::client::{Client, Out, unless};
use crate::downstream::head;
use crate::downstream::reply::Reply;
use crate::error::Error;
use crate::http::chunked::{CHUNK_END, LAST_CHUNK, chunk_head};
use crate::http::request::Version;
use crate::http::response::{HeadWriter, ResponseBody, ResponseHead};
use crate::proxy::exchange::Exchange;
use crate::proxy::fetch::splice;
use crate::proxy::passing::Passing;
use crate::rt::{Runtime, fairness};
use crate::upstream::body::OriginBody;

/// The head of an answer to a GET, for a client that has asked for no more.
pub async fn head_of<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    answer: &ResponseHead,
) -> Reply {
    let keep = exchange.keep();
    let (described, length) = describe(answer, ResponseBody::None, false);
    let sent = client.out().send(&exchange.finish(described, keep)).await;
    Reply::ended(answer.status, length, keep, sent)
}

/// Sends the origin's response to the client as it comes.
pub async fn to_client<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    answer: ResponseHead,
    body: impl Into<Passing<R>>,
) -> Reply {
    relay(exchange, &client.out(), client.gone(), answer, body, exchange.keep()).await
}

/// Sends the origin's answer to the client as it comes, until it has `gone`.
pub async fn relay<R: Runtime>(
    exchange: &Exchange<'_, R>,
    out: &Out<'_, R>,
    gone: impl Future<Output = ()>,
    answer: ResponseHead,
    body: impl Into<Passing<R>>,
    keep: bool,
) -> Reply {
    let Passing { begun, mut rest } = body.into();
    let request = exchange.request;
    let framing = answer.body(&request.method).unwrap_or(ResponseBody::UntilClose);
    let chunked = framing == ResponseBody::Chunked && request.version == Version::Http11;
    // An end that the origin did not prove is not claimed: a cache before us would keep a short file.
    let by_close = matches!(framing, ResponseBody::Chunked | ResponseBody::UntilClose) && !chunked;
    let keep = keep && !by_close;
    let (described, length) = describe(&answer, framing, chunked);
    let sent = async {
        out.send(&exchange.finish(described, keep)).await?;
        send_begun(exchange, out, begun, chunked).await?;
        send_body(exchange, out, &mut rest, chunked).await
    };
    Reply::ended(answer.status, length, keep, out.until_close(by_close, unless(gone, sent)).await)
}

/// The head for the client, and the Content-Length in it.
fn describe(answer: &ResponseHead, framing: ResponseBody, chunked: bool) -> (HeadWriter, Option<u64>) {
    let mut described = HeadWriter::with_reason(answer.status, &answer.reason);
    described = described.fields(&head::answer_fields(&answer.fields));
    let length = match framing {
        ResponseBody::Length(length) => Some(length),
        // The length of what is not sent: HEAD and 304 tell it all the same.
        ResponseBody::None if answer.status != 204 => answer
            .fields
            .get("content-length")
            .and_then(|value| std::str::from_utf8(value).ok())
            .and_then(|value| value.parse().ok()),
        ResponseBody::None | ResponseBody::Chunked | ResponseBody::UntilClose => None,
    };
    if let Some(length) = length {
        described = described.field("Content-Length", length.to_string());
    } else if chunked {
        described = described.field("Transfer-Encoding", "chunked");
    }
    (described, length)
}

/// Sends what has been read of a body. Its memory is free as soon as the client has it, or the disk.
async fn send_begun<R: Runtime>(
    exchange: &Exchange<'_, R>,
    out: &Out<'_, R>,
    begun: Vec<StoredBody>,
    chunked: bool,
) -> Result<(), Error> {
    for mut stock in begun {
        let count = stock.count();
        let head = chunk_head(usize::try_from(count).unwrap_or(usize::MAX));
        let head = if chunked { head.as_ref() } else { b"" };
        silent::send(&mut stock, &exchange.context.shared.store.aside, out, head, 0, count).await?;
        out.send_more(if chunked { CHUNK_END } else { b"" }).await?;
    }
    Ok(())
}

/// Sends a body as it comes, in chunks or as it is.
pub async fn send_body<R: Runtime>(
    exchange: &Exchange<'_, R>,
    out: &Out<'_, R>,
    body: &mut OriginBody<R>,
    chunked: bool,
) -> Result<(), Error> {
    let shelf = &exchange.context.shared.store.aside;
    body.pace();
    let mut piece = Vec::new();
    // What came with the head goes first; then the rest may move inside the kernel.
    while !chunked && body.is_buffered() && body.next(&mut piece).await? {
        silent::send_piece(shelf, out, &mut piece).await?;
    }
    piece = Vec::new();
    splice::to_client(&exchange.context.pipes, shelf, body, out).await?;
    let mut turn = 0;
    while body.next(&mut piece).await? {
        if chunked {
            // In one piece: nothing is in hand while its beginning waits.
            let head = chunk_head(piece.len());
            piece.splice(..0, head.as_ref().iter().copied());
            piece.extend_from_slice(CHUNK_END);
        }
        turn += piece.len() as u64;
        silent::send_piece(shelf, out, &mut piece).await?;
        if turn >= fairness::quantum() {
            // Nobody knows how long this takes.
            (turn, piece) = (0, Vec::new());
            out.writable().await?;
            fairness::yielded();
        }
    }
    if chunked { out.send(LAST_CHUNK).await } else { Ok(()) }
}
