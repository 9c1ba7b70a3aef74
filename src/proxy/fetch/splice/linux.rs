//! splice(2): socket to pipe, pipe to file or socket, by direct non-blocking calls.
//!
//! What a 64 MiB miss costs (Linux 6.18, ext4, loopback, one core; profile of the real loop): 53 %
//! is the write into the page cache, 28 % the TCP of the client's side, 6 % the final sync. Pieces
//! come as full pipes of 1 MiB. Looking the pages up again for sendfile is some 6 %, which is all that
//! tee(2) towards the client could save. Room reserved beforehand (fallocate) made no difference
//! beyond the spread; writing on the pool always cost 0.1 CPU-seconds a GB more than doing so only
//! while the disk makes writers wait.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::aside::Shelf;
use crate::cache::partial::expect_size;
use crate::downstream::client::Out;
use crate::error::{Error, Side};
use crate::fd_budget::{Descriptors, PIPE, Purpose};
use crate::proxy::deliver::silent;
use crate::proxy::fetch::progress::{Progress, Stop};
use crate::rt::budget::Permit;
use crate::rt::{Runtime, fairness, timeout};
use crate::sys::file::Locked;
use crate::sys::transfer::{self, Pipe};
use crate::sys::would_block;
use crate::upstream::body::OriginBody;

/// Bodies shorter than this are copied: a few reads cost less than the way through a pipe.
const WORTH_IT: u64 = 256 * 1024;
/// Bytes a pipe is asked to hold: an unprivileged user may have 64 of them at this size.
const SIZE: usize = 1024 * 1024;
/// Idle pipes kept per worker.
const KEPT: usize = 4;

/// A client that takes nothing for so long holds no pipe.
const SILENT: Duration = Duration::from_secs(1);

/// One worker's idle pipes.
#[derive(Debug)]
pub struct Pipes {
    descriptors: Descriptors,
    idle: RefCell<Vec<Leased>>,
    used: Cell<bool>,
}

/// A pipe and its share of the descriptors.
#[derive(Debug)]
struct Leased {
    pipe: Pipe,
    _held: Permit,
}

impl Pipes {
    /// None yet; with a part of these `descriptors`.
    pub fn new(descriptors: Descriptors) -> Self {
        Self { descriptors, idle: RefCell::default(), used: Cell::new(false) }
    }

    /// An empty pipe, if this body is worth one.
    fn lease<R: Runtime>(&self, body: &OriginBody<R>) -> Option<Leased> {
        body.raw().filter(|(_, left)| *left >= WORTH_IT)?;
        self.used.set(true);
        if let Some(idle) = self.idle.borrow_mut().pop() {
            return Some(idle);
        }
        let held = self.descriptors.try_take(Purpose::Pipe, PIPE)?;
        Pipe::new(SIZE).ok().map(|pipe| Leased { pipe, _held: held })
    }

    /// Keeps a pipe that has run empty; any other is closed with what it holds.
    fn give_back(&self, leased: Leased) {
        let mut idle = self.idle.borrow_mut();
        if leased.pipe.held == 0 && idle.len() < KEPT {
            idle.push(leased);
        }
    }

    /// Closes those that are idle.
    pub fn clear(&self) {
        drop(self.idle.take());
    }

    /// Closes the idle ones, if none was wanted since the last call.
    pub fn prune(&self) {
        if !self.used.replace(false) {
            self.idle.borrow_mut().clear();
        }
    }
}

/// Fills the pipe from the origin, waiting if need be; false at the end of what can be moved so.
async fn receive<R: Runtime>(body: &mut OriginBody<R>, pipe: &mut Pipe, most: u64) -> Result<bool, Error> {
    while let Some((socket, left)) = body.raw() {
        let most = usize::try_from(left.min(most)).unwrap_or(usize::MAX).min(pipe.capacity);
        match pipe.fill_from(socket, most) {
            Ok(moved) => return body.moved_raw(moved).map(|()| true),
            Err(error) if would_block(&error) => body.readable().await?,
            // Nothing has been moved: the rest is copied.
            Err(error) if transfer::is_unsupported(&error) => return Ok(false),
            Err(error) => return Err(Error::io(Side::Origin, &error)),
        }
    }
    Ok(false)
}

