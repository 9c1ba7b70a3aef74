//! Bytes in memory for a client that takes none for now.
//!
//! They are put aside on the disk after a moment, and the client has them from there: however many clients are silent,
//! the memory is free for others. Where the disk takes them not they stay, so that the client has all of it.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::aside::{Aside, Shelf};
use crate::cache::memory::{MemoryBody, StoredBody};
use crate::downstream::client::Out;
use crate::downstream::readahead::Heat;
use crate::error::Error;
use crate::rt::{Runtime, blocking, timeout};

/// A client that takes nothing for so long takes no memory.
const SILENT: Duration = Duration::from_secs(1);

/// Sends a head and the bytes from `first` to `end` of a stored answer.
pub async fn send<R: Runtime>(
    stock: &mut StoredBody,
    shelf: &Arc<Shelf>,
    out: &Out<'_, R>,
    mut head: &[u8],
    first: u64,
    end: u64,
) -> Result<(), Error> {
    let mut at = first;
    while let StoredBody::Memory(loan) = stock
        && (at < end || !head.is_empty())
    {
        let sent = out.send_both_now(head, &loan[within(loan, at)..within(loan, end)])?;
        let of_head = sent.min(head.len());
        head = &head[of_head..];
        at += (sent - of_head) as u64;
        if sent == 0 && is_to_go(out, loan).await? {
            let (theirs, shelf) = (loan.clone(), Arc::clone(shelf));
            match put_aside(move || theirs.put_aside(&shelf)).await {
                Some(aside) => *stock = StoredBody::Aside(aside),
                None => out.writable().await?,
            }
        }
    }
    match stock {
        StoredBody::Aside(aside) => {
            out.send_more(head).await?;
            send_aside(out, aside, at, end).await
        }
        StoredBody::Memory(_) => Ok(()),
    }
}

/// Waits until the client takes more: false. Or until it has taken nothing for too long while memory is scarce.
async fn is_to_go<R: Runtime>(out: &Out<'_, R>, loan: &MemoryBody) -> Result<bool, Error> {
    let mut writable = pin!(out.writable());
    loop {
        match timeout::<R, _>(SILENT, writable.as_mut()).await {
            Ok(writable) => return writable.map(|()| false),
            Err(_) if loan.is_scarce() => return Ok(true),
            Err(_) => {}
        }
    }
}

/// Sends a piece of a body that is passed on, and leaves it empty.
pub async fn send_piece<R: Runtime>(
    shelf: &Arc<Shelf>,
    out: &Out<'_, R>,
    piece: &mut Vec<u8>,
) -> Result<(), Error> {
    let sent = send_some(out, piece).await?;
    piece.drain(..sent);
    if piece.is_empty() { Ok(()) } else { send_rest(shelf, out, std::mem::take(piece)).await }
}

/// Sends until the client has taken nothing for too long: how much that was.
pub async fn send_some<R: Runtime>(out: &Out<'_, R>, bytes: &[u8]) -> Result<usize, Error> {
    let mut at = 0;
    while at < bytes.len() {
        let sent = out.send_now(&bytes[at..], false)?;
        at += sent;
        if sent == 0 {
            match timeout::<R, _>(SILENT, out.writable()).await {
                Ok(writable) => writable?,
                Err(_) => break,
            }
        }
    }
    Ok(at)
}

/// Sends bytes to a client that has taken nothing for a while.
pub async fn send_rest<R: Runtime>(shelf: &Arc<Shelf>, out: &Out<'_, R>, rest: Vec<u8>) -> Result<(), Error> {
    if rest.is_empty() {
        return Ok(());
    }
    let (rest, shelf) = (Arc::new(rest), Arc::clone(shelf));
    let theirs = Arc::clone(&rest);
    match put_aside(move || shelf.put(&theirs).map(Arc::new)).await {
        Some(aside) => {
            drop(rest);
            send_aside(out, &aside, 0, aside.count()).await
        }
        None => out.send(&rest).await,
    }
}

/// Puts bytes aside; `None` where the disk takes them not.
async fn put_aside(job: impl FnOnce() -> io::Result<Arc<Aside>> + Send + 'static) -> Option<Arc<Aside>> {
    blocking::run(&blocking::ASIDE, job).await.ok()?.ok()
}

/// Sends the bytes from `first` to `end` of what lies aside.
pub async fn send_aside<R: Runtime>(
    out: &Out<'_, R>,
    aside: &Aside,
    first: u64,
    end: u64,
) -> Result<(), Error> {
    let Some((file, start)) = aside.place() else { return Ok(()) };
    out.send_file(file, start + first, start + end, Heat::Unknown).await
}

fn within(bytes: &[u8], at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len())
}
