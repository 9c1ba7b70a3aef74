//! A miss: the origin is asked once, and its answer goes to the file that every client follows.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::client::Client;
use super::follow::Role;
use super::head::OriginRequest;
use super::rebuilt::Index;
use super::resume::{self, NoRest, Opened, Rest, Start};
use super::storable::storable;
use super::unstored::unstored;
use super::{Context, Exchange, Reply, Shared, begin, follow, form, head, pass, redirect, splice, whole};
use crate::config::Abandon;
use crate::error::{Error, Kind, Side};
use crate::http::date;
use crate::http::response::ResponseHead;
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::outcome::{Outcome, Why};
use crate::rt::{Runtime, blocking, share, spawn_guarded};
use crate::store::fill::{Answer, Fill};
use crate::store::inflight::Permit;
use crate::store::pace::Pace;
use crate::store::partial::{Partial, append};
use crate::store::room::Room;
use crate::sys::file;
use crate::upstream::body::OriginBody;

/// What a body has stored when it counts as long.
const LONG: u64 = 32 * 1024 * 1024;
/// A body up to this size that has come with its head is sent to its client from memory.
pub(super) const AT_HAND: usize = 256 * 1024;

/// Fetches the file and serves this client from it like any other. The fetch is a task of its own: it goes
/// on when the client leaves.
pub(super) async fn fetch<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    permit: Permit,
    room: Room,
) -> Reply {
    let context = exchange.context;
    let query = context.shared.config.fills.query;
    let asked = head::fill_request(&context.upstream.origin, exchange.request, query);
    exchange.log.debug(format_args!("proxying GET to {}", exchange.origin_url(&asked)));
    let opened = resume::open(exchange, client.hung_up(), permit.key(), &asked).await;
    let Opened { answer, body, left } = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind == Kind::Busy => {
            exchange.log.debug(format_args!("error with proxy request {error}"));
            // Only this client has gone: one of those who wait leads instead.
            permit.withdraw();
            return client.send_error(&error, false, true).await;
        }
        Err(error) => {
            exchange.log.debug(format_args!("error with proxy request {error}"));
            permit.fail(error.clone());
            return client.send_error(&error, exchange.keep(), true).await;
        }
    };
    let due = own_is_due(exchange, &asked, &answer, permit.key());
    if let (None, Some(why)) = (&left, due) {
        redirect::settle(body);
        permit.decline(why);
        drop(room);
        return Box::pin(pass::run(exchange, client, why)).await;
    }
    let begun = match left {
        Some(left) => Ok(left),
        None => begin::anew(context, permit.key(), &answer).await,
    };
    let (partial, start) = match begun {
        Ok(begun) => begun,
        Err(why) => {
            log_declined(exchange.log, &answer, why);
            permit.decline(why);
            drop(room);
            exchange.outcome.set(Some(Outcome::Pass(why)));
            return pass::hand_on(exchange, client, answer, body).await;
        }
    };
    exchange.outcome.set(Some(Outcome::Miss));
    take(exchange, client, permit, Taken { asked, answer, body, partial, room: Some(room), start }).await
}

/// A response that is to be stored.
pub(super) struct Taken<R: Runtime> {
    /// The request for the whole, without conditions.
    pub(super) asked: OriginRequest,
    pub(super) answer: ResponseHead,
    pub(super) body: OriginBody<R>,
    pub(super) partial: Partial,
    pub(super) room: Option<Room>,
    pub(super) start: Start,
}

