//! Packages that were rebuilt under their old name: when an index arrives that lists another checksum for one than the
//! index before it did, or another size than the cache has, it is dropped, and the next request fetches it.
//!
//! No package is read for that: two generations of the index are compared. The one before is the file that had the name
//! until now; and, since many indexes are named by their checksum or are packed in several ways, those beside it.
//!
//! An index of a hundred thousand packages takes a second or two: a thread of its own reads it, one at a time. The index
//! gets its name only after that: should the program die before, the index before it is still there, and the next
//! request has the new one fetched and compared again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::comparisons::Pending;
use super::index::{self, Package, Proof, Version};
use super::listed::Reader;
use crate::cache::fill::Fill;
use crate::cache::{Entry, Found};
use crate::http::request::Method;
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::preset::Form;
use crate::proxy::exchange::{Exchange, Shared};
use crate::route::{self, Route};
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, blocking, timeout};

/// Indexes beside one that count as the generation before it, the newest ones.
const BESIDE: usize = 2;
/// Packages of earlier generations that are remembered while one index is compared, some 35 bytes each; those beyond
/// are compared by their sizes.
const PACKAGES: usize = 1 << 20;

/// How long a request waits for comparisons; then it is answered with the stored package.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the next comparison waits until the index of the last one has its name.
const NAMING: Duration = Duration::from_secs(10);

/// An index that lists packages, while it is being fetched.
#[derive(Debug)]
pub struct Index {
    shared: Arc<Shared>,
    key: Key,
    form: Form,
    /// Until the comparison has ended.
    pub pending: Arc<Pending>,
    log: RequestLog,
}

/// Whether this key names an index that lists packages.
fn is_index(shared: &Shared, key: &Key) -> bool {
    let rules = &shared.config.rules;
    !rules.is_empty() && rules.package_index(&format!("/{}", key.as_str())).is_some()
}

impl Index {
    /// The index that `key` names, where it does.
    pub fn named(shared: &Arc<Shared>, key: &Key, log: &RequestLog) -> Option<Self> {
        if shared.config.rules.is_empty() {
            return None;
        }
        let path = format!("/{}", key.as_str());
        let (form, base) = shared.config.rules.package_index(&path)?;
        let pending = Arc::new(Pending::new(&shared.packages.comparisons, base.to_owned()));
        let (shared, key, log) = (Arc::clone(shared), key.clone(), log.clone());
        Some(Self { shared, key, form, pending, log })
    }

    /// Compares all packages with the whole index in this file of `size` bytes, then does what is `next`: the index
    /// waits for its name until the channel closes. Does not wait.
    pub fn compare_all(
        self,
        file: impl AsFd + Send + 'static,
        size: u64,
        next: impl FnOnce() -> Receiver<()> + Send + 'static,
    ) {
        if blocking::INDEXES.is_full() {
            let key = self.key.as_str();
            self.log.debug(format_args!("{key} is not compared with packages - queue is full"));
            return drop(next());
        }
        // Its end is not waited for.
        drop(blocking::start(&blocking::INDEXES, move || {
            // A bug in the reading of indexes costs no index its name.
            drop(catch_unwind(AssertUnwindSafe(|| self.run(Reader::new(file).take(size)))));
            // Requests that wait continue.
            drop(self);
            // The next index is compared with this one.
            next().recv_timeout(NAMING).unwrap_or_default();
        }));
    }

    fn run(&self, reader: impl Read + Send + 'static) {
        let mut before = Generation::default();
        for Entry { file, .. } in self.older() {
            // What can be read of it counts.
            drop(index::read(self.form, Reader::new(file), |package| before.add(&package)));
        }
        if let Err(error) = index::read(self.form, reader, |package| self.compare(&package, &before)) {
            let path = self.shared.store.display(&self.key);
            self.log.debug(format_args!("{path} cannot be read as an index - {error}"));
        }
    }

    /// The generations before, in the order in which their files have changed.
    fn older(&self) -> Vec<Entry> {
        let mut older = self.beside();
        if let Found::File(replaced) = self.shared.store.look_up(self.key.as_str()) {
            older.push(replaced);
        }
        older.sort_by_key(|entry| entry.info.changed);
        older
    }

    /// Indexes of the same form that lie beside it, the newest ones.
    fn beside(&self) -> Vec<Entry> {
        let (store, rules) = (&self.shared.store, &self.shared.config.rules);
        let mut found = Vec::new();
        for directory in self.form.directories(&format!("/{}", self.key.as_str())) {
            let directory = directory.trim_start_matches('/');
            store.list(directory, |name, info| {
                let path =
                    if directory.is_empty() { format!("/{name}") } else { format!("/{directory}/{name}") };
                let is_one = rules.package_index(&path).is_some_and(|(form, _)| form == self.form);
                if is_one && path[1..] != *self.key.as_str() {
                    found.push((info.changed, path));
                    // A few more than are wanted, so that long lists are not sorted for each name.
                    if found.len() > 16 * BESIDE {
                        keep_newest(&mut found);
                    }
                }
            });
        }
        keep_newest(&mut found);
        let open = |(_, path): (_, String)| match store.look_up(&path[1..]) {
            Found::File(entry) => Some(entry),
            Found::Directory | Found::Absent | Found::Unusable(_) => None,
        };
        found.into_iter().filter_map(open).collect()
    }