/// Moves a body into its file, as far as that goes.
pub async fn to_file<R: Runtime>(
    pipes: &Pipes,
    body: &mut OriginBody<R>,
    progress: &mut Progress,
) -> Result<(), Stop> {
    if progress.is_remote() {
        return Ok(());
    }
    let Some(Leased { mut pipe, _held }) = pipes.lease(body) else { return Ok(()) };
    loop {
        // A trip to the pool is worth a full pipe.
        let most = if progress.is_off_loop() { u64::MAX } else { fairness::quantum() };
        if !receive(body, &mut pipe, most).await.map_err(Stop::Origin)? {
            break;
        }
        let held = pipe.held;
        let drain = move |file: &Locked, at| {
            let result = expect_size(file, at).and_then(|()| pipe.drain_to_file(file, at));
            (pipe, result)
        };
        let result;
        (pipe, result) = progress.write(drain).await?;
        progress.advance(held - pipe.held);
        match result {
            Ok(()) => {}
            // A file system that cannot do this: what the pipe holds is written, the rest copied.
            Err(error) if transfer::is_unsupported(&error) => {
                let mut bytes = pipe.take().map_err(|error| Stop::Origin(Error::io(Side::Proxy, &error)))?;
                progress.store::<R>(&mut bytes).await?;
                break;
            }
            Err(error) => return Err(disk(&mut pipe, error)),
        }
        progress.turn::<R>().await?;
    }
    pipes.give_back(Leased { pipe, _held });
    Ok(())
}

/// The disk refused: what the pipe holds has come and is not in the file.
fn disk(pipe: &mut Pipe, error: io::Error) -> Stop {
    match pipe.take() {
        Ok(bytes) => Stop::Disk(bytes, error),
        Err(lost) => Stop::Origin(Error::io(Side::Proxy, &lost)),
    }
}

/// Moves a body to a client, as far as that goes.
pub async fn to_client<R: Runtime>(
    pipes: &Pipes,
    shelf: &Arc<Shelf>,
    body: &mut OriginBody<R>,
    out: &Out<'_, R>,
) -> Result<(), Error> {
    while let Some(mut leased) = pipes.lease(body) {
        let moved = move_to_client(&mut leased.pipe, body, out).await?;
        // Others may have it while this client takes nothing.
        let rest = leased.pipe.take().map_err(|error| Error::io(Side::Proxy, &error))?;
        pipes.give_back(leased);
        match moved {
            Moved::All => return Ok(()),
            Moved::UntilSilence => {
                silent::send_rest(shelf, out, rest).await?;
                out.writable().await?;
            }
        }
    }
    Ok(())
}

/// How far a body has gone through a pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moved {
    /// As far as it can.
    All,
    /// Its client takes no more for now; the pipe may hold something.
    UntilSilence,
}

async fn move_to_client<R: Runtime>(
    pipe: &mut Pipe,
    body: &mut OriginBody<R>,
    out: &Out<'_, R>,
) -> Result<Moved, Error> {
    let mut turn = 0;
    while receive(body, pipe, fairness::quantum()).await? {
        turn += pipe.held as u64;
        while pipe.held > 0 {
            match pipe.drain_to_socket(out.socket()) {
                Ok(moved @ 1..) => out.moved(moved),
                Ok(0) => return Err(Error::io(Side::Client, &io::ErrorKind::WriteZero.into())),
                Err(error) if would_block(&error) => match timeout::<R, _>(SILENT, out.writable()).await {
                    Ok(writable) => writable?,
                    Err(_) => return Ok(Moved::UntilSilence),
                },
                Err(error) => return Err(Error::io(Side::Client, &error)),
            }
        }
        if turn >= fairness::quantum() {
            turn = 0;
            match timeout::<R, _>(SILENT, out.writable()).await {
                Ok(writable) => writable?,
                Err(_) => return Ok(Moved::UntilSilence),
            }
            fairness::yielded();
        }
    }
    Ok(Moved::All)
}
