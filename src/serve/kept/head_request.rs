//! HEAD, where what is kept does not answer it: it goes to the origin, and its answer tells about
//! what is kept (RFC 9111 section 4.3.5).

use super::super::client::Client;
use super::super::redirect::{self, Follow};
use super::super::{Reply, head, pass};
use super::{Kept, Wanted, ask, failed, may_use};
use crate::error::{Error, Kind, Side};
use crate::http::caching::stored::Times;
use crate::http::conditional;
use crate::http::response::is_origin_failure;
use crate::outcome::{Outcome, Why};
use crate::rt::Runtime;
use crate::sys::clock;
use std::time::Instant;

/// Passes it, and takes note of the answer.
pub(super) async fn run<R: Runtime>(
    wanted: &Wanted<'_, '_, R>,
    client: &mut Client<R>,
    kept: Option<Kept>,
) -> Reply {
    let exchange = wanted.exchange;
    let asked = head::pass_request(&exchange.context.upstream.origin, exchange.request);
    exchange.log.debug(format_args!("proxying HEAD to {}", exchange.origin_url(&asked)));
    let begun = clock::unix_secs();
    let (answer, body) = match redirect::ask(exchange, client.hung_up(), &asked, Follow::Maybe).await {
        Ok(answered) => answered,
        Err(error) => return failed(wanted, client, &error, kept).await,
    };
    if is_origin_failure(answer.status) {
        let error = Error::with(Side::Origin, Kind::Unavailable, answer.status);
        if kept.as_ref().is_some_and(|kept| may_use(wanted, kept, &error)) {
            return failed(wanted, client, &error, kept).await;
        }
    }
    exchange.outcome.set(Some(Outcome::Pass(Why::HeadOnMiss)));
    // With conditions of the client's own, or in a form of its own, it may not be about what is kept.
    if let Some(kept) = kept
        && answer.status == 200
        && !wanted.is_in_other_form()
        && conditional::is_plain(&exchange.request.fields)
    {
        let times = Times { asked: begun, came: clock::unix_secs() };
        let told = kept.head.is_told_by(&answer, kept.size());
        let (news, checked) = if told {
            (kept.head.updated(&answer.fields, times, wanted.policy.targeted), Some(Instant::now()))
        } else {
            (kept.head.invalidated(), None)
        };
        ask::update(wanted, kept, news, checked).await;
    }
    pass::relay(exchange, &client.out(), answer, body, exchange.keep()).await
}
