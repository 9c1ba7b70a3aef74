//! The end of a fill: the whole file gets its name, if it is what it must be; an index, once packages have been
//! compared with it.

use std::io::Read;
use std::sync::{Arc, mpsc};

use crate::cache::commit::Whole;
use crate::error::{Error, Kind, Side};
use crate::observe::log::RequestLog;
use crate::packages::index::{Package, listing};
use crate::packages::rebuilt::{Index, Reader};
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
    let listed = if proof.is_none() { ended.shared.contradicted.of(key) } else { None };
    let Some(expected) = proof.as_ref().or(listed.as_ref()).map(Arc::clone) else { return ended.name() };
    // The loop does not wait for it: requests for the file do.
    let place = ended.whole.partial.place().clone();
    place.start_reading(move || match (is_right(&expected, &ended.whole), proof) {
        (false, Some(_)) => refuse(ended.whole, &log),
        (false, None) => {
            ended.whole.permit.fill().supersede();
            ended.name();
        }
        (true, _) => {
            ended.shared.contradicted.settle(ended.whole.permit.key());
            ended.name();
        }
    });
}

impl Ended {
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

/// Has it the size and the checksum that the set lists? One that cannot be read has not.
fn is_right(listed: &Package, whole: &Whole) -> bool {
    let file = Reader { file: Arc::clone(whole.partial.file()), at: 0 }.take(whole.size);
    let sum = listed.version.as_ref().map(|version| (version, listing::sum(version.kind, file)));
    listed.size.is_none_or(|size| size == whole.size)
        && sum.is_none_or(|(version, sum)| sum.is_ok_and(|sum| sum.is_none_or(|sum| sum.is_same(version))))
}

fn refuse(Whole { permit, partial, .. }: Whole, log: &RequestLog) {
    let error = Error::new(Side::Origin, Kind::Mismatch);
    log.debug(format_args!("{} is not stored - {error}", permit.key().as_str()));
    drop(partial);
    // Before its key is free: who waits for that asks why.
    permit.fill().end_unfit(error.clone());
    permit.fail(error);
}
