//! The body of a file that no descriptor keeps open, piece by piece.

use super::silent;
use crate::cache::Entry;
use crate::cache::stored_file::LentFile;
use crate::downstream::client::Out;
use crate::downstream::readahead::{self, Heat, PIECE};
use crate::error::Error;
use crate::fd_budget::Purpose;
use crate::http::range::Span;
use crate::rt::Runtime;

/// Sends these bytes. As soon as there is a descriptor for it to stay open, it does.
pub async fn send<R: Runtime>(lent: &LentFile, out: &Out<'_, R>, span: Span) -> Result<(), Error> {
    let mut at = span.first;
    while at < span.end {
        let left = usize::try_from(span.end - at).unwrap_or(usize::MAX);
        if left > PIECE
            && let Some(held) = lent.cache().descriptors.try_take(Purpose::File, 1)
        {
            let entry = lent.with::<R, _>(0, Ok).await?;
            let entry = Entry { held: Some(held), ..entry };
            return out.send_file(&entry.file, at, span.end, Heat::Unknown).await;
        }
        let most = left.min(PIECE);
        let piece =
            lent.with::<R, _>(most as u64, move |entry| readahead::piece(&*entry.file, at, most)).await?;
        let sent = silent::send_some(out, &piece).await?;
        at += sent as u64;
        if sent < piece.len() {
            // It is read again when the client takes more.
            drop(piece);
            out.writable().await?;
        }
    }
    Ok(())
}
