//! What is to be done next for a request. A step says so and calls no other step: `respond` does it.

use std::sync::Arc;

use super::passing::Passing;
use crate::cache::Entry;
use crate::cache::fill::{Fill, Follower, NoFile};
use crate::cache::inflight::Permit;
use crate::cache::response::StoredResponse;
use crate::downstream::reply::Reply;
use crate::error::Error;
use crate::http::response::ResponseHead;
use crate::outcome::{BypassReason, CacheUse};
use crate::rt::Runtime;
use crate::upstream::body::OriginBody;

/// Which stored responses may be used without a word of the origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FreshnessPolicy {
    /// All: a file that has the name is always fresh.
    Immutable,
    /// The same, but the client's `no-cache` has the origin asked once in a while ([`super::no_cache`]).
    Reload,
    /// Those that RFC 9111 allows.
    Revalidate,
    /// Those of the client's generation of an index set, if it is a member of one; otherwise as `Revalidate`.
    Member,
}

/// The next step.
pub enum Next<R: Runtime> {
    /// None: it has been answered.
    Done(Reply),
    /// Look again: what was found has changed meanwhile.
    Again,
    /// Look again, under another policy.
    Use(FreshnessPolicy),
    /// Fetch a file of the immutable class.
    Fetch(Permit),
    /// Ask the origin whether this file of the immutable class is still the same.
    Reload(Permit, Box<Entry>),
    /// Wait for another request that does so.
    JoinReload(Arc<Fill>),
    /// Ask the origin whether this stored response of the revalidated class is still the same, or for the first one.
    Revalidate(Permit, Option<Box<StoredResponse>>),
    /// Wait for another request that does so. This is there meanwhile.
    Join(Arc<Fill>, Option<Box<StoredResponse>>),
    /// Ask the origin by HEAD about this stored response of the revalidated class.
    Head(Option<Box<StoredResponse>>),
    /// Send a file of the immutable class.
    File(Box<Entry>),
    /// Send a stored response of the revalidated class, which is used in this way.
    Stored(Box<StoredResponse>, CacheUse),
    /// Send what a fill brings.
    Follow(Arc<Fill>, Result<Follower, NoFile>, Role),
    /// Ask the origin what the client asks, and keep nothing.
    Pass(BypassReason),
    /// Hand on the origin's response, which was asked for to be kept and is not.
    HandOn(Box<(ResponseHead, Passing<R>)>),
    /// Send the origin's response to the client's own request.
    Relay(Box<(ResponseHead, OriginBody<R>)>),
    /// Send the head of the origin's response.
    RelayHead(Box<ResponseHead>),
    /// End a loop: the way to the origin leads back here.
    Looped,
    /// Send a status without a body.
    Status(u16),
    /// Tell the client of an error.
    Fail(Error),
}

/// Whose request a fill is.
#[derive(PartialEq, Eq, Debug)]
pub enum Role {
    /// This client's request started the fill; with the whole body, if it arrived with the head.
    Leader(Option<Vec<u8>>),
    /// Another's: what the origin said to that client alone is not for this one.
    Follower,
}

impl<R: Runtime> Next<R> {
    /// Follow what somebody else has begun, from its beginning. Joined now, so that nothing passes by meanwhile.
    pub fn follow(fill: Arc<Fill>) -> Self {
        let follower = fill.follow(0);
        Self::Follow(fill, follower, Role::Follower)
    }

    /// Hand on this response, which is not kept.
    pub fn hand_on(answer: ResponseHead, body: impl Into<Passing<R>>) -> Self {
        Self::HandOn(Box::new((answer, body.into())))
    }
}
