//! What every step of a request needs: the worker with its share of the program, and the request itself.

use super::fetch::request::OriginRequest;
use crate::downstream::head;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::fetch::splice::Pipes;
use super::loops::Name;
use super::open_files::ReadyFiles;
use super::recent_checks::Revalidated;
use crate::cache::Store;
use crate::cache::lookup::Cache;
use crate::config::Config;
use crate::downstream::buffers::Buffers;
use crate::downstream::client::Client;
use crate::downstream::reply::Reply;
use crate::error::Error;
use crate::fd_budget::Descriptors;
use crate::http::request::{Method, RequestHead};
use crate::http::response::HeadWriter;
use crate::observe::log::{Lane, Log, RequestLog};
use crate::outcome::Outcome;
use crate::packages::tables::Tables;
use crate::route::Classes;
use crate::rt::Runtime;
use crate::rt::budget::Holder;
use crate::rt::notify::Notify;
use crate::stop::Stop;
use crate::upstream::Upstream;

/// Retries of a request that lost a race with the end of a fill.
pub const LOOKS: usize = 8;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub config: Config,
    /// The cache directory and the fills in progress.
    pub store: Arc<Store>,
    /// The same as requests see it: files and stored responses.
    pub cache: Arc<Cache>,
    /// What package sites need: index sets, comparisons with new indexes.
    pub packages: Tables,
    /// Files that clients have had checked.
    pub revalidated: Revalidated,
    /// When the origin last had no nar of a name that it was asked for.
    pub missing_nar: Mutex<Option<Instant>>,
    /// The way to stdout and stderr.
    pub log: Arc<Log>,
    /// Who has how many descriptors.
    pub descriptors: Descriptors,
    /// The end of the program, and what it waits for.
    pub stop: Arc<Stop>,
    /// What we are called where redirects lead, if they are followed.
    pub redirects: Option<Name>,
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
    pub closing: Notify,
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

/// One request on its way: what every step needs.
pub struct Exchange<'a, R: Runtime> {
    /// The worker.
    pub context: &'a Rc<Context<R>>,
    /// The request.
    pub request: &'a RequestHead,
    /// Its debug lines.
    pub log: &'a RequestLog,
    /// Whose it is, unless it is our own or answered without the origin.
    pub client: Option<Holder>,
    /// What the cache has to do with the answer; nothing with one of our own making.
    pub outcome: Cell<Option<Outcome>>,
    /// Redirects followed for it.
    pub redirects: Cell<usize>,
}

impl<'a, R: Runtime> Exchange<'a, R> {
    /// A request that has just come.
    pub fn new(context: &'a Rc<Context<R>>, request: &'a RequestHead, log: &'a RequestLog) -> Self {
        Self { context, request, log, client: None, outcome: Cell::new(None), redirects: Cell::new(0) }
    }

    /// The same of the client with this address.
    #[must_use]
    pub fn of(self, address: IpAddr) -> Self {
        Self { client: Some(address.into()), ..self }
    }

    /// The same on behalf of the client that gave rise to it: it takes that client's share of the places at the origin.
    #[must_use]
    pub fn on_behalf_of(self, client: Option<Holder>) -> Self {
        Self { client, ..self }
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

    /// Answers with this error.
    pub async fn send_error(&self, client: &Client<R>, error: &Error) -> Reply {
        client.send_error(error, self.keep(), self.request.method != Method::Head).await
    }

    /// May the connection stay open after the answer? Not with a body that nobody has read.
    pub fn keep(&self) -> bool {
        self.request.keep_alive() && self.request.body.is_empty() && !self.context.shared.stop.is_asked()
    }

    /// The URL that is `asked` of the origin, for logs.
    pub fn origin_url(&self, asked: &OriginRequest) -> String {
        self.context.upstream.origin.shown(&asked.target)
    }

    /// Has a redirect that we followed led back to us with this request? Whoever sent it may be the one that it would
    /// wait for.
    pub fn has_returned(&self) -> bool {
        let returned = |name: &Name| name.is_in(&self.request.fields);
        self.context.shared.redirects.as_ref().is_some_and(returned)
    }
}
