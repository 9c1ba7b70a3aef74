//! A response that no plain file can stand for, from its head until it is stored. One that arrives slowly goes to all
//! clients that wait for it meanwhile.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::future::or;

use crate::cache::fill::{Follower, NoFile};
use crate::cache::inflight::Permit;
use crate::cache::memory::{Held, Memory, StoredBody};
use crate::cache::metadata::NewHead;
use crate::error::{Error, Kind, Side};
use crate::observe::log::RequestLog;
use crate::outcome::BypassReason;
use crate::proxy::exchange::Context;
use crate::proxy::fetch::receive::{self, Announcement, Receiving, Stop};
use crate::proxy::fetch::transfer::pass_on;
use crate::proxy::passing::Passing;
use crate::rt::{Runtime, spawn_guarded};
use crate::upstream::body::OriginBody;

/// A response whose head is here.
pub(crate) struct Document<R: Runtime> {
    pub(crate) context: Rc<Context<R>>,
    pub(crate) permit: Permit,
    pub(crate) body: OriginBody<R>,
    pub(crate) announcement: Announcement,
    pub(crate) log: RequestLog,
}

/// What has become of it.
pub(crate) enum Arrived<R: Runtime> {
    /// It is stored.
    Stored(StoredBody),
    /// It arrives slowly: clients follow it, and it is stored when it is complete.
    Slow(Result<Follower, NoFile>),
    /// It is not stored, and why.
    NotStored(BypassReason, Permit, Box<Passing<R>>),
    /// The origin failed, or we did.
    Failed(Error),
}

impl<R: Runtime> Document<R> {
    /// Receives and stores it. A slow one is received by a task of its own, which goes on when its clients leave.
    pub(crate) async fn receive(self) -> Arrived<R> {
        let Self { context, permit, body, announcement, log } = self;
        let (kept, fill) = (announcement.kept.clone(), Arc::clone(permit.fill()));
        // Followed before anything is received, so that not even the first bytes can pass by.
        let follower = fill.follow(0);
        let overhead = Memory::overhead(permit.key(), &kept.head);
        let mut receiving = match receive::begin(&context.shared, body, overhead, announcement).await {
            Ok(receiving) => receiving,
            Err((why, body)) => return Arrived::NotStored(why, permit, Box::new(body.into())),
        };
        let mut run = Box::pin(async move {
            let how = receiving.run().await;
            (receiving, how)
        });
        // Asked whenever the other has been: nobody wakes it.
        let slow = poll_fn(|_| if fill.announced().is_some() { Poll::Ready(None) } else { Poll::Pending });
        match or(async { Some(run.as_mut().await) }, slow).await {
            Some((receiving, how)) if fill.announced().is_none() => {
                at_once(&context, permit, &kept, receiving, how)
            }
            ended => {
                if log.is_on() {
                    let path = context.shared.store.display(permit.key());
                    log.debug(format_args!("{path} arrives slowly - streaming to client"));
                }
                let busy = context.shared.stop.busy();
                spawn_guarded::<R>(busy, async move {
                    let (receiving, how) = match ended {
                        Some(ended) => ended,
                        None => run.await,
                    };
                    behind(&context, permit, &kept, receiving, how, &log).await;
                });
                Arrived::Slow(follower)
            }
        }
    }
}

/// Ends one that nobody follows.
fn at_once<R: Runtime>(
    context: &Context<R>,
    permit: Permit,
    kept: &NewHead,
    receiving: Receiving<R>,
    how: Result<(), Stop>,
) -> Arrived<R> {
    let stored = match how {
        Ok(()) => store(context, &permit, kept, receiving),
        Err(Stop::Origin(error)) => Err(error),
        Err(Stop::NotStored(why, piece)) => {
            return Arrived::NotStored(why, permit, Box::new(receiving.begun(&piece)));
        }
    };
    match stored {
        Ok(body) => {
            permit.withdraw();
            Arrived::Stored(body)
        }
        Err(error) => {
            permit.fail(error.clone());
            Arrived::Failed(error)
        }
    }
}

/// Ends one that clients follow.
async fn behind<R: Runtime>(
    context: &Context<R>,
    permit: Permit,
    kept: &NewHead,
    mut receiving: Receiving<R>,
    how: Result<(), Stop>,
    log: &RequestLog,
) {
    match how {
        Ok(()) => {
            // Found before its key is free.
            drop(store(context, &permit, kept, receiving));
            permit.fill().complete();
        }
        Err(Stop::Origin(error)) => {
            log.debug(format_args!("download of {} failed - {error}", permit.key().as_str()));
            permit.fail(error);
        }
        Err(Stop::NotStored(why, piece)) => {
            log.debug(format_args!("not stored - {}", why.as_str()));
            pass_on(permit, &mut receiving.body, piece.to_vec()).await;
        }
    }
}

fn store<R: Runtime>(
    context: &Context<R>,
    permit: &Permit,
    kept: &NewHead,
    receiving: Receiving<R>,
) -> Result<StoredBody, Error> {
    let (body, room) = receiving.stored().ok_or_else(|| Error::new(Side::Proxy, Kind::Io))?;
    let held = Held { head: Arc::clone(&kept.head), body: body.clone(), checked: kept.checked };
    context.shared.cache.put(permit.key(), &held, room, permit.fill());
    Ok(body)
}
