//! Before the first client: each worker opens the descriptors that it needs, then all start to accept together.
//! Clients would take those descriptors otherwise, and a worker that gets none ends the program.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The program does not start if a worker is not ready after this time.
const START_TIME: Duration = Duration::from_secs(60);

/// What each worker has of the barrier; the thread that starts them opens it.
#[derive(Clone, Debug)]
pub struct Readiness {
    reports: Sender<Result<(), String>>,
    open: Arc<OnceLock<()>>,
}

impl Readiness {
    /// For all workers, and where their reports arrive.
    pub(crate) fn new() -> (Self, Receiver<Result<(), String>>) {
        let (sender, reports) = mpsc::channel();
        (Self { reports: sender, open: Arc::default() }, reports)
    }

    /// This worker is ready. Blocks until the barrier opens.
    pub fn wait_for_all(&self) {
        self.report(Ok(()));
        self.open.wait();
    }

    /// Reports whether this worker is ready. After the start nobody reads it; the end of the thread shows a failure.
    pub fn report(&self, report: Result<(), String>) {
        drop(self.reports.send(report));
    }

    /// Lets the workers accept.
    pub(crate) fn open(&self) {
        self.open.get_or_init(|| ());
    }
}

/// Waits until this many workers are ready; the reason of the first that is not.
pub(crate) fn wait(reports: &Receiver<Result<(), String>>, workers: usize) -> Result<(), String> {
    let late = |_| "the workers did not start in time".to_owned();
    (0..workers).try_for_each(|_| reports.recv_timeout(START_TIME).map_err(late)?)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn no_worker_accepts_before_all_are_ready() {
        let (readiness, reports) = Readiness::new();
        let worker = || {
            let readiness = readiness.clone();
            thread::spawn(move || readiness.wait_for_all())
        };
        let workers = [worker(), worker(), worker()];
        assert_eq!(wait(&reports, 3), Ok(()));
        assert!(!workers.iter().any(thread::JoinHandle::is_finished));
        readiness.open();
        for worker in workers {
            worker.join().unwrap();
        }
    }

    #[test]
    fn a_worker_that_cannot_start_is_reported() {
        let (readiness, reports) = Readiness::new();
        readiness.report(Ok(()));
        readiness.report(Err("no ring".to_owned()));
        assert_eq!(wait(&reports, 2), Err("no ring".to_owned()));
    }
}
