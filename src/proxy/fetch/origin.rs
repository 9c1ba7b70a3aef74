//! Asking the origin, and what the options of the operator make of its answer before anybody sees
//! it: redirects are followed, a Location is rewritten.
//!
//! Followed are GET and HEAD without a body, to any http or https server that the origin names: it is
//! trusted with that, as with the files themselves. Never from https to http. To another server goes
//! only what may be told to anybody ([`request::for_anybody`]); what was left out once stays out. A redirect that may not be followed is the answer; one that leads in a circle, or
//! through more than [`MAX_REDIRECTS`], is an error of the origin.

use super::request::{self, OriginRequest};
use std::future::{Future, pending};
use std::sync::Arc;

use futures_lite::future::or;

use crate::config::{Config, Origin};
use crate::error::{Error, Kind, Side};
use crate::fd_budget::OriginUse;
use crate::http::caching::stored::OF_ONE_USER;
use crate::http::fields::Fields;
use crate::http::request::Method;
use crate::http::response::ResponseHead;
use crate::http::url::{BadReference, Url};
use crate::observe::log::RequestLog;
use crate::proxy::exchange::{Context, Exchange};
use crate::proxy::loops::{self, LOOP_FIELD, Name};
use crate::rt::Runtime;
use crate::rt::budget::Holder;
use crate::upstream::body::OriginBody;

/// Redirects followed for one request. Package sites need one or two, some mirror networks four.
pub const MAX_REDIRECTS: usize = 8;
/// A redirect's own body up to this size is read away, so that its connection serves another request.
const MAX_REDIRECT_BODY: usize = 16 * 1024;

/// Are redirects of this request to be followed?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// If the operator wants it.
    Maybe,
    /// No.
    Never,
}

/// Why a redirect is passed on instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refused {
    /// There is no Location, or more than one.
    NoLocation,
    /// It cannot be used.
    Bad(BadReference),
    /// The host or its port is none that can be connected to.
    Host,
    /// From https to http.
    Downgrade,
    /// To https, which this build does not speak.
    NoTls,
}

impl Refused {
    fn as_str(self) -> &'static str {
        match self {
            Self::NoLocation => "not one Location",
            Self::Bad(bad) => bad.as_str(),
            Self::Host => "no usable host",
            Self::Downgrade => "from https to http",
            Self::NoTls => "https, without TLS in this build",
        }
    }
}

/// What came of asking.
pub struct Answered<R: Runtime> {
    /// The head, as the options want it.
    pub head: ResponseHead,
    /// What follows it.
    pub body: OriginBody<R>,
    /// Redirects that were followed.
    pub redirects: usize,
}

/// The answer to a request for a client.
///
/// It may have `gone` while it waits for its turn at the origin: then nobody is asked. An answer that is for this client
/// only is not waited for either.
pub async fn ask<R: Runtime>(
    exchange: &Exchange<'_, R>,
    gone: impl Future<Output = ()>,
    asked: &OriginRequest,
    follow: Follow,
) -> Result<(ResponseHead, OriginBody<R>), Error> {
    let (context, client, log) = (exchange.context, exchange.client, exchange.log);
    let gone = async {
        gone.await;
        Error::with(Side::Proxy, Kind::Busy, "who asked has hung up")
    };
    let answered = match asked.errand {
        OriginUse::Keep => ask_unless(gone, context, client, asked, follow, log).await?,
        OriginUse::Pass => {
            let answered = ask_unless(pending(), context, client, asked, follow, log);
            or(answered, async { Err(gone.await) }).await?
        }
    };
    exchange.redirects.set(answered.redirects);
    Ok((answered.head, answered.body))
}

/// The answer of the origin, or of the server that its redirects lead to, for no client.
pub async fn ask_origin<R: Runtime>(
    context: &Context<R>,
    asked: &OriginRequest,
    follow: Follow,
    log: &RequestLog,
) -> Result<Answered<R>, Error> {
    ask_unless(pending(), context, None, asked, follow, log).await
}

