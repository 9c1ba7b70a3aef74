//! Answering one request: the only place where HTTP, the cache and the origin meet.

mod authority;
pub mod backpressure;
mod begin;
pub mod buffers;
pub mod client;
pub mod comparisons;
pub mod far;
pub mod fill;
pub mod follow;
mod form;
pub mod head;
pub mod hit;
pub mod kept;
pub mod lent;
pub mod lookup;
pub mod pass;
pub mod rate;
pub mod ready;
pub mod rebuilt;
pub mod redirect;
pub mod resume;
pub mod revalidate;
pub mod splice;
mod storable;
mod unstored;
pub mod upload;
pub mod warm;
mod whole;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, FillQuery};
use crate::error::{Error, Kind, Side};
use crate::fd_budget::{Descriptors, Purpose};
use crate::http::request::{Method, RequestHead};
use crate::http::response::HeadWriter;
use crate::key::Key;
use crate::observe::log::{Lane, Log, RequestLog};
use crate::outcome::{Outcome, Why};
use crate::route::{self, Classes, Route};
use crate::rt::bell::Bell;
use crate::rt::{Runtime, timeout};
use crate::stop::Stop;
use crate::store::inflight::Turn;
use crate::store::sets::Sets;
use crate::store::{Entry, Found, Store};
use crate::upstream::{EXHAUSTED, Upstream};
use buffers::Buffers;
use client::Client;
use head::OriginRequest;
use kept::member::Member;
use ready::{Asked, Ready, ReadyFiles};
use splice::Pipes;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub config: Config,
    /// The cache directory and the fills in progress.
    pub store: Store,
    /// Index sets, and what their clients have seen of them.
    pub sets: Sets<Member>,
    /// Files that clients have had checked.
    pub revalidated: revalidate::Revalidated,
    /// New package indexes that are being compared with what there is.
    pub comparisons: Arc<comparisons::Comparisons>,
    /// The way to stdout and stderr.
    pub log: Arc<Log>,
    /// Who has how many descriptors.
    pub descriptors: Descriptors,
    /// The end of the program, and what it waits for.
    pub stop: Arc<Stop>,
    /// What we are called where redirects lead, if they are followed.
    pub redirects: Option<redirect::Name>,
}

/// What one worker has.
pub struct Context<R: Runtime> {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// This worker's way to the origin.
    pub upstream: Rc<Upstream<R>>,
    /// This worker's copy, so that workers do not share its scratch memory.
    pub classes: Classes,
    /// Pipes for splicing.
    pub pipes: Pipes,
    /// Rings when the program is to end, for connections that idle.
    pub closing: Bell,
    /// Files asked for lately.
    pub files: ReadyFiles,
    /// Where bytes from clients land first.
    pub scratch: RefCell<Vec<u8>>,
    /// Bytes of heads that are not complete.
    pub head_bytes: Cell<usize>,
    /// Spare buffers for requests.
    pub buffers: Buffers,
    /// Where access lines go.
    pub lines: Lane,
}

/// How a request ended.
#[derive(Debug)]
pub struct Reply {
    /// The status sent, or that would have been had the client stayed.
    pub status: u16,
    /// The Content-Length sent.
    pub length: Option<u64>,
    /// The connection stays open.
    pub keep: bool,
    /// The body ended as announced, or how not.
    pub end: Result<(), Error>,
}

impl Reply {
    /// The same answer, but for its end.
    #[must_use]
    pub fn failed(self, error: Error) -> Self {
        Self { keep: false, end: Err(error), ..self }
    }

    /// An answer sent whole.
    pub fn sent(status: u16, length: Option<u64>, keep: bool) -> Self {
        Self { status, length, keep, end: Ok(()) }
    }

    /// The same, unless its sending failed.
    pub fn ended(status: u16, length: Option<u64>, keep: bool, end: Result<(), Error>) -> Self {
        Self { status, length, keep: keep && end.is_ok(), end }
    }
}

/// One request on its way: what every step needs.
pub struct Exchange<'a, R: Runtime> {
    /// The worker.
    pub context: &'a Rc<Context<R>>,
    /// The request.
    pub request: &'a RequestHead,
    /// Its debug lines.
    pub log: &'a RequestLog,
    /// What the cache has to do with the answer; nothing with one of our own making.
    pub outcome: Cell<Option<Outcome>>,
    /// Redirects followed for it.
    pub redirects: Cell<usize>,
}

impl<'a, R: Runtime> Exchange<'a, R> {
    /// A request that has just come.
    pub fn new(context: &'a Rc<Context<R>>, request: &'a RequestHead, log: &'a RequestLog) -> Self {
        Self { context, request, log, outcome: Cell::new(None), redirects: Cell::new(0) }
    }

