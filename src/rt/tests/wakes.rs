//! Wakes from other threads, jobs of the pools, and notifications, tested on every backend.
#![allow(clippy::extra_unused_type_parameters, reason = "what runs on the backend need not name it")]

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_lite::future::poll_once;

use super::harness::*;
use crate::rt::notify::Notify;
use crate::rt::remote_wake::{Waiter, Waiters};
use crate::rt::{Runtime, blocking};

on_every_backend!(
    a_waiter_hears_every_change_on_another_thread,
    no_wake_up_is_lost_between_threads,
    a_dropped_waiter_disturbs_nobody,
    a_job_on_the_pool_gives_its_result,
    a_panic_of_a_job_is_an_error,
    a_dropped_job_runs_to_its_end,
    a_started_job_runs_before_anybody_waits_for_it,
    a_notification_wakes_everybody_from_then_on,
);

/// A number that changes on one thread and is awaited on another.
#[derive(Default)]
struct Shared(Mutex<(u64, Waiters)>);

impl Shared {
    fn add(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        state.1.wake_all();
    }

    async fn at_least(&self, wanted: u64, waiter: &Waiter) -> u64 {
        poll_fn(|context| {
            let mut state = self.0.lock().unwrap();
            if state.0 >= wanted {
                return Poll::Ready(state.0);
            }
            state.1.add(waiter, context);
            Poll::Pending
        })
        .await
    }
}

async fn a_waiter_hears_every_change_on_another_thread<R: Runtime>() {
    const ROUNDS: u64 = 5_000;
    let shared = Arc::new(Shared::default());
    let theirs = Arc::clone(&shared);
    let (ask, asked) = mpsc::channel();
    let other = thread::spawn(move || asked.iter().for_each(|()| theirs.add()));
    let waiter = Waiter::new();
    // Nobody changes the number again until this change was heard: a lost wake-up stands still.
    for round in 1..=ROUNDS {
        ask.send(()).unwrap();
        assert_eq!(shared.at_least(round, &waiter).await, round);
    }
    drop(ask);
    other.join().unwrap();
}

async fn no_wake_up_is_lost_between_threads<R: Runtime>() {
    const EACH: u64 = 20_000;
    let shared = Arc::new(Shared::default());
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let theirs = Arc::clone(&shared);
            thread::spawn(move || (0..EACH).for_each(|_| theirs.add()))
        })
        .collect();
    let done = Rc::new(Cell::new(0));
    for _ in 0..10 {
        let (shared, done) = (Arc::clone(&shared), Rc::clone(&done));
        R::spawn(async move {
            let waiter = Waiter::new();
            let mut seen = 0;
            while seen < 3 * EACH {
                seen = shared.at_least(seen + 1, &waiter).await;
            }
            done.set(done.get() + 1);
        });
    }
    until::<R>(|| done.get() == 10).await;
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

async fn a_dropped_waiter_disturbs_nobody<R: Runtime>() {
    let shared = Arc::new(Shared::default());
    let stop = Arc::new(AtomicBool::new(false));
    let (theirs, stopped) = (Arc::clone(&shared), Arc::clone(&stop));
    let other = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            theirs.add();
            thread::sleep(Duration::from_micros(50));
        }
    });
    // Slots are used again as soon as they are free: a token that comes late must not hit the next.
    for _ in 0..2_000 {
        let left = Waiter::new();
        assert!(poll_once(shared.at_least(u64::MAX, &left)).await.is_none());
        drop(left);
        let waiter = Waiter::new();
        let now = shared.0.lock().unwrap().0;
        shared.at_least(now + 1, &waiter).await;
    }
    stop.store(true, Ordering::Relaxed);
    other.join().unwrap();
}

async fn a_job_on_the_pool_gives_its_result<R: Runtime>() {
    let here = thread::current().id();
    assert_ne!(blocking::run(&blocking::DISK, || thread::current().id()).await.unwrap(), here);
    for number in 0..500 {
        assert_eq!(blocking::run(&blocking::DISK, move || number * 2).await.unwrap(), number * 2);
    }
    // More jobs at once than threads, and the loop goes on meanwhile.
    let done = Rc::new(Cell::new(0));
    for _ in 0..20 {
        let done = Rc::clone(&done);
        R::spawn(async move {
            blocking::run(&blocking::DISK, || thread::sleep(Duration::from_millis(5))).await.unwrap();
            done.set(done.get() + 1);
        });
    }
    until::<R>(|| done.get() == 20).await;
}

async fn a_panic_of_a_job_is_an_error<R: Runtime>() {
    // More often than the pool has threads: a panic must not cost it one.
    for _ in 0..10 {
        let failed = blocking::run(&blocking::DISK, || -> u8 { panic!("on purpose") }).await;
        assert!(failed.unwrap_err().to_string().contains("panicked"));
    }
    assert_eq!(blocking::run(&blocking::DISK, || 1).await.unwrap(), 1);
}

async fn a_dropped_job_runs_to_its_end<R: Runtime>() {
    let ran = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&ran);
    let job = move || {
        thread::sleep(Duration::from_millis(20));
        theirs.store(true, Ordering::Release);
    };
    assert!(poll_once(blocking::run(&blocking::DISK, job)).await.is_none());
    until::<R>(|| ran.load(Ordering::Acquire)).await;
}

async fn a_started_job_runs_before_anybody_waits_for_it<R: Runtime>() {
    let ran = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&ran);
    let job = blocking::start(&blocking::READS, move || theirs.swap(true, Ordering::AcqRel));
    until::<R>(|| ran.load(Ordering::Acquire)).await;
    assert!(!job.result().await.unwrap());
}

async fn a_notification_wakes_everybody_from_then_on<R: Runtime>() {
    let (notify, woken) = (Rc::new(Notify::default()), Rc::new(Cell::new(0)));
    for _ in 0..100 {
        let (notify, woken) = (Rc::clone(&notify), Rc::clone(&woken));
        R::spawn(async move {
            notify.notified().await;
            woken.set(woken.get() + 1);
        });
    }
    // Waiters that leave take nobody else's place.
    for _ in 0..100 {
        assert!(poll_once(notify.notified()).await.is_none());
        let (mut kept, mut left) = (Box::pin(notify.notified()), Box::pin(notify.notified()));
        assert!(poll_once(&mut left).await.is_none() && poll_once(&mut kept).await.is_none());
        drop(left);
        let (notify, woken) = (Rc::clone(&notify), Rc::clone(&woken));
        R::spawn(async move {
            notify.notified().await;
            woken.set(woken.get() + 1);
        });
    }
    R::sleep(Duration::from_millis(10)).await;
    assert_eq!(woken.get(), 0);
    notify.notify_all();
    notify.notified().await;
    until::<R>(|| woken.get() == 200).await;
}
