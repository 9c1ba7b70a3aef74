//! The end of a fill: the whole file gets its name, if it is what it must be; an index, once packages have been
//! compared with it.

use std::sync::{Arc, mpsc};

use crate::cache::commit::Whole;
use crate::error::{Error, Kind, Side};
use crate::observe::log::RequestLog;
use crate::packages::listed::{Package, is_right};
use crate::packages::rebuilt::Index;
use crate::proxy::exchange::Shared;

/// A fill that has all of its file.
pub(crate) struct Ended {
    pub(crate) shared: Arc<Shared>,
    pub(crate) whole: Whole,
    /// If it is an index that packages are compared with.
    pub(crate) index: Option<Index>,
    /// Closed when it has its name, or gets none.
    pub(crate) end: mpsc::Receiver<()>,
}

/// Puts the whole file in line for its name, if it is what it must be: what `proof` says, or else what a new index says
/// of a package that the cache had otherwise. Clients get such a package in any case.
pub(crate) fn commit(ended: Ended, proof: Option<Arc<Package>>, log: RequestLog) {
    let key = ended.whole.permit.key();
    let listed = if proof.is_none() { ended.shared.packages.expected.of(key) } else { None };
    let Some(expected) = proof.as_ref().or(listed.as_ref()).map(Arc::clone) else { return ended.name() };
    // The loop does not wait for it: requests for the file do.
    let place = ended.whole.partial.place().clone();
    place.start_reading(move || match (ended.is_right(&expected), proof.is_some()) {
        (true, true) => ended.name(),
        (false, true) => refuse(ended.whole, &log),
        (false, false) => {
            ended.whole.permit.fill().supersede();
            ended.name();
        }
        (true, false) => {
            ended.shared.packages.expected.settle(ended.whole.permit.key());
            ended.name();
        }
    });
}

impl Ended {
    fn is_right(&self, expected: &Package) -> bool {
        is_right(expected, Arc::clone(self.whole.partial.file()), self.whole.size)
    }

    fn name(self) {
        let Self { shared, whole, index, end } = self;
        let committer = shared.store.committer(whole.partial.place());
        index.iter().for_each(|index| index.pending.mark());
        whole.permit.fill().complete();
        match index {
            Some(index) => {
                let (file, size) = (Arc::clone(whole.partial.file()), whole.size);
                index.compare_all(file, size, move || {
                    committer.add(whole);
                    end
                });
            }
            None => committer.add(whole),
        }
    }
}

fn refuse(Whole { permit, partial, .. }: Whole, log: &RequestLog) {
    let error = Error::new(Side::Origin, Kind::Mismatch);
    log.debug(format_args!("{} is not stored - {error}", permit.key().as_str()));
    drop(partial);
    // Before its key is free: a request that waits for that asks why.
    permit.fill().end_unfit(error.clone());
    permit.fail(error);
}
