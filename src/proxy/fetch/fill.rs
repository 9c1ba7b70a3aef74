//! A miss: the origin is asked once, and its answer goes to the file that every client follows.

use super::request::{self, OriginRequest};
use crate::downstream::head;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use futures_lite::future::or;

use super::finish::{self, Ended};
use super::progress::{Progress, Start, Stop};
use super::resume::{self, NoRest, Opened, Rest};
use super::storable::storable;
use super::unstored::unstored;
use super::{backpressure, form, origin, splice};
use crate::cache::commit::Whole;
use crate::cache::fill::{Answer, Fill, Follower, NoFile};
use crate::cache::inflight::Permit;
use crate::cache::metadata::NewHead;
use crate::cache::partial::{self, Partial, append};
use crate::cache::room::Room;
use crate::downstream::client::Client;
use crate::error::{Error, Kind, Side};
use crate::http::date;
use crate::http::fields::Fields;
use crate::http::response::ResponseHead;
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::outcome::{BypassReason, Outcome};
use crate::packages::index::Package;
use crate::packages::rebuilt::Index;
use crate::proxy::exchange::{Context, Exchange};
use crate::proxy::next::{Next, Role};
use crate::proxy::revalidated::invalidate;
use crate::rt::{Runtime, spawn_guarded};
use crate::upstream::body::OriginBody;

/// A body up to this size that has come with its head is sent to its client from memory.
const AT_HAND: usize = 256 * 1024;

/// Fetches the file once there is room for one more that waits for its name; this client follows it like any other.
pub(crate) async fn lead<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    permit: Permit,
) -> Next<R> {
    let gone = async {
        client.gone().await;
        Err(Error::with(Side::Proxy, Kind::Busy, "who asked hung up in the line for the disk"))
    };
    match or(async { Ok(backpressure::room(exchange).await) }, gone).await {
        Ok(Some(room)) => fetch(exchange, client, permit, room).await,
        Ok(None) => {
            exchange.log.debug(format_args!("not saved - {}", BypassReason::DiskBehind.as_str()));
            permit.decline(BypassReason::DiskBehind);
            Next::Pass(BypassReason::DiskBehind)
        }
        Err(error) => left(exchange, client, permit, &error).await,
    }
}

/// Only this client has gone: one of those who wait leads instead.
async fn left<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    permit: Permit,
    error: &Error,
) -> Next<R> {
    exchange.log.debug(format_args!("error with proxy request {error}"));
    permit.withdraw();
    Next::Done(client.send_error(error, false, true).await)
}

/// Asks the origin, and begins to store what it says. The fetch is a task of its own: it goes on when the client leaves.
async fn fetch<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    permit: Permit,
    room: Room,
) -> Next<R> {
    let context = exchange.context;
    let query = context.shared.config.fills.query;
    let asked = request::fill_request(&context.upstream.origin, exchange.request, query);
    exchange.log.debug(format_args!("proxying GET to {}", exchange.origin_url(&asked)));
    let opened = resume::open(exchange, client.gone(), permit.key(), &asked).await;
    let Opened { answer, body, left } = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind == Kind::Busy => return left(exchange, client, permit, &error).await,
        Err(error) => {
            exchange.log.debug(format_args!("error with proxy request {error}"));
            permit.fail(error.clone());
            return Next::Fail(error);
        }
    };
    let due = own_is_due(exchange, &asked, &answer, permit.key());
    if let (None, Some(why)) = (&left, due) {
        origin::settle(body);
        permit.decline(why);
        return Next::Pass(why);
    }
    let begun = match left {
        Some(left) => Ok(left),
        None => anew(context, permit.key(), &answer).await,
    };
    let (partial, start) = match begun {
        Ok(begun) => begun,
        Err(why) => {
            log_declined(exchange.log, &answer, why);
            permit.decline(why);
            exchange.outcome.set(Some(Outcome::Pass(why)));
            invalidate::note_missing(exchange, &answer);
            return Next::hand_on(answer, body);
        }
    };
    exchange.outcome.set(Some(Outcome::Miss));
    let (fields, room) = (client_fields(&answer), Some(room));
    let storing = Storing { asked, answer, fields, body, partial, room, start, kept: None, proof: None };
    let (fill, follower, at_hand) = store(exchange, permit, storing);
    Next::Follow(fill, follower, Role::Leader(at_hand))
}

/// Begins to store a response of which nothing is there yet.
async fn anew<R: Runtime>(
    context: &Context<R>,
    key: &Key,
    answer: &ResponseHead,
) -> Result<(Partial, Start), BypassReason> {
    let end = storable(answer, key, &context.shared.config)?;
    let partial = context.shared.cache.begin::<R>(key).await?;
    Ok((partial, Start { end, ..Start::default() }))
}