async fn ask_unless<R: Runtime>(
    gone: impl Future<Output = Error>,
    context: &Context<R>,
    client: Option<Holder>,
    asked: &OriginRequest,
    follow: Follow,
    log: &RequestLog,
) -> Result<Answered<R>, Error> {
    let (upstream, method) = (&context.upstream, &asked.method);
    let place = or(upstream.place(asked.errand, client), async { Err(gone.await) }).await?;
    let (mut head, mut body) = upstream.ask(&upstream.origin, place, &asked.head(), method).await?;
    let name = match &context.shared.redirects {
        Some(name) if follow == Follow::Maybe && is_followed(method, &head) => name,
        _ => {
            adapt(context, &asked.target, &mut head);
            return Ok(Answered { head, body, redirects: 0 });
        }
    };
    let mut trail = RedirectChain::new(Arc::clone(&upstream.origin), asked.clone());
    while is_followed(method, &head) {
        let (url, server) = match trail.next(&head) {
            Ok(next) => next,
            Err(why) => {
                log.debug(format_args!("redirect not followed - {}", why.as_str()));
                break;
            }
        };
        // The place that it holds among the requests under way is for the next one.
        settle(body);
        trail.go(url, server, name)?;
        if log.is_on() {
            // Without the query, which may hold a signature.
            log.debug(format_args!("following redirect to {}{}", trail.at.server(), trail.at.path));
        }
        let place = upstream.place(asked.errand, client).await?;
        (head, body) = upstream.ask(&trail.to, place, &trail.asked.head(), method).await?;
    }
    if trail.is_elsewhere {
        bring_home(&mut head, &trail.at);
    }
    let redirects = trail.seen.len();
    head.source = (redirects > 0).then(|| format!("{}{}", trail.at.server(), trail.at.path).into());
    adapt_from(&context.shared.config, &mut head, || trail.at);
    Ok(Answered { head, body, redirects })
}

/// What the options change in an answer that came from the origin itself, asked with `target`.
pub fn adapt<R: Runtime>(context: &Context<R>, target: &[u8], answer: &mut ResponseHead) {
    adapt_from(&context.shared.config, answer, || base(&context.upstream.origin, target));
}

/// The same for an answer from `at`.
fn adapt_from(config: &Config, answer: &mut ResponseHead, at: impl FnOnce() -> Url) {
    if config.rewrite_location && REFERENCES.iter().any(|name| answer.fields.contains(name)) {
        rewrite(&mut answer.fields, &at(), &config.origin);
    }
    if config.cache_status {
        // No standard says how several of them are to be read, so there will be only ours.
        answer.fields.remove("x-cache");
    }
}

/// Redirects that keep the method of a GET or HEAD (RFC 9110 section 15.4); 300 wants a choice.
fn is_followed(method: &Method, answer: &ResponseHead) -> bool {
    matches!(method, Method::Get | Method::Head) && matches!(answer.status, 301 | 302 | 303 | 307 | 308)
}

/// Ends with a redirect's own body.
pub(crate) fn settle<R: Runtime>(mut body: OriginBody<R>) {
    drop(body.at_hand(MAX_REDIRECT_BODY));
}

/// The URL that `target` of a request to `origin` stands for.
fn base(origin: &Origin, target: &[u8]) -> Url {
    let scheme = if origin.https { "https" } else { "http" };
    let root = Url {
        https: origin.https,
        authority: origin.host_field.clone(),
        path: "/".to_owned(),
        query: None,
        fragment: None,
    };
    let text = [scheme.as_bytes(), b"://", origin.host_field.as_bytes(), target].concat();
    Url::parse(&text).unwrap_or(root)
}

/// Where the redirects of one request have led so far.
struct RedirectChain {
    /// The URL that was asked last, and its server.
    at: Url,
    to: Arc<Origin>,
    /// The request that was sent there.
    asked: OriginRequest,
    /// The URLs before it.
    seen: Vec<Url>,
    /// Another server than the origin has been asked.
    is_elsewhere: bool,
}

