//! What is to be done next for a request. A step says so and calls no other step: `respond` does it.

use std::sync::Arc;

use super::passing::Passing;
use crate::cache::Entry;
use crate::cache::fill::{Fill, Follower, NoFile};
use crate::cache::response::StoredResponse;
use crate::downstream::reply::Reply;
use crate::error::Error;
use crate::http::fields::Fields;
use crate::http::response::ResponseHead;
use crate::key::Key;
use crate::outcome::BypassReason;
use crate::rt::Runtime;
use crate::upstream::body::OriginBody;

/// The next step.
pub enum Next<R: Runtime> {
    /// None: it has been answered.
    Done(Reply),
    /// Look again: what was found has changed meanwhile.
    Again,
    /// The file that is there is good enough: no word of the origin is needed.
    AsItIs,
    /// It is no member of an index set, or the set has nothing to do with it.
    Apart,
    /// Ask the origin by HEAD about this path of the checked class, of which this is kept.
    Head(Key, Option<Box<StoredResponse>>),
    /// Send a file of the immutable class.
    File(Key, Entry),
    /// Send a stored response of the checked class, with these fields.
    Stored(Box<(StoredResponse, Fields)>),
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