/// A response that is to be stored.
pub(crate) struct Storing<R: Runtime> {
    /// The request for the whole, without conditions.
    pub(crate) asked: OriginRequest,
    pub(crate) answer: ResponseHead,
    /// The fields for clients.
    pub(crate) fields: Fields,
    pub(crate) body: OriginBody<R>,
    pub(crate) partial: Partial,
    pub(crate) room: Option<Room>,
    pub(crate) start: Start,
    /// The stored head of a response of the revalidated class.
    pub(crate) kept: Option<NewHead>,
    /// What the whole file must be. Its clients do not get its end before that is known.
    pub(crate) proof: Option<Arc<Package>>,
}

/// What a client follows, and the whole body where it has come with the head.
pub(crate) type Filling = (Arc<Fill>, Result<Follower, NoFile>, Option<Vec<u8>>);

/// Stores a response.
pub(crate) fn store<R: Runtime>(exchange: &Exchange<'_, R>, permit: Permit, storing: Storing<R>) -> Filling {
    let Storing { asked, answer, fields, mut body, mut partial, room, start, kept, proof } = storing;
    let context = exchange.context;
    if exchange.log.is_on() {
        let path = context.shared.store.display(permit.key());
        exchange.log.debug(format_args!("saving local file to {path}.in-progress"));
    }
    let fill = Arc::clone(permit.fill());
    partial.hold(body.take_naming(), &fill);
    let at_hand = start.end.filter(|_| start.stored == 0).and_then(|_| body.at_hand(AT_HAND));
    // What is at hand breaks off no more.
    let identity = if at_hand.is_none() { resume::identify(exchange, &answer, start.end) } else { None };
    if kept.is_none() {
        resume::describe(exchange, &asked, &answer, &partial, identity.as_ref());
    }
    let index = Index::named(&context.shared, permit.key(), exchange.log);
    if start.stored > 0 {
        index.iter().for_each(|index| index.pending.note(start.stored, start.end));
        fill.advance(start.stored);
    }
    let modified = fields.get("last-modified").and_then(date::parse);
    let (length, file) = (start.end, Arc::clone(partial.file()));
    fill.announce(Answer { head: ResponseHead { fields, ..answer }, length, modified, file, kept });
    // Followed before the fetch goes on, so that not even its first bytes can pass by.
    let follower = fill.follow(0);
    let rest = Rest::new(asked, identity);
    let (context, log) = (Rc::clone(context), exchange.log.clone());
    begin(Fetch { context, permit, partial, room, body, start, rest, index, proof, log }, at_hand.as_deref());
    (fill, follower, at_hand)
}

/// The fields of a response as the clients of this fill get them.
pub(crate) fn client_fields(answer: &ResponseHead) -> Fields {
    let mut fields = head::answer_fields(&answer.fields);
    fields.remove("content-encoding");
    fields.remove("accept-ranges");
    fields
}

/// A body on its way to its file.
struct Fetch<R: Runtime> {
    context: Rc<Context<R>>,
    permit: Permit,
    partial: Partial,
    /// Its place in the line for a name. Not kept while a body is on its way, which may take long: those
    /// are as many as may be at the origin.
    room: Option<Room>,
    body: OriginBody<R>,
    start: Start,
    rest: Rest,
    /// If it is an index: packages are compared with it before it gets its name.
    index: Option<Index>,
    proof: Option<Arc<Package>>,
    log: RequestLog,
}

