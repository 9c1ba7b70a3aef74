//! A response on its way to its file: the body is stored, whatever becomes of the client, and the whole file gets its
//! name.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use super::finish::{self, Ended};
use super::progress::{Progress, Start, Stop};
use super::request::OriginRequest;
use super::resume::{self, NoRest, Rest};
use super::splice;
use crate::cache::commit::Whole;
use crate::cache::fill::{Answer, Fill, Follower, NoFile};
use crate::cache::growing_file::GrowingFile;
use crate::cache::inflight::Permit;
use crate::cache::metadata::NewHead;
use crate::cache::partial::{self, Partial, append};
use crate::cache::room::Room;
use crate::http::date;
use crate::http::fields::Fields;
use crate::http::response::ResponseHead;
use crate::observe::log::RequestLog;
use crate::packages::listed::Package;
use crate::packages::rebuilt::Index;
use crate::proxy::exchange::{Context, Exchange};
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, spawn_guarded};
use crate::upstream::body::OriginBody;

/// A body up to this size that has come with its head is sent to its client from memory.
const AT_HAND: usize = 256 * 1024;

/// A response that is to be stored.
pub(crate) struct Storing<R: Runtime> {
    /// The request for the whole, without conditions.
    pub(crate) asked: OriginRequest,
    pub(crate) answer: ResponseHead,
    /// The fields for clients.
    pub(crate) fields: Fields,
    pub(crate) body: OriginBody<R>,
    pub(crate) partial: Partial,
    /// Its place in the line for a name.
    pub(crate) room: Room,
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
    let (length, file) = (start.end, GrowingFile::Named(Arc::clone(partial.file())));
    fill.announce(Answer { head: ResponseHead { fields, ..answer }, length, modified, file, kept });
    // Followed before the fetch goes on, so that not even its first bytes can pass by.
    let follower = fill.follow(0);
    let rest = Rest::new(asked, identity);
    let pending = index.as_ref().map(|index| Arc::clone(&index.pending));
    let disk = (&context.shared.store.pace, context.shared.config.fills.abandon);
    let progress = Progress::new(disk, &fill, partial, pending, start);
    let (context, log) = (Rc::clone(context), exchange.log.clone());
    let room = at_hand.is_some().then_some(room);
    Transfer { context, permit, room, body, rest, index, proof, log, progress }.begin(at_hand.as_deref());
    (fill, follower, at_hand)
}

/// A body on its way to its file.
struct Transfer<R: Runtime> {
    context: Rc<Context<R>>,
    permit: Permit,
    /// Its place in the line for a name, if its body is at hand. Not kept while a body is on its way, which may take
    /// long: those are as many as may be at the origin.
    room: Option<Room>,
    body: OriginBody<R>,
    rest: Rest,
    /// If it is an index: packages are compared with it before it gets its name.
    index: Option<Index>,
    proof: Option<Arc<Package>>,
    log: RequestLog,
    progress: Progress,
}

impl<R: Runtime> Transfer<R> {
    /// Stores a body that is at hand, or starts to fetch one that is not.
    fn begin(self, at_hand: Option<&[u8]>) {
        if let (Some(index), Some(_)) = (&self.index, at_hand) {
            index.pending.mark();
        }
        let (busy, partial) = (self.context.shared.stop.busy(), &self.progress.partial);
        let pace = &self.context.shared.store.pace;
        let bytes = match at_hand {
            Some(bytes) if !pace.is_slow() && self.proof.is_none() && !partial.place().is_remote() => bytes,
            // What was taken off the body already goes first.
            begun => return spawn_guarded::<R>(busy, self.run(begun.unwrap_or_default().to_vec())),
        };
        match pace.measured(|| append(partial.file(), bytes, 0)) {
            Ok(()) => {
                self.permit.fill().advance(bytes.len() as u64);
                self.commit(bytes.len() as u64);
            }
            Err(error) => spawn_guarded::<R>(busy, self.hand_over(bytes.to_vec(), error)),
        }
    }