    /// Ends the head of an answer that the cache had to do with.
    pub fn finish(&self, head: HeadWriter, keep: bool) -> Vec<u8> {
        head::finish(self.tell(head), keep)
    }

    /// The same for a head that has its date.
    pub fn finish_dated(&self, head: HeadWriter, keep: bool) -> Vec<u8> {
        head::finish_dated(self.tell(head), keep)
    }

    fn tell(&self, head: HeadWriter) -> HeadWriter {
        match self.outcome.get() {
            Some(outcome) if self.context.shared.config.cache_status => {
                head::tell(head, outcome, self.redirects.get())
            }
            _ => head,
        }
    }

    /// May the connection stay open after the answer? Not with a body that nobody has read.
    pub fn keep(&self) -> bool {
        self.request.keep_alive() && self.request.body.is_empty() && !self.context.shared.stop.is_asked()
    }

    /// The URL that is `asked` of the origin, for logs.
    pub fn origin_url(&self, asked: &OriginRequest) -> String {
        self.context.upstream.origin.shown(&asked.target)
    }
}

/// Answers one request.
pub async fn respond<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>) -> Reply {
    let (request, arrived) = (exchange.request, Instant::now());
    if exchange.log.is_on() {
        let target = String::from_utf8_lossy(&request.target);
        exchange.log.debug(format_args!("INCOMING REQUEST - {} {target}", request.method.as_str()));
    }
    if !request.is_origin_form()
        && let Some(reply) = authority::refuse(exchange, client).await
    {
        return reply;
    }
    if exchange.context.shared.comparisons.any() {
        Box::pin(comparisons::wait(exchange)).await;
    }
    let is_check = revalidate::is_wanted(exchange);
    if !is_check
        && matches!(request.method, Method::Get | Method::Head)
        && let Some(file) =
            exchange.context.files.find(request.path(), &exchange.context.shared.store, Asked::JustNow)
    {
        return hit(exchange, client, file).await;
    }
    match route::decide(request, &exchange.context.classes) {
        Route::Cache(key) if is_check => Box::pin(revalidate::serve(exchange, client, key)).await,
        Route::Cache(key) => cached(exchange, client, key).await,
        // Boxed: it has much to remember, and most requests are of the other class.
        Route::Check(key) => Box::pin(kept::serve(exchange, client, &key, arrived)).await,
        Route::Pass(why) => pass::run(exchange, client, why).await,
        Route::Directory(path) => match lookup::find::<R>(&exchange.context.shared, &path).await {
            Found::Directory => directory(exchange, client, &path).await,
            Found::File(_) | Found::Absent | Found::Unusable(_) => {
                pass::run(exchange, client, Why::NoName).await
            }
        },
        Route::BadPath(reason) => {
            exchange.log.debug(format_args!("failed to parse pathname - sending 400 to client - {reason}"));
            client.send_empty(400, exchange.keep()).await
        }
    }
}

/// Times a request looks again that was overtaken by the end of a fill.
const LOOKS: usize = 8;

/// A file up to this size is read at one go: it does without a descriptor to stay open where these are short.
const SMALL: u64 = 64 * 1024;
/// A longer one waits so long for those that are open for speed only to give way.
const GIVE_WAY: Duration = Duration::from_millis(50);

/// What the cache has. A file has a descriptor to stay open if there is one; without it is to be [`lent`].
async fn look_up<R: Runtime>(exchange: &Exchange<'_, R>, key: &Key) -> Found {
    let context = exchange.context;
    let descriptors = &context.shared.descriptors;
    let held = descriptors.try_take(Purpose::File, 1);
    let entry = match open(context, key).await {
        Found::File(entry) => entry,
        other @ (Found::Directory | Found::Absent | Found::Unusable(_)) => return other,
    };
    if held.is_some() || entry.info.size <= SMALL {
        return Found::File(Entry { held, ..entry });
    }
    drop(entry);
    let held = timeout::<R, _>(GIVE_WAY, descriptors.take(Purpose::File, 1)).await;
    let held = held.ok().and_then(Result::ok);
    match open(context, key).await {
        Found::File(entry) => Found::File(Entry { held, ..entry }),
        other @ (Found::Directory | Found::Absent | Found::Unusable(_)) => other,
    }
}

/// Looks; where the system has no descriptor left, once more when those that are only kept for speed have gone.
async fn open<R: Runtime>(context: &Context<R>, key: &Key) -> Found {
    let found = lookup::find::<R>(&context.shared, key.as_str()).await;
    if !matches!(found, Found::Unusable(Why::Descriptors)) {
        return found;
    }
    exhausted(context).await;
    lookup::find::<R>(&context.shared, key.as_str()).await
}