/// Stores a body that is at hand, or starts to fetch one that is not.
fn begin<R: Runtime>(mut fetch: Fetch<R>, at_hand: Option<&[u8]>) {
    fetch.room = fetch.room.filter(|_| at_hand.is_some());
    if let (Some(index), Some(_)) = (&fetch.index, at_hand) {
        index.pending.mark();
    }
    let busy = fetch.context.shared.stop.busy();
    let pace = &fetch.context.shared.store.pace;
    let bytes = match at_hand {
        Some(bytes) if !pace.is_slow() && fetch.proof.is_none() && !fetch.partial.place().is_remote() => {
            bytes
        }
        // What was taken off the body already goes first.
        begun => {
            let begun = begun.unwrap_or_default().to_vec();
            return spawn_guarded::<R>(busy, run(fetch, begun));
        }
    };
    match pace.measured(|| append(fetch.partial.file(), bytes, 0)) {
        Ok(()) => {
            fetch.permit.fill().advance(bytes.len() as u64);
            commit(fetch, bytes.len() as u64);
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
) -> Option<BypassReason> {
    let why = storable(answer, key, &exchange.context.shared.config).err()?;
    let own = if request::is_denied(answer.status) { BypassReason::Denied } else { why };
    if matches!(own, BypassReason::Denied | BypassReason::Vary) && request::says_more(exchange.request, asked)
    {
        return Some(own);
    }
    form::differs(exchange.request).then_some(BypassReason::OtherForm)
}

fn log_declined(log: &RequestLog, answer: &ResponseHead, why: BypassReason) {
    if (200..300).contains(&answer.status) {
        log.debug(format_args!("not saved - {}", why.as_str()));
    } else {
        let status = answer.status;
        log.debug(format_args!(
            "statusCode {status} from backend not in 200 range - proxying back to caller"
        ));
    }
}

/// The fetch: body to file, then the file to its name.
async fn run<R: Runtime>(mut fetch: Fetch<R>, mut begun: Vec<u8>) {
    let had = fetch.start.stored;
    loop {
        match store_body(&mut fetch, begun).await {
            Ok(size) => return commit(fetch, size),
            Err(Stop::Origin(error)) => {
                let Fetch { context, permit, partial, body, start, rest, index, log, .. } = &mut fetch;
                // The rest needs a place of its own at the origin.
                body.close();
                if progress(context, permit, partial, *start, index.as_ref()).is_deserted() {
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

/// How far a body is.
fn progress<'a, R: Runtime>(
    context: &'a Context<R>,
    permit: &'a Permit,
    partial: &'a Partial,
    start: Start,
    index: Option<&'a Index>,
) -> Progress<'a> {
    let shared = &context.shared;
    let disk = (&shared.store.pace, shared.config.fills.abandon);
    Progress::new(disk, permit.fill(), partial, start, index.map(|index| &index.pending))
}

/// Nobody wants it any more.
async fn desert<R: Runtime>(fetch: Fetch<R>) {
    let Fetch { permit, partial, start, log, .. } = fetch;
    log.debug(format_args!("download of {} abandoned - all clients have left", permit.key().as_str()));
    partial::leave::<R>(partial, start.stored).await;
    permit.withdraw();
}

/// There is no rest. What came is for the next request, if it is good; `had` bytes were there before.
async fn give_up<R: Runtime>(fetch: Fetch<R>, why: NoRest, had: u64) {
    let Fetch { permit, partial, start, log, .. } = fetch;
    if why.keeps(had, start.stored) {
        partial::leave::<R>(partial, start.stored).await;
    } else {
        drop(partial);
    }
    let (path, error) = (permit.key().as_str().to_owned(), why.into_error());
    permit.fail(error.clone());
    log.debug(format_args!("download of {path} failed - {error}"));
}

/// Stores the body, `piece` being its beginning; how long the file is.
async fn store_body<R: Runtime>(fetch: &mut Fetch<R>, piece: Vec<u8>) -> Result<u64, Stop> {
    let Fetch { context, permit, partial, body, start, index, .. } = fetch;
    let mut progress = progress(context, permit, partial, *start, index.as_ref());
    let moved = transfer(context, body, piece, &mut progress).await;
    start.stored = progress.stored();
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
        progress.store::<R>(&mut piece).await?;
    }
    while (progress.skips() || body.is_buffered()) && body.next(&mut piece).await.map_err(Stop::Origin)? {
        progress.store::<R>(&mut piece).await?;
    }
    splice::to_file(&context.pipes, body, progress).await?;
    while body.next(&mut piece).await.map_err(Stop::Origin)? {
        progress.store::<R>(&mut piece).await?;
        progress.turn::<R>().await?;
    }
    Ok(())
}

/// Puts the whole file in line for its name. Clients have all its bytes by now or get them from the
/// open file.
fn commit<R: Runtime>(fetch: Fetch<R>, size: u64) {
    let Fetch { context, permit, partial, room, index, proof, log, .. } = fetch;
    let shared = Arc::clone(&context.shared);
    let committer = shared.store.committer(partial.place());
    // What it has is room on this machine.
    let room = room.filter(|_| !partial.place().is_remote());
    let room = room.unwrap_or_else(|| committer.rooms.take_anyway());
    let modified = permit.fill().announced().and_then(|response| response.modified);
    let path = if log.is_on() { context.shared.store.display(permit.key()) } else { String::new() };
    let busy = context.shared.stop.busy();
    let (ending, end) = mpsc::channel();
    let noted = log.clone();
    let report = Box::new(move |outcome: io::Result<()>| {
        match outcome {
            Ok(()) => noted.debug(format_args!("renamed {path}.in-progress to {path}")),
            Err(error) => {
                noted.debug(format_args!("failed to rename {path}.in-progress to {path} - {error}"));
            }
        }
        drop::<mpsc::Sender<()>>(ending);
        drop(busy);
    });
    let whole = Whole { permit, partial, size, modified, room, dated: None, report };
    finish::commit(Ended { shared, whole, index, end }, proof, log);
}