    /// Body to file, then the file to its name. `begun` is the beginning of the body.
    async fn run(mut self, mut begun: Vec<u8>) {
        let had = self.progress.stored();
        loop {
            match self.store_body(begun).await {
                Ok(size) => return self.commit(size),
                Err(Stop::Origin(error)) => {
                    // The rest needs a place of its own at the origin.
                    self.body.close();
                    if self.progress.is_deserted() {
                        return self.desert().await;
                    }
                    let stored = self.progress.stored();
                    match self.rest.ask(&self.context, stored, error, &self.log).await {
                        Ok((body, start)) => {
                            self.body = body;
                            self.progress.start(start);
                        }
                        Err(why) => return self.give_up(why, had).await,
                    }
                }
                Err(Stop::Disk(bytes, error)) => return self.hand_over(bytes, error).await,
                Err(Stop::Deserted) => return self.desert().await,
            }
            begun = Vec::new();
        }
    }

    /// Stores the body, `piece` being its beginning; how long the file is.
    async fn store_body(&mut self, mut piece: Vec<u8>) -> Result<u64, Stop> {
        let Self { context, body, progress, .. } = self;
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
        progress.check_end()
    }

    /// Nobody wants it any more.
    async fn desert(self) {
        let path = self.permit.key().as_str();
        self.log.debug(format_args!("download of {path} abandoned - all clients have left"));
        let stored = self.progress.stored();
        partial::leave::<R>(self.progress.partial, stored).await;
        self.permit.withdraw();
    }

    /// There is no rest. What came is for the next request, if it is good; `had` bytes were there before.
    async fn give_up(self, why: NoRest, had: u64) {
        let stored = self.progress.stored();
        if why.keeps(had, stored) {
            partial::leave::<R>(self.progress.partial, stored).await;
        } else {
            drop(self.progress.partial);
        }
        let (path, error) = (self.permit.key().as_str().to_owned(), why.into_error());
        self.permit.fail(error.clone());
        self.log.debug(format_args!("download of {path} failed - {error}"));
    }

    /// After a disk error: the rest of the body goes to those who follow.
    async fn hand_over(self, piece: Vec<u8>, error: io::Error) {
        let Self { permit, mut body, progress, log, .. } = self;
        log.debug(format_args!("failed to save local file {error}"));
        drop(progress.partial);
        pass_on(permit, &mut body, piece).await;
    }

    /// Puts the whole file in line for its name. Clients have all its bytes by now or get them from the open file.
    fn commit(self, size: u64) {
        let Self { context, permit, room, index, proof, log, progress, .. } = self;
        let partial = progress.partial;
        let shared = Arc::clone(&context.shared);
        let committer = shared.store.committer(partial.place());
        // What it has is room on this machine.
        let room = room.filter(|_| !partial.place().is_remote());
        let room = room.unwrap_or_else(|| committer.rooms.take_anyway());
        let modified = permit.fill().announced().and_then(|response| response.modified);
        let path = if log.is_on() { shared.store.display(permit.key()) } else { String::new() };
        let busy = shared.stop.busy();
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
}

/// Passes the rest of a body that is not stored, `piece` first, to those who follow: through memory, paced by the
/// slowest. New requests start anew.
pub(crate) async fn pass_on<R: Runtime>(permit: Permit, body: &mut OriginBody<R>, mut piece: Vec<u8>) {
    permit.fill().lose_file();
    permit.leave();
    let waiter = Waiter::new();
    loop {
        if !piece.is_empty() && !permit.fill().hand_over(std::mem::take(&mut piece), &waiter).await {
            return;
        }
        match body.next(&mut piece).await {
            Ok(true) => {}
            Ok(false) => return permit.fill().complete(),
            Err(error) => return permit.fail(error),
        }
    }
}
