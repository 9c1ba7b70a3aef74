//! A miss: the origin is asked once, and its answer goes to the file that every client follows.

use std::rc::Rc;
use std::sync::Arc;

use super::client::Client;
use super::pipes::WORTH_SPLICING;
use super::{Context, Exchange, Reply, follow, head, pass};
use crate::error::Error;
use crate::http::date;
use crate::http::request::Method;
use crate::http::response::{ResponseBody, ResponseHead};
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::outcome::Why;
use crate::rt::mailbox::Waiter;
use crate::rt::{Runtime, blocking};
use crate::store::fill::{Answer, Fill};
use crate::store::inflight::Permit;
use crate::store::partial::Partial;
use crate::sys::file;
use crate::upstream::body::OriginBody;

/// Bytes stored without a wait before other tasks get their turn.
const TURN: u64 = 4 * 1024 * 1024;

/// Fetches the file and serves this client from it like any other. The fetch is a task of its
/// own: it goes on when the client leaves.
pub async fn lead<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>, permit: Permit) -> Reply {
    let context = exchange.context;
    exchange.log.debug(format_args!("proxying GET to {}", exchange.origin_url()));
    let asked = head::fill_request(&context.upstream.origin, exchange.request);
    let (answer, body) = match context.upstream.ask(&asked, &Method::Get).await {
        Ok(answered) => answered,
        Err(error) => {
            exchange.log.debug(format_args!("error with proxy request {error}"));
            permit.fail(error.clone());
            return client.send_error(&error, exchange.keep(), true).await;
        }
    };
    let begun = storable(&answer, permit.key())
        .and_then(|length| Ok((length, context.shared.store.begin(permit.key())?)));
    let (length, partial) = match begun {
        Ok(begun) => begun,
        Err(why) => {
            log_declined(exchange.log, &answer, why);
            permit.decline(why);
            return pass::relay(exchange, &client.out(), answer, body, exchange.keep()).await;
        }
    };
    let path = context.shared.store.display(permit.key());
    exchange.log.debug(format_args!("saving local file to {path}.in-progress"));
    let (key, fill) = (permit.key().clone(), Arc::clone(permit.fill()));
    fill.announce(describe(answer, length, partial.file()));
    // Followed before the fetch goes on, so that not even its first bytes can pass by.
    let follower = fill.follow(0);
    let log = exchange.log.clone();
    R::spawn(run(Rc::clone(context), permit, partial, body, log));
    follow::serve(exchange, client, &key, &fill, follower).await
}

fn log_declined(log: &RequestLog, answer: &ResponseHead, why: Why) {
    if (200..300).contains(&answer.status) {
        log.debug(format_args!("not saved - {}", why.as_str()));
    } else {
        let status = answer.status;
        log.debug(format_args!(
            "statusCode {status} from backend not in 200 range - proxying back to caller"
        ));
    }
}

/// May this answer be stored under `key`, as far as its head tells? Its length, where it has one.
fn storable(answer: &ResponseHead, key: &Key) -> Result<Option<u64>, Why> {
    if answer.status != 200 {
        return Err(Why::Status);
    }
    if !coding_is_in_name(answer, key.file_name()) {
        return Err(Why::Coding);
    }
    match answer.body(&Method::Get) {
        Ok(ResponseBody::Length(length)) => Ok(Some(length)),
        Ok(ResponseBody::Chunked) => Ok(None),
        Ok(ResponseBody::None | ResponseBody::UntilClose) | Err(_) => Err(Why::NoEnd),
    }
}

/// Codings that a file name's own extension explains: old servers label archives so.
const CODINGS: &[(&[u8], &[&str])] = &[
    (b"gzip", &["gz", "tgz"]),
    (b"x-gzip", &["gz", "tgz"]),
    (b"bzip2", &["bz2", "tbz", "tbz2"]),
    (b"x-bzip2", &["bz2", "tbz", "tbz2"]),
    (b"x-xz", &["xz", "txz"]),
    (b"xz", &["xz", "txz"]),
    (b"zstd", &["zst", "tzst"]),
    (b"compress", &["z"]),
    (b"x-compress", &["z"]),
];

fn coding_is_in_name(answer: &ResponseHead, name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let explains = |coding: &[u8]| {
        coding.eq_ignore_ascii_case(b"identity")
            || CODINGS.iter().any(|(known, extensions)| {
                coding.eq_ignore_ascii_case(known)
                    && extensions.iter().any(|e| extension.eq_ignore_ascii_case(e))
            })
    };
    let mut codings = answer.fields.tokens("content-encoding");
    codings.next().is_none_or(explains) && codings.next().is_none()
}

/// The answer as the clients of this fill get it.
fn describe(answer: ResponseHead, length: Option<u64>, file: &Arc<file::Locked>) -> Answer {
    let modified = answer.fields.get("last-modified").and_then(date::parse);
    let mut fields = head::answer_fields(&answer.fields);
    fields.remove("content-encoding");
    fields.remove("accept-ranges");
    Answer { head: ResponseHead { fields, ..answer }, length, modified, file: Arc::clone(file) }
}

