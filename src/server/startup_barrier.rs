//! The moment before the first client: each worker has its descriptors, then all begin together. Clients that
//! come at the start would take them otherwise, and a worker that is left without ends the program.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// All workers have what they need after this time, or the program does not start.
const START_TIME: Duration = Duration::from_secs(60);

/// A worker's part.
#[derive(Clone, Debug)]
pub struct Readiness {
    reports: Sender<Result<(), String>>,
    open: Arc<Barrier>,
}

/// The part of who starts them.
#[derive(Debug)]
pub(crate) struct StartupBarrier {
    reports: Receiver<Result<(), String>>,
    open: Arc<Barrier>,
    workers: usize,
}

/// Both parts, for so many workers.
pub(crate) fn of(workers: usize) -> (Readiness, StartupBarrier) {
    let (sender, reports) = mpsc::channel();
    let open = Arc::new(Barrier::new(workers + 1));
    (Readiness { reports: sender, open: Arc::clone(&open) }, StartupBarrier { reports, open, workers })
}

impl Readiness {
    /// Tells that this worker has what it needs, and blocks until all have.
    pub fn arrive(&self) {
        self.report(Ok(()));
        self.open.wait();
    }

    /// Tells that this worker cannot go on. After the opening nobody asks: its thread's end says it.
    pub fn fail(&self, reason: String) {
        self.report(Err(reason));
    }

    fn report(&self, report: Result<(), String>) {
        // Nobody listens only when the program is about to end.
        drop(self.reports.send(report));
    }
}

impl StartupBarrier {
    /// Waits until all workers have what they need; the reason of the first that has not.
    pub(crate) fn wait(&self) -> Result<(), String> {
        for _ in 0..self.workers {
            match self.reports.recv_timeout(START_TIME) {
                Ok(report) => report?,
                Err(_) => return Err("the workers did not start in time".to_owned()),
            }
        }
        Ok(())
    }

    /// Lets them begin.
    pub(crate) fn open(&self) {
        self.open.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nobody_begins_before_all_have_come() {
        let (arrival, opening) = of(3);
        let workers: Vec<_> =
            (0..3).map(|_| arrival.clone()).map(|a| thread::spawn(move || a.arrive())).collect();
        assert_eq!(opening.wait(), Ok(()));
        assert!(!workers.iter().any(thread::JoinHandle::is_finished));
        opening.open();
        for worker in workers {
            worker.join().unwrap();
        }
    }

    #[test]
    fn one_that_cannot_go_on_is_told_of() {
        let (arrival, opening) = of(2);
        arrival.report(Ok(()));
        arrival.fail("no ring".to_owned());
        assert_eq!(opening.wait(), Err("no ring".to_owned()));
    }
}