/// Stores a response, and serves this client from the file.
pub(super) async fn take<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    permit: Permit,
    Taken { asked, answer, mut body, mut partial, room, start }: Taken<R>,
) -> Reply {
    let context = exchange.context;
    let is_fresh = start.stored == 0;
    if exchange.log.is_on() {
        let path = context.shared.store.display(permit.key());
        exchange.log.debug(format_args!("saving local file to {path}.in-progress"));
    }
    let fill = Arc::clone(permit.fill());
    partial.hold(body.take_naming(), &fill);
    let at_hand = start.end.filter(|_| is_fresh).and_then(|_| body.at_hand(AT_HAND));
    // What is at hand breaks off no more.
    let identity = if at_hand.is_none() {
        resume::identify(exchange, &asked, &answer, &partial, start.end)
    } else {
        None
    };
    let index = Index::named(&context.shared, permit.key(), exchange.log);
    if start.stored > 0 {
        index.iter().for_each(|index| index.note(start.stored, start.end));
        fill.advance(start.stored);
    }
    fill.announce(describe(answer, start.end, partial.file()));
    // Followed before the fetch goes on, so that not even its first bytes can pass by.
    let follower = fill.follow(0);
    let rest = Rest::new(asked, identity);
    let (context, log) = (Rc::clone(context), exchange.log.clone());
    let fetch = Fetch { context, permit, partial, room, body, start, rest, index, log };
    begin(fetch, at_hand.as_deref());
    match follow::serve(exchange, client, &fill, follower, Role::Leader(at_hand)).await {
        Some(reply) => reply,
        None => client.send_empty(500, false).await,
    }
}

/// A body on its way to its file.
pub(super) struct Fetch<R: Runtime> {
    pub(super) context: Rc<Context<R>>,
    pub(super) permit: Permit,
    pub(super) partial: Partial,
    /// Its place in the line for a name. Not kept while a body is on its way, which may take long: those
    /// are as many as may be at the origin.
    pub(super) room: Option<Room>,
    pub(super) body: OriginBody<R>,
    pub(super) start: Start,
    pub(super) rest: Rest,
    /// If it is an index: packages are compared with it before it gets its name.
    pub(super) index: Option<Index>,
    pub(super) log: RequestLog,
}

/// Stores a body that is at hand, or starts to fetch one that is not.
pub(super) fn begin<R: Runtime>(mut fetch: Fetch<R>, at_hand: Option<&[u8]>) {
    fetch.room = fetch.room.filter(|_| at_hand.is_some());
    if let (Some(index), Some(_)) = (&fetch.index, at_hand) {
        index.mark();
    }
    let busy = fetch.context.shared.stop.busy();
    let pace = &fetch.context.shared.store.pace;
    let bytes = match at_hand {
        Some(bytes) if !pace.is_slow() => bytes,
        // What was taken off the body already goes first.
        begun => {
            let begun = begun.unwrap_or_default().to_vec();
            return spawn_guarded::<R>(busy, run(fetch, begun));
        }
    };
    match pace.measured(|| append(fetch.partial.file(), bytes, 0)) {
        Ok(()) => {
            fetch.permit.fill().advance(bytes.len() as u64);
            whole::commit(fetch, bytes.len() as u64);
        }
        Err(error) => {
            let bytes = bytes.to_vec();
            spawn_guarded::<R>(busy, async move {
                let Fetch { permit, partial, mut body, log, .. } = fetch;
                unstored(permit, partial, &mut body, bytes, &error, &log).await;
            });
        }
    }
}

/// Why another answer is due to a client that says more than the fill did, or says it in another form.
fn own_is_due<R: Runtime>(
    exchange: &Exchange<'_, R>,
    asked: &OriginRequest,
    answer: &ResponseHead,
    key: &Key,
) -> Option<Why> {
    let why = storable(answer, key, &exchange.context.shared.config).err()?;
    let own = if head::is_denied(answer.status) { Why::Denied } else { why };
    if matches!(own, Why::Denied | Why::Vary) && head::says_more(exchange.request, asked) {
        return Some(own);
    }
    form::differs(exchange.request).then_some(Why::OtherForm)
}

fn log_declined(log: &RequestLog, answer: &ResponseHead, why: Why) {
    if (200..300).contains(&answer.status) {
        log.debug(format_args!("not saved - {}", why.as_str()));
    } else {
        let status = answer.status;
        log.debug(format_args!(
            "statusCode {status} from backend not in 200 range - proxying back to caller"
        ));
    }
}

/// The answer as the clients of this fill get it.
fn describe(answer: ResponseHead, length: Option<u64>, file: &Arc<file::Locked>) -> Answer {
    let modified = answer.fields.get("last-modified").and_then(date::parse);
    let mut fields = head::answer_fields(&answer.fields);
    fields.remove("content-encoding");
    fields.remove("accept-ranges");
    Answer { head: ResponseHead { fields, ..answer }, length, modified, file: Arc::clone(file), kept: None }
}