impl RedirectChain {
    fn new(origin: Arc<Origin>, asked: OriginRequest) -> Self {
        let at = base(&origin, &asked.target);
        Self { at, to: origin, asked, seen: Vec::new(), is_elsewhere: false }
    }

    /// Where `answer` leads.
    fn next(&self, answer: &ResponseHead) -> Result<(Url, Arc<Origin>), Refused> {
        let location = answer.fields.only("location").ok_or(Refused::NoLocation)?;
        let url = self.at.join(location).map_err(Refused::Bad)?;
        if self.at.https && !url.https {
            return Err(Refused::Downgrade);
        }
        if url.https && cfg!(not(feature = "tls")) {
            return Err(Refused::NoTls);
        }
        if url.is_same_server(&self.at) {
            return Ok((url, Arc::clone(&self.to)));
        }
        let server = Origin::parse(&url.server()).map_err(|_| Refused::Host)?;
        Ok((url, Arc::new(server)))
    }

    /// Makes the request one for `url`.
    fn go(&mut self, url: Url, server: Arc<Origin>, name: &Name) -> Result<(), Error> {
        let led_nowhere = |what: String| Error::with(Side::Origin, Kind::Redirects, what);
        if url.is_same_resource(&self.at) || self.seen.iter().any(|seen| url.is_same_resource(seen)) {
            return Err(led_nowhere("in a circle".to_owned()));
        }
        if self.seen.len() == MAX_REDIRECTS {
            return Err(led_nowhere(format!("more than {MAX_REDIRECTS}")));
        }
        let mut asked = self.asked.fields.clone();
        asked.remove("host");
        if !Arc::ptr_eq(&server, &self.to) {
            self.is_elsewhere = true;
            asked = request::for_anybody(&asked);
        }
        let mut fields = Fields::new();
        fields.push(b"Host", server.host_field.as_bytes());
        // What comes back to us by a redirect is no loop yet: its mark is the name below.
        asked.iter().for_each(|(field, value)| fields.push(field, loops::unmarked(field, value)));
        if self.seen.is_empty() {
            fields.push(LOOP_FIELD.as_bytes(), name.as_bytes());
        }
        let OriginRequest { method, errand, .. } = self.asked.clone();
        self.asked = OriginRequest { method, target: url.target().into_bytes(), fields, errand };
        self.seen.push(std::mem::replace(&mut self.at, url));
        self.to = server;
        Ok(())
    }
}

/// The fields that refer to a place in the answer's own terms.
const REFERENCES: [&str; 2] = ["Location", "Content-Location"];

/// An answer from another server than the one that clients believe to talk to, through us: its
/// references say where they lead, and its cookies are not for the origin.
fn bring_home(answer: &mut ResponseHead, at: &Url) {
    OF_ONE_USER.iter().for_each(|name| answer.fields.remove(name));
    for name in REFERENCES {
        replace(&mut answer.fields, name, |value| at.join(value).ok().map(|url| url.to_string()));
    }
}

/// A reference to what is below the origin's URL becomes a path here, one to the rest of the origin
/// a whole URL. Others stay as they are.
fn rewrite(fields: &mut Fields, at: &Url, origin: &Origin) {
    let root = base(origin, b"/");
    for name in REFERENCES {
        replace(fields, name, |value| {
            let url = at.join(value).ok().filter(|url| url.is_same_server(&root))?;
            Some(url.below(&origin.prefix).map_or_else(|| url.to_string(), |url| url.reference()))
        });
    }
}

/// Puts a new value in the place of the only one that `name` has.
fn replace(fields: &mut Fields, name: &str, by: impl FnOnce(&[u8]) -> Option<String>) {
    if let Some(value) = fields.only(name).and_then(by) {
        fields.remove(name);
        fields.push(name.as_bytes(), value.as_bytes());
    }
}
