//! The directory of all runs, what others do to it, and what an end leaves of it.

use super::*;

/// The directory, and what others have done to it.
pub(crate) struct TestDir {
    pub(crate) top: PathBuf,
    pub(crate) origin: Rc<Origin>,
    /// Runs of the system so far.
    pub(crate) boot: usize,
    /// Files in progress that are not this process's: device and inode.
    foreign: BTreeSet<(u64, u64)>,
    /// One that another process holds, and what it is.
    pub(crate) held: Option<(Locked, PathBuf, (u64, u64))>,
    pub(crate) rng: Rng,
}

fn id_of(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl TestDir {
    pub(crate) fn new(top: PathBuf, rng: Rng) -> Self {
        let origin = Rc::new(Origin::new(rng.clone()));
        Self { top, origin, boot: 0, foreign: BTreeSet::new(), held: None, rng }
    }

    pub(crate) fn finished(&self, number: usize) -> PathBuf {
        self.top.join(&PATHS[number][1..])
    }

    fn in_progress(&self, number: usize) -> PathBuf {
        self.top.join(format!("{}{}", &PATHS[number][1..], key::IN_PROGRESS))
    }

    /// Somebody else is at it. Each of these may fail for what is there or not.
    pub(crate) fn inject_interference(&mut self) {
        let number = self.rng.below(PATHS.len());
        let (finished, in_progress) = (self.finished(number), self.in_progress(number));
        match self.rng.below(11) {
            0..3 => drop(fs::remove_file(finished)),
            3 => {
                self.held = self.held.take().filter(|(_, path, _)| *path != in_progress);
                drop(fs::remove_file(in_progress));
            }
            4 => drop(fs::create_dir_all(finished)),
            5 => drop(fs::remove_dir(finished)),
            6 if self.rng.one_in(4) => {
                self.held = None;
                drop(fs::remove_dir_all(self.top.join("d")));
            }
            7 => self.held = None,
            8 => {
                drop(fs::create_dir_all(in_progress.parent().unwrap()));
                let Ok(file) = fs::File::create_new(&in_progress) else {
                    // It is longer than its fetch made it, or will be.
                    let longer = fs::File::options().write(true).open(&in_progress);
                    return drop(longer.and_then(|file| file.write_all_at(b"!", 2_000)));
                };
                let id = id_of(&in_progress).unwrap();
                self.foreign.insert(id);
                if self.rng.one_in(2) {
                    self.held = Some((file::lock(file.into()).unwrap(), in_progress, id));
                }
            }
            9 | 10 => self.origin.change(number),
            _ => {}
        }
    }

    /// What another process holds is let alone.
    pub(crate) fn check_held(&self) {
        if let Some((_, path, id)) = &self.held {
            assert_eq!(id_of(path), Some(*id), "{} is held by another process", path.display());
        }
    }

    /// What is finished is exact, and of one version; the files in progress that are ours.
    fn check(&self) -> Vec<PathBuf> {
        for (number, path) in PATHS.iter().enumerate() {
            let finished = self.finished(number);
            if finished.is_file() {
                let bytes = fs::read(&finished).unwrap();
                let mut versions = 0..=self.origin.version(number);
                assert!(versions.any(|version| bytes == body_of(number, version)), "{path} is wrong");
                let modified = fs::metadata(&finished).unwrap().mtime();
                assert_eq!(u64::try_from(modified), Ok(MODIFIED), "{path} has no date");
            }
        }
        let in_progress = (0..PATHS.len()).map(|number| self.in_progress(number));
        in_progress.filter(|path| id_of(path).is_some_and(|id| !self.foreign.contains(&id))).collect()
    }

    /// The same; those in progress of which no later fetch can make anything.
    pub(crate) fn check_left(&self) -> Vec<PathBuf> {
        let is_useless = |path: &PathBuf| Record::read(&fs::File::open(path).unwrap()).is_none();
        self.check().into_iter().filter(is_useless).collect()
    }

    /// Ends a process in such a way.
    pub(crate) fn cut_short(&mut self, how: Event, process: Rc<ProcessRun>, tasks: Vec<Task>) -> Events {
        if how == Event::Stop {
            process.store.abandon_all();
            assert_eq!(self.check_left(), Vec::<PathBuf>::new(), "left after a stop");
        }
        let ours = self.check();
        let mut met = self.kill(process, tasks);
        if how == Event::PowerCut {
            self.boot += 1;
            (0..PATHS.len()).for_each(|number| self.lose(&self.in_progress(number)));
        }
        // Nobody's, from now on.
        self.foreign.extend(ours.iter().filter_map(|path| id_of(path)));
        if how != Event::Stop {
            *met.entry(Event::LeftBehind).or_default() += ours.len();
        }
        met
    }

    /// As `kill -9` does it: names and bytes stay, locks go, and nobody tidies up.
    fn kill(&self, process: Rc<ProcessRun>, tasks: Vec<Task>) -> Events {
        let in_progress = (0..PATHS.len()).map(|number| (self.in_progress(number), number));
        let aside: Vec<_> = in_progress
            .map(|(path, number)| (path, self.top.join(format!("aside-{number}"))))
            .filter(|(path, aside)| fs::hard_link(path, aside).is_ok())
            .collect();
        let met = end(process, tasks);
        for (path, aside) in &aside {
            // It has gone with the file.
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::rename(aside, path).unwrap();
            // A rename between two names of one file does nothing (rename(2)).
            drop(fs::remove_file(aside));
        }
        met
    }

    /// What was not synced of a file in progress is anything now.
    fn lose(&self, path: &Path) {
        let Ok(file) = fs::File::options().read(true).write(true).open(path) else { return };
        let (size, synced) = (file.metadata().unwrap().len(), Record::read(&file).map_or(0, |r| r.synced));
        let lost = usize::try_from(size.saturating_sub(synced)).unwrap();
        file.write_all_at(&vec![b'?'; lost], synced).unwrap();
        if self.rng.one_in(2) {
            file.set_len(synced.min(size) + self.rng.below(lost + 1) as u64).unwrap();
        }
    }
}