/// The system has no descriptor left: all that is only kept for speed goes, here and at the other workers.
async fn exhausted<R: Runtime>(context: &Context<R>) {
    context.shared.sets.close_idle();
    context.shared.descriptors.budget().alarm();
    R::sleep(EXHAUSTED).await;
}

async fn cached<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>, key: Key) -> Reply {
    let store = &exchange.context.shared.store;
    for _ in 0..LOOKS {
        let endings = store.inflight.endings();
        let found = look_up(exchange, &key).await;
        if !matches!(found, Found::Absent) {
            return present(exchange, client, key, found).await;
        }
        // Not to join a fill that waits for this very request.
        if head::has_looped(exchange.request) {
            return pass::looped(exchange, client).await;
        }
        let turn = match may_fill(exchange) {
            Ok(()) => store.inflight.enter(&key),
            // What is being fetched anyway answers a HEAD too.
            Err(Why::HeadOnMiss) => match store.inflight.get(&key) {
                Some(fill) => Turn::Follow(fill),
                None => return pass::run(exchange, client, Why::HeadOnMiss).await,
            },
            Err(why) => return pass::run(exchange, client, why).await,
        };
        match turn {
            Turn::Full => return pass::run(exchange, client, Why::FillsFull).await,
            Turn::Follow(fill) => {
                if let Some(reply) = follow::join(exchange, client, &key, fill).await {
                    return reply;
                }
            }
            Turn::Lead(permit) if store.inflight.endings() == endings => {
                return backpressure::lead(exchange, client, permit).await;
            }
            // A fill has ended between the look-up and the turn.
            Turn::Lead(permit) => match look_up(exchange, &key).await {
                Found::Absent => return backpressure::lead(exchange, client, permit).await,
                Found::File(_) | Found::Directory | Found::Unusable(_) => permit.withdraw(),
            },
        }
    }
    pass::run(exchange, client, Why::Disk).await
}

/// Something has the name.
async fn present<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    key: Key,
    found: Found,
) -> Reply {
    match found {
        Found::File(entry) if entry.held.is_none() => {
            exchange.outcome.set(Some(Outcome::Hit(None)));
            hit::send_lent(exchange, client, key, entry).await
        }
        Found::File(entry) => {
            let file = exchange.context.files.keep(exchange.request.path(), key, entry);
            hit(exchange, client, file).await
        }
        Found::Directory => directory(exchange, client, key.as_str()).await,
        Found::Unusable(why) => unusable(exchange, client, why).await,
        Found::Absent => pass::run(exchange, client, Why::Disk).await,
    }
}

/// Something has the name that is not to be served.
async fn unusable<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>, why: Why) -> Reply {
    if why != Why::Descriptors {
        return pass::run(exchange, client, why).await;
    }
    // The file may be there: nobody else is to be asked for it.
    let error = Error::with(Side::Us, Kind::Busy, why.as_str());
    exchange.log.debug(format_args!("{error}"));
    client.send_error(&error, exchange.keep(), exchange.request.method != Method::Head).await
}

async fn hit<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>, file: Rc<Ready>) -> Reply {
    exchange.outcome.set(Some(Outcome::Hit(None)));
    if exchange.log.is_on() {
        let path = exchange.context.shared.store.display(&file.key);
        exchange.log.debug(format_args!("{path} is a file (cached) - streaming to client"));
    }
    hit::serve(exchange, client, file).await
}

async fn directory<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>, path: &str) -> Reply {
    let path = exchange.context.shared.store.display_path(path);
    exchange.log.debug(format_args!("{path} is a directory - sending 400 to client"));
    client.send_empty(400, exchange.keep()).await
}

/// Has a redirect that we followed led back to us with this request? Whoever sent it may be the one that it would wait
/// for.
fn has_returned<R: Runtime>(exchange: &Exchange<'_, R>) -> bool {
    let returned = |name: &redirect::Name| name.is_in(&exchange.request.fields);
    exchange.context.shared.redirects.as_ref().is_some_and(returned)
}

/// May the answer to this request be stored, as far as the request tells?
fn may_fill<R: Runtime>(exchange: &Exchange<'_, R>) -> Result<(), Why> {
    let request = exchange.request;
    if has_returned(exchange) {
        Err(Why::Returned)
    } else if request.method == Method::Head {
        Err(Why::HeadOnMiss)
    } else if !request.body.is_empty() {
        Err(Why::RequestBody)
    } else if request.fields.contains("authorization") {
        Err(Why::Authorization)
    } else if request.query().is_some() && exchange.context.shared.config.fills.query == FillQuery::Pass {
        Err(Why::Query)
    } else {
        Ok(())
    }
}