/// Why a body did not get into its file.
enum Stop {
    Origin(Error),
    /// The disk refused; these bytes came and are not in the file.
    Disk(Vec<u8>, std::io::Error),
}

/// The fetch: body to file, then the file to its name.
async fn run<R: Runtime>(
    context: Rc<Context<R>>,
    permit: Permit,
    partial: Partial,
    mut body: OriginBody<R>,
    log: RequestLog,
) {
    let mut stored = 0;
    match store(&context, permit.fill(), &partial, &mut body, &mut stored).await {
        Ok(()) => {
            permit.fill().complete();
            commit(&context, permit, partial, &log).await;
        }
        Err(Stop::Origin(error)) => {
            log.debug(format_args!("download of {} failed - {error}", permit.key().as_str()));
            drop(partial);
            permit.fail(error);
        }
        Err(Stop::Disk(bytes, error)) => {
            log.debug(format_args!("failed to save local file {error}"));
            drop(partial);
            // Part of the last piece may have got in: what is handed over follows that.
            permit.fill().advance(stored);
            deliver_unstored(permit, &mut body, bytes).await;
        }
    }
}

/// Gives the whole file its name. Clients have all its bytes by now or get them from the open file.
async fn commit<R: Runtime>(context: &Context<R>, permit: Permit, partial: Partial, log: &RequestLog) {
    let modified = permit.fill().modified();
    let path = context.shared.store.display(permit.key());
    match blocking::run(move || partial.commit(modified)).await.and_then(|committed| committed) {
        Ok(()) => log.debug(format_args!("renamed {path}.in-progress to {path}")),
        Err(error) => log.debug(format_args!("failed to rename {path}.in-progress to {path} - {error}")),
    }
    // Only now do requests stop to find the fill: before this the file had no name.
    drop(permit);
}

async fn store<R: Runtime>(
    context: &Context<R>,
    fill: &Fill,
    partial: &Partial,
    body: &mut OriginBody<R>,
    stored: &mut u64,
) -> Result<(), Stop> {
    #[cfg(target_os = "linux")]
    if body.raw().is_some_and(|(_, left)| left >= WORTH_SPLICING)
        && let Ok(mut pipe) = context.pipes.lease()
    {
        let spliced = splice(&mut pipe, fill, partial, body, stored).await;
        context.pipes.give_back(pipe);
        spliced?;
    }
    let mut piece = Vec::new();
    let mut turn_end = *stored + TURN;
    while body.next(&mut piece).await.map_err(Stop::Origin)? {
        if let Err(error) = file::write_at(&**partial.file(), &piece, *stored) {
            return Err(Stop::Disk(piece, error));
        }
        *stored += piece.len() as u64;
        fill.advance(*stored);
        if *stored >= turn_end {
            turn_end = *stored + TURN;
            body.readable().await.map_err(Stop::Origin)?;
        }
    }
    Ok(())
}

/// Moves the body inside the kernel, as far as that goes.
#[cfg(target_os = "linux")]
async fn splice<R: Runtime>(
    pipe: &mut crate::sys::transfer::Pipe,
    fill: &Fill,
    partial: &Partial,
    body: &mut OriginBody<R>,
    stored: &mut u64,
) -> Result<(), Stop> {
    let origin_side = |error: &std::io::Error| Stop::Origin(Error::io(crate::error::Side::Origin, error));
    let mut turn_end = *stored + TURN;
    while let Some((socket, left)) = body.raw() {
        let most = usize::try_from(left).map_or(pipe.capacity, |left| left.min(pipe.capacity));
        match pipe.fill_from(socket, most) {
            Ok(moved) => body.moved_raw(moved).map_err(Stop::Origin)?,
            Err(error) if crate::sys::would_block(&error) => {
                body.readable().await.map_err(Stop::Origin)?;
                continue;
            }
            Err(error) => return Err(origin_side(&error)),
        }
        while pipe.held > 0 {
            match pipe.drain_to_file(&**partial.file(), *stored) {
                Ok(moved) if moved > 0 => *stored += moved as u64,
                Ok(_) => {
                    return Err(Stop::Disk(
                        pipe.take().unwrap_or_default(),
                        std::io::ErrorKind::WriteZero.into(),
                    ));
                }
                Err(error) => {
                    let bytes = pipe.take().map_err(|lost| origin_side(&lost))?;
                    return Err(Stop::Disk(bytes, error));
                }
            }
        }
        fill.advance(*stored);
        if *stored >= turn_end {
            turn_end = *stored + TURN;
            body.readable().await.map_err(Stop::Origin)?;
        }
    }
    Ok(())
}

/// After a disk error: the rest of the body goes to those who follow, through memory, paced by the
/// slowest. New requests start anew.
async fn deliver_unstored<R: Runtime>(permit: Permit, body: &mut OriginBody<R>, mut piece: Vec<u8>) {
    permit.leave();
    let Ok(waiter) = Waiter::new() else { return };
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
