//! Serving a client from a file that still grows. The one whose request started the fill is
//! served so too.

use crate::downstream::head;
use std::cell::Cell;
use std::sync::Arc;

use super::growing::Growing;
use super::{Body, Representation, deliver};
use crate::cache::fill::{Answer, Fill, Follower, NoFile};
use crate::cache::place::PATIENCE;
use crate::downstream::client::Client;
use crate::downstream::reply::Reply;
use crate::http::caching::stored::OF_ONE_USER;
use crate::http::conditional::Validators;
use crate::http::etag::etag;
use crate::http::fields::Fields;
use crate::http::request::Method;
use crate::proxy::exchange::Exchange;
use crate::proxy::next::{Next, Role};
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, timeout};
use crate::sys::clock;

/// The fields for which an answer may have only a part of the file, or nothing (RFC 9110 sections 13.1 and 14.2).
const SELECTING: [&str; 5] =
    ["range", "if-none-match", "if-modified-since", "if-match", "if-unmodified-since"];

/// Waits for the answer's head, then sends it and the body as it comes; or says what else is to be done.
pub async fn serve<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    fill: &Fill,
    follower: Result<Follower, NoFile>,
    role: Role,
) -> Next<R> {
    let waiter = Waiter::new();
    let joined = match follower {
        Ok(follower) => match answer(exchange, fill, &waiter).await {
            Ok(answer) => Ok((follower, answer)),
            Err(no_file) => Err(no_file),
        },
        Err(no_file) => Err(no_file),
    };
    match joined {
        Ok((follower, answer)) => Next::Done(send(exchange, client, &answer, &follower, &waiter, role).await),
        Err(NoFile::Again) => {
            // One that was given up has its key until its file is left for a later fill.
            timeout::<R, _>(PATIENCE, fill.left(&waiter)).await.unwrap_or_default();
            Next::Again
        }
        Err(NoFile::Declined(why)) => Next::Pass(why),
        Err(NoFile::Failed(error)) => Next::Fail(error),
    }
}

/// The answer's head. Whoever may be answered without the end of the file, which is kept back as long as it is not known
/// to be right, waits for all of it first.
async fn answer<R: Runtime>(
    exchange: &Exchange<'_, R>,
    fill: &Fill,
    waiter: &Waiter,
) -> Result<Arc<Answer>, NoFile> {
    let answer = fill.answer(waiter).await?;
    let fields = &exchange.request.fields;
    if exchange.request.method == Method::Head || SELECTING.iter().any(|name| fields.contains(name)) {
        fill.proven(waiter).await?;
    }
    Ok(answer)
}

async fn send<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    answer: &Answer,
    follower: &Follower,
    waiter: &Waiter,
    role: Role,
) -> Reply {
    // The tag that hits will have, where that is known already: it names the same bytes. What is
    // checked with the origin keeps the origin's tag.
    let plain = answer.kept.is_none();
    let hit = answer.length.zip(answer.modified).filter(|_| plain);
    let tag = hit.map(|(length, secs)| etag(length, secs * 1000));
    let validators = Validators {
        etags: [answer.head.fields.get("etag"), tag.as_deref().map(str::as_bytes)],
        last_modified: answer.modified,
        since: answer.modified,
        now: clock::unix_secs(),
    };
    let (fields, at_hand) = match role {
        Role::Leader(at_hand) => (answer.head.fields.clone(), at_hand),
        Role::Follower => (of_another(answer, follower), None),
    };
    let is_at_hand = at_hand.is_some();
    let at_hand = Cell::new(at_hand.unwrap_or_default());
    let growing = Growing { answer, follower, waiter, at_hand, is_at_hand };
    // A part that a fill goes on with is a 206.
    let status = answer.kept.as_ref().map_or(200, |kept| kept.head.status);
    let (reason, body) = (&*answer.head.reason, Body::Growing(growing));
    deliver(exchange, client, Representation { status, reason, fields, validators, body }).await
}

/// The fields for another client than the one that the origin has answered.
fn of_another(answer: &Answer, follower: &Follower) -> Fields {
    let kept = answer.kept.as_ref().map(|kept| head::kept_fields(&kept.head, None));
    let mut fields = kept.unwrap_or_else(|| answer.head.fields.clone());
    OF_ONE_USER.iter().for_each(|name| fields.remove(name));
    grow_older(&mut fields, follower);
    fields
}

/// An answer that says how old it is, is older for those who come later (RFC 9111 section 5.1).
fn grow_older(fields: &mut Fields, follower: &Follower) {
    let age = fields.only("age").and_then(|age| std::str::from_utf8(age).ok()?.parse::<u64>().ok());
    if let Some(age) = age {
        fields.remove("age");
        let age = age.saturating_add(follower.pace().took.as_secs());
        fields.push(b"Age", age.to_string().as_bytes());
    }
}