    /// Drops the package's file if the index lists another one.
    fn compare(&self, package: &Package, before: &Generation) {
        let shared = &self.shared;
        // An index has no say over anything but packages beside it.
        let Some(key) = Key::beneath(self.pending.base(), &package.name) else { return };
        if !shared.config.pattern.matches(&format!("/{}", key.as_str())) {
            return;
        }
        let (is_rebuilt, size) = (before.has_another(package), package.size);
        let note = |is_another: bool| {
            // Before it is dropped: a request that finds no file fetches it at once.
            if is_another {
                shared.packages.expected.note(key.clone(), package.clone());
            }
            is_another
        };
        let is_another = |had: u64| note(is_rebuilt || size.is_some_and(|size| size != had));
        // A fill first: once it has its name it is found below.
        let is_coming = |fill: &Fill| match fill.announced().and_then(|response| response.length) {
            Some(length) => is_another(length),
            None => note(is_rebuilt),
        };
        let path = || shared.store.display(&key);
        if shared.store.inflight.supersede(&key, is_coming) {
            self.log.debug(format_args!("{} is not stored - the index has another one", path()));
        }
        match shared.store.drop_if(&key, is_another) {
            Ok(None) => {}
            Ok(Some(_)) if is_rebuilt => {
                self.log.debug(format_args!("dropped {} - the index has another one", path()));
            }
            Ok(Some(had)) => {
                let size = size.unwrap_or_default();
                self.log.debug(format_args!("dropped {} - {had} bytes, the index says {size}", path()));
            }
            Err(error) => self.log.debug(format_args!("failed to drop {} - {error}", path())),
        }
    }
}

/// Waits, if this request is for a file that the cache has and a comparison may drop. What is not there need not wait.
pub async fn wait<R: Runtime>(exchange: &Exchange<'_, R>) {
    let shared = &exchange.context.shared;
    if !matches!(exchange.request.method, Method::Get | Method::Head) {
        return;
    }
    let Route::Cache(key) = route::decide(exchange.request, &exchange.context.classes) else { return };
    // An index by the name of its checksum is no package.
    if !shared.packages.comparisons.concern(key.as_str()) || is_index(shared, &key) {
        return;
    }
    if !matches!(shared.cache.look_up_path::<R>(key.as_str()).await, Found::File(_)) {
        return;
    }
    let waiter = Waiter::new();
    exchange.log.debug(format_args!("{} waits for a new index to be compared", shared.store.display(&key)));
    // In time or not, the request goes on.
    timeout::<R, _>(PATIENCE, shared.packages.comparisons.ended(key.as_str(), &waiter))
        .await
        .unwrap_or_default();
}

fn keep_newest(found: &mut Vec<((i64, i64), String)>) {
    found.sort_unstable();
    found.drain(..found.len().saturating_sub(BESIDE));
}

/// What earlier generations of an index listed of each package: hashes of its name and of its checksum, with a new seed
/// each time.
#[derive(Default)]
struct Generation {
    seed: RandomState,
    packages: HashMap<u64, (Proof, u64)>,
}

impl Generation {
    /// A later one counts before an earlier one.
    fn add(&mut self, package: &Package) {
        let Some(version) = &package.version else { return };
        let (name, version) = (self.seed.hash_one(name(package)), self.hash(version));
        if self.packages.len() < PACKAGES || self.packages.contains_key(&name) {
            self.packages.insert(name, version);
        }
    }

    /// Whether it was another build. Only checksums of the same kind are compared.
    fn has_another(&self, package: &Package) -> bool {
        let Some(version) = &package.version else { return false };
        let (known, now) = (self.packages.get(&self.seed.hash_one(name(package))), self.hash(version));
        known.is_some_and(|known| known.0 == now.0 && known.1 != now.1)
    }

    fn hash(&self, version: &Version) -> (Proof, u64) {
        (version.kind, self.seed.hash_one(&version.text))
    }
}

fn name(package: &Package) -> &str {
    package.name.strip_prefix("./").unwrap_or(&package.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: Option<(Proof, &str)>) -> Package {
        let version = version.map(|(kind, text)| Version { kind, text: text.to_owned() });
        Package { name: name.to_owned(), size: None, version }
    }

    #[test]
    fn another_checksum_of_the_same_kind_is_another_build() {
        let mut before = Generation::default();
        for (name, sum) in [("a", "1"), ("./b", "1"), ("c", "1"), ("c", "2")] {
            before.add(&package(name, Some((Proof::Sha256, sum))));
        }
        before.add(&package("none", None));
        let is_another = |name: &str, kind, sum: &str| before.has_another(&package(name, Some((kind, sum))));
        assert!(is_another("a", Proof::Sha256, "2") && !is_another("a", Proof::Sha256, "1"));
        assert!(is_another("b", Proof::Sha256, "2") && !is_another("new", Proof::Sha256, "2"));
        // The last one that was seen.
        assert!(is_another("c", Proof::Sha256, "1") && !is_another("c", Proof::Sha256, "2"));
        // An index that goes over to another checksum tells nothing.
        assert!(!is_another("a", Proof::Sha512, "2") && !is_another("none", Proof::Sha512, "2"));
        assert!(!before.has_another(&package("a", None)));
    }

    #[test]
    fn what_is_remembered_of_a_package_is_small() {
        assert!(size_of::<(u64, (Proof, u64))>() <= 24);
    }
}
