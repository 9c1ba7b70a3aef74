//! The directories that files are begun in: opened, made where they are missing, and known by where they lie.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::place::{Place, Placed, Way};
use crate::key::IN_PROGRESS;
use crate::outcome::BypassReason;
use crate::rt::lock::Lock;
use crate::sys::file::{Reach, Root};
use crate::sys::is_exhausted;

/// The directory that a file was last begun in, kept open: the next one often goes there too.
#[derive(Debug, Default)]
pub(crate) struct Parents(Lock<Option<(String, Arc<Placed<OwnedFd>>)>>);

impl Parents {
    /// It, or the one at this path within this reach.
    pub(crate) fn open(&self, root: &Root, path: &str, reach: Reach) -> io::Result<Arc<Placed<OwnedFd>>> {
        if let Some(known) = self.get(path) {
            return if is_beyond(reach, &known) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(known) };
        }
        let directory = placed(root, path, root.open_directory_by(path, reach)?, reach);
        // The fill that is about to begin needs it too.
        self.put(path, &directory);
        Ok(directory)
    }

    pub(crate) fn get(&self, path: &str) -> Option<Arc<Placed<OwnedFd>>> {
        self.0.lock().as_ref().filter(|(known, _)| known == path).map(|(_, directory)| Arc::clone(directory))
    }

    pub(crate) fn put(&self, path: &str, directory: &Arc<Placed<OwnedFd>>) {
        *self.0.lock() = Some((path.to_owned(), Arc::clone(directory)));
    }

    /// Its name may stand for another directory by now.
    pub(crate) fn forget(&self) {
        *self.0.lock() = None;
    }
}

pub(crate) fn is_beyond(reach: Reach, directory: &Placed<OwnedFd>) -> bool {
    reach == Reach::Here && directory.to().is_remote()
}

/// A directory that has been opened within this reach.
pub(crate) fn placed(root: &Root, path: &str, directory: OwnedFd, reach: Reach) -> Arc<Placed<OwnedFd>> {
    let place = match reach {
        Reach::Here => Place::Local,
        Reach::Anywhere => Place::of(&directory, &Way::new(path, root.is_remote())),
    };
    Arc::new(Placed::new(directory, place))
}

/// What was opened, and how much of its path was there if some of it had to be made.
type Opened = (Arc<Placed<OwnedFd>>, Option<usize>);

/// Opens it, or makes it. An error without a reason: it is out of reach.
pub(crate) fn open_or_make(root: &Root, path: &str, reach: Reach) -> Result<Opened, Option<BypassReason>> {
    let is_beyond = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock && reach == Reach::Here;
    match root.open_directory_by(path, reach) {
        Ok(directory) => return Ok((placed(root, path, directory, reach), None)),
        Err(error) if is_beyond(&error) => return Err(None),
        Err(_) => {}
    }
    let (directory, there) = root.make_directory(path, Some(IN_PROGRESS), reach).map_err(|error| {
        let is_busy = error.kind() == io::ErrorKind::ResourceBusy;
        (!is_beyond(&error)).then(|| if is_busy { BypassReason::Below } else { why_not(&error) })
    })?;
    Ok((placed(root, path, directory, reach), Some(there)))
}

/// Why nothing can be stored after this error.
pub(crate) fn why_not(error: &io::Error) -> BypassReason {
    if is_exhausted(error) { BypassReason::Descriptors } else { BypassReason::Disk }
}