/// Why a body did not get into its file.
#[derive(Debug)]
pub enum Stop {
    /// The origin failed, or we did.
    Origin(Error),
    /// The disk refused; these bytes came and are not in the file.
    Disk(Vec<u8>, io::Error),
    /// Nobody wants them any more.
    Deserted,
}

/// How far the file is.
#[derive(Debug)]
pub struct Progress<'a> {
    fill: &'a Fill,
    partial: &'a Partial,
    pace: &'a Arc<Pace>,
    abandon: Abandon,
    start: Start,
    stored: u64,
    turn_end: u64,
    index: Option<&'a Index>,
}

impl<'a> Progress<'a> {
    /// What is in the file from `start` may be had already.
    fn new(
        shared: &'a Shared,
        fill: &'a Fill,
        partial: &'a Partial,
        start: Start,
        index: Option<&'a Index>,
    ) -> Self {
        fill.advance(start.stored);
        Self {
            fill,
            partial,
            pace: &shared.store.pace,
            abandon: shared.config.fills.abandon,
            start,
            stored: start.stored,
            turn_end: start.stored + share::slice(),
            index,
        }
    }

    /// So many more are in it: followers may have them.
    pub fn advance(&mut self, count: usize) {
        self.stored += count as u64;
        self.index.iter().for_each(|index| index.note(self.stored, self.start.end));
        self.fill.advance(self.stored);
    }

    /// An end before the one that was told: the origin errs, or the parts are not of one file.
    fn check_end(&self) -> Result<(), Stop> {
        let is_early = self.start.skip > 0 || self.start.end.is_some_and(|end| self.stored < end);
        if is_early { Err(wrong_length()) } else { Ok(()) }
    }

    /// Is it to be given up, since nobody follows it?
    fn is_deserted(&self) -> bool {
        let is_whole = self.start.end == Some(self.stored);
        !is_whole && self.abandon.applies(self.stored, self.start.end) && self.fill.abandon()
    }

    /// Is the next write for the pool? Not while the disk keeps up, since the pool costs more; but a
    /// long body will sooner or later find the disk behind, and then small requests would wait too.
    pub fn is_off_loop(&self) -> bool {
        self.pace.is_slow() || (self.stored >= LONG && share::is_shared())
    }

    /// Runs `write` with the file and the offset behind what is there, on this thread or on the
    /// pool, so that a worker never waits for the disk for long.
    pub async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&file::Locked, u64) -> T + Send + 'static,
    ) -> Result<T, Stop> {
        if !self.is_off_loop() {
            return Ok(self.pace.measured(|| write(self.partial.file(), self.stored)));
        }
        let (file, at, pace) = (Arc::clone(self.partial.file()), self.stored, Arc::clone(self.pace));
        let written = blocking::run(&blocking::DISK, move || pace.measured(|| write(&file, at))).await;
        written.map_err(|error| Stop::Origin(Error::io(Side::Us, &error)))
    }

    /// Writes a piece behind what is there, less what is there already. It keeps its memory only.
    pub async fn store(&mut self, piece: &mut Vec<u8>) -> Result<(), Stop> {
        if self.start.skip > 0 {
            let skip = usize::try_from(self.start.skip).map_or(piece.len(), |skip| skip.min(piece.len()));
            self.start.skip -= skip as u64;
            piece.drain(..skip);
        }
        if self.start.end.is_some_and(|end| piece.len() as u64 > end - self.stored.min(end)) {
            return Err(wrong_length());
        }
        let bytes = std::mem::take(piece);
        let write = move |file: &file::Locked, at| {
            let wrote = append(file, &bytes, at);
            (bytes, wrote)
        };
        let (bytes, wrote) = self.write(write).await?;
        if let Err(error) = wrote {
            return Err(Stop::Disk(bytes, error));
        }
        self.advance(bytes.len());
        *piece = bytes;
        Ok(())
    }

    /// Lets other tasks have their turn, once enough has been stored since the last time; ends the
    /// fetch if nobody wants it.
    pub async fn turn<R: Runtime>(&mut self) -> Result<(), Stop> {
        if self.is_deserted() {
            return Err(Stop::Deserted);
        }
        if self.stored >= self.turn_end {
            self.partial.notes().look(self.stored);
            R::turn().await;
            share::turned();
            self.turn_end = self.stored + share::slice();
        }
        Ok(())
    }
}

