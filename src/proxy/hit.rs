//! A finished file of the immutable class: a plain request is answered at once where that takes no disk.

use std::rc::Rc;
use std::sync::Arc;

use super::deliver::{Body, Representation, deliver};
use super::exchange::Exchange;
use super::open_files::{Freshness, Ready};
use crate::cache::Entry;
use crate::cache::lookup::SMALL;
use crate::cache::stored_file::{LentFile, Location, StoredFile};
use crate::downstream::client::Client;
use crate::downstream::readahead::Heat;
use crate::downstream::reply::Reply;
use crate::http::conditional::{self, Validators};
use crate::http::request::Method;
use crate::http::response::reason;
use crate::key::Key;
use crate::outcome::Outcome;
use crate::rt::{Runtime, fairness};
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
    let context = exchange.context;
    if context.shared.packages.comparisons.any() {
        return AtOnce::No;
    }
    let file = context.files.find(request.path(), &context.shared.store, Freshness::CurrentTick);
    file.map_or(AtOnce::No, |file| send_plain(exchange, client, file))
}

/// Is the whole file wanted, on a connection that stays?
fn is_plain<R: Runtime>(exchange: &Exchange<'_, R>) -> bool {
    let request = exchange.request;
    request.method == Method::Get && conditional::is_plain(&request.fields) && exchange.keep()
}

/// Sends a file whose bytes are in memory by one call or two that do not wait: head and body from
/// our own memory, or the head and a first slice of the file.
fn send_plain<R: Runtime>(exchange: &Exchange<'_, R>, client: &Client<R>, file: Rc<Ready>) -> AtOnce {
    let (size, kept) = (file.entry.info.size, file.has_body());
    if !kept && !file.is_warm(fairness::quantum()) {
        return AtOnce::No;
    }
    debug(exchange, &file);
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
async fn send_lent<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    key: Key,
    entry: Entry,
) -> Reply {
    let told = exchange.context.shared.config.cache_status;
    if entry.info.size > SMALL || !is_plain(exchange) {
        let file = Rc::new(Ready::new(key, entry, 0, told));
        return serve(exchange, client, file).await;
    }
    let (size, cache) = (entry.info.size, &exchange.context.shared.cache);
    let lent = LentFile::new(cache, &key, Location::Tree, &entry);
    drop(entry);
    let read = move |entry| {
        let ready = Ready::read(key, entry, told);
        Ok(ready.has_body().then(|| ready.with_message(<[u8]>::to_vec)))
    };
    match lent.with::<R, _>(size, read).await {
        Ok(Some(message)) => Reply::ended(200, Some(size), true, client.out().send(&message).await),
        Ok(None) | Err(_) => client.send_empty(500, false).await,
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

/// Answers from a file that has just been opened.
pub async fn first<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    key: Key,
    entry: Entry,
) -> Reply {
    if entry.held.is_none() {
        exchange.outcome.set(Some(Outcome::Hit(None)));
        return send_lent(exchange, client, key, entry).await;
    }
    let file = exchange.context.files.keep(exchange.request.path(), key, entry);
    if is_plain(exchange) && !file.entry.place().is_remote() {
        match send_plain(exchange, client, Rc::clone(&file)) {
            AtOnce::Sent(reply) => return reply,
            AtOnce::Begun(rest, reply) => return go_on(client, rest, reply).await,
            AtOnce::No => {}
        }
    }
    serve(exchange, client, file).await
}

/// Answers from the file.
pub async fn serve<R: Runtime>(exchange: &Exchange<'_, R>, client: &Client<R>, file: Rc<Ready>) -> Reply {
    exchange.outcome.set(Some(Outcome::Hit(None)));
    debug(exchange, &file);
    let (etag, last_modified, fields) = (file.etag.clone(), Some(file.modified), file.fields());
    let (etags, now) = ([Some(etag.as_bytes()), None], clock::unix_secs());
    let validators = Validators { etags, last_modified, since: last_modified, now };
    let cache = &exchange.context.shared.cache;
    let stored = StoredFile::new(cache, &file.key, Location::Tree, Arc::clone(&file.entry));
    // One without a descriptor of its own does not stay open.
    let file = file.entry.held.is_some().then_some(file);
    let body = Body::File(stored);
    let (status, reason) = (200, reason(200).as_bytes());
    let reply = deliver(exchange, client, Representation { status, reason, fields, validators, body }).await;
    if reply.status == 200 && reply.end.is_ok() && exchange.request.method == Method::Get {
        file.iter().for_each(|file| file.note_sent());
    }
    reply
}

fn debug<R: Runtime>(exchange: &Exchange<'_, R>, file: &Ready) {
    if exchange.log.is_on() {
        let path = exchange.context.shared.store.display(&file.key);
        exchange.log.debug(format_args!("{path} is a file (cached) - streaming to client"));
    }
}
