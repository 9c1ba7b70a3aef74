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

use super::super::client::Out;
use super::super::fill::{Progress, Stop};
use crate::error::{Error, Side};
use crate::rt::{Runtime, share};
use crate::store::partial::expect_size;
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

/// One worker's idle pipes.
#[derive(Debug, Default)]
pub struct Pipes {
    idle: RefCell<Vec<Pipe>>,
    used: Cell<bool>,
}

impl Pipes {
    /// An empty pipe, if this body is worth one.
    fn lease<R: Runtime>(&self, body: &OriginBody<R>) -> Option<Pipe> {
        body.raw().filter(|(_, left)| *left >= WORTH_IT)?;
        self.used.set(true);
        let idle = self.idle.borrow_mut().pop();
        idle.or_else(|| Pipe::new(SIZE).ok())
    }

    /// Keeps a pipe that has run empty; any other is closed with what it holds.
    fn give_back(&self, pipe: Pipe) {
        let mut idle = self.idle.borrow_mut();
        if pipe.held == 0 && idle.len() < KEPT {
            idle.push(pipe);
        }
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
    progress: &mut Progress<'_>,
) -> Result<(), Stop> {
    let Some(mut pipe) = pipes.lease(body) else { return Ok(()) };
    loop {
        // A trip to the pool is worth a full pipe.
        let most = if progress.is_off_loop() { u64::MAX } else { share::slice() };
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
                let mut bytes = pipe.take().map_err(|error| Stop::Origin(Error::io(Side::Us, &error)))?;
                progress.store(&mut bytes).await?;
                break;
            }
            Err(error) => return Err(disk(&mut pipe, error)),
        }
        progress.turn::<R>().await?;
    }
    pipes.give_back(pipe);
    Ok(())
}

/// The disk refused: what the pipe holds has come and is not in the file.
fn disk(pipe: &mut Pipe, error: io::Error) -> Stop {
    match pipe.take() {
        Ok(bytes) => Stop::Disk(bytes, error),
        Err(lost) => Stop::Origin(Error::io(Side::Us, &lost)),
    }
}

/// Moves a body to a client, as far as that goes.
pub async fn to_client<R: Runtime>(
    pipes: &Pipes,
    body: &mut OriginBody<R>,
    out: &Out<'_, R>,
) -> Result<(), Error> {
    let Some(mut pipe) = pipes.lease(body) else { return Ok(()) };
    let moved = move_to_client(&mut pipe, body, out).await;
    pipes.give_back(pipe);
    moved
}

async fn move_to_client<R: Runtime>(
    pipe: &mut Pipe,
    body: &mut OriginBody<R>,
    out: &Out<'_, R>,
) -> Result<(), Error> {
    let mut turn = 0;
    while receive(body, pipe, share::slice()).await? {
        turn += pipe.held as u64;
        while pipe.held > 0 {
            match pipe.drain_to_socket(out.socket()) {
                Ok(moved @ 1..) => out.moved(moved),
                Ok(0) => return Err(Error::io(Side::Client, &io::ErrorKind::WriteZero.into())),
                Err(error) if would_block(&error) => out.writable().await?,
                Err(error) => return Err(Error::io(Side::Client, &error)),
            }
        }
        if turn >= share::slice() {
            turn = 0;
            out.writable().await?;
            share::turned();
        }
    }
    Ok(())
}