fn wrong_length() -> Stop {
    Stop::Origin(Error::with(Side::Origin, Kind::Protocol, "not the length that was told"))
}

/// The fetch: body to file, then the file to its name.
async fn run<R: Runtime>(mut fetch: Fetch<R>, mut begun: Vec<u8>) {
    let had = fetch.start.stored;
    loop {
        match store(&mut fetch, begun).await {
            Ok(size) => return whole::commit(fetch, size),
            Err(Stop::Origin(error)) => {
                let Fetch { context, permit, partial, body, start, rest, index, log, .. } = &mut fetch;
                // The rest needs a place of its own at the origin.
                body.close();
                if Progress::new(&context.shared, permit.fill(), partial, *start, index.as_ref())
                    .is_deserted()
                {
                    return desert(fetch).await;
                }
                match rest.ask(context, start.stored, error, log).await {
                    Ok((body, start)) => (fetch.body, fetch.start) = (body, start),
                    Err(why) => return give_up(fetch, why, had).await,
                }
            }
            Err(Stop::Disk(bytes, error)) => {
                let Fetch { permit, partial, mut body, log, .. } = fetch;
                return unstored(permit, partial, &mut body, bytes, &error, &log).await;
            }
            Err(Stop::Deserted) => return desert(fetch).await,
        }
        begun = Vec::new();
    }
}

/// Nobody wants it any more.
async fn desert<R: Runtime>(fetch: Fetch<R>) {
    let Fetch { permit, partial, start, log, .. } = fetch;
    log.debug(format_args!("download of {} abandoned - all clients have left", permit.key().as_str()));
    leave(partial, start.stored).await;
    permit.withdraw();
}

/// There is no rest. What came is for the next request, if it is good; `had` bytes were there before.
async fn give_up<R: Runtime>(fetch: Fetch<R>, why: NoRest, had: u64) {
    let Fetch { permit, partial, start, log, .. } = fetch;
    if why.keeps(had, start.stored) {
        leave(partial, start.stored).await;
    } else {
        drop(partial);
    }
    let (path, error) = (permit.key().as_str().to_owned(), why.into_error());
    permit.fail(error.clone());
    log.debug(format_args!("download of {path} failed - {error}"));
}

/// Leaves the file for a later fill. Its record may not be on the disk yet.
async fn leave(partial: Partial, stored: u64) {
    drop(blocking::run(&blocking::DISK, move || partial.leave(stored)).await);
}

/// Stores the body, `piece` being its beginning; how long the file is.
async fn store<R: Runtime>(fetch: &mut Fetch<R>, piece: Vec<u8>) -> Result<u64, Stop> {
    let Fetch { context, permit, partial, body, start, index, .. } = fetch;
    let mut progress = Progress::new(&context.shared, permit.fill(), partial, *start, index.as_ref());
    let moved = transfer(context, body, piece, &mut progress).await;
    start.stored = progress.stored;
    moved.and_then(|()| progress.check_end()).map(|()| start.stored)
}

async fn transfer<R: Runtime>(
    context: &Context<R>,
    body: &mut OriginBody<R>,
    mut piece: Vec<u8>,
    progress: &mut Progress<'_>,
) -> Result<(), Stop> {
    // What came with the head goes first, what is there already is passed over; then the rest may
    // move inside the kernel.
    if !piece.is_empty() {
        progress.store(&mut piece).await?;
    }
    while (progress.start.skip > 0 || body.is_buffered())
        && body.next(&mut piece).await.map_err(Stop::Origin)?
    {
        progress.store(&mut piece).await?;
    }
    splice::to_file(&context.pipes, body, progress).await?;
    while body.next(&mut piece).await.map_err(Stop::Origin)? {
        progress.store(&mut piece).await?;
        progress.turn::<R>().await?;
    }
    Ok(())
}
