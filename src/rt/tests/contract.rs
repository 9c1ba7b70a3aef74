//! The runtime contract, tested on every backend: what the rest of the program relies on.
#![allow(clippy::extra_unused_type_parameters, reason = "what runs on the backend need not name it")]

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_lite::future::{or, poll_once, yield_now, zip};

use super::harness::*;
use crate::rt::notify::Notify;
use crate::rt::poll::Portable;
use crate::rt::remote_wake::{Waiter, Waiters};
use crate::rt::{Listener, Runtime, Socket, TimedOut, blocking, timeout};
use crate::sys::{socket, would_block};

macro_rules! on_every_backend {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[test]
            fn portable() {
                super::portable(super::$name::<super::Portable>);
            }

            #[cfg(target_os = "linux")]
            #[test]
            fn uring() {
                super::uring(super::$name::<crate::rt::uring::Uring>);
            }
        }
    )+ };
}

on_every_backend!(
    a_spawned_task_runs_later_and_alone,
    sleeps_end_in_the_order_of_their_times,
    a_dropped_sleep_disturbs_nobody,
    a_timeout_fires_and_drops_what_it_bounds,
    a_timeout_lets_pass_what_is_in_time,
    both_directions_are_awaited_at_once,
    a_dropped_wait_leaves_the_other_working,
    the_peers_end_makes_a_socket_readable,
    a_waiter_hears_every_change_on_another_thread,
    no_wake_up_is_lost_between_threads,
    a_dropped_waiter_disturbs_nobody,
    a_job_on_the_pool_gives_its_result,
    a_panic_of_a_job_is_an_error,
    a_dropped_job_runs_to_its_end,
    a_started_job_runs_before_anybody_waits_for_it,
    a_thousand_dropped_sockets_are_closed,
    connections_are_accepted_ready_for_use,
    a_dropped_accept_loses_no_connection,
    a_receive_that_times_out_loses_no_byte,
    nobody_goes_on_behind_bytes_of_a_dropped_receive,
    a_notification_wakes_everybody_from_then_on,
);

async fn a_spawned_task_runs_later_and_alone<R: Runtime>() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    for number in 0..300 {
        let seen = Rc::clone(&seen);
        R::spawn(async move {
            yield_now().await;
            seen.borrow_mut().push(number);
        });
    }
    assert!(seen.borrow().is_empty(), "spawn ran a task itself");
    until::<R>(|| seen.borrow().len() == 300).await;
    seen.borrow_mut().sort_unstable();
    assert_eq!(*seen.borrow(), (0..300).collect::<Vec<_>>());
}

async fn sleeps_end_in_the_order_of_their_times<R: Runtime>() {
    let order = Rc::new(RefCell::new(Vec::new()));
    // All times begin here, so a late start of a task changes nothing.
    let sleeps: Vec<_> = [300, 100, 200].map(|ms| (ms, R::sleep(Duration::from_millis(ms)))).into();
    let waits = sleeps.into_iter().map(|(ms, sleep)| {
        let order = Rc::clone(&order);
        async move {
            sleep.await;
            order.borrow_mut().push(ms);
        }
    });
    // Tasks of their own: within one, those that are due together end as they stand.
    let count = waits.map(|wait| R::spawn(wait)).count();
    until::<R>(|| order.borrow().len() == count).await;
    assert_eq!(*order.borrow(), [100, 200, 300]);
}

async fn a_dropped_sleep_disturbs_nobody<R: Runtime>() {
    for _ in 0..1_000 {
        assert!(poll_once(R::sleep(PATIENCE)).await.is_none());
        // Begun, dropped, and due while the next ones run.
        poll_once(R::sleep(Duration::from_millis(5))).await;
    }
    R::sleep(Duration::from_millis(20)).await;
}

/// Tells by its drop.
struct Told(Rc<Cell<bool>>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

async fn a_timeout_fires_and_drops_what_it_bounds<R: Runtime>() {
    let dropped = Rc::new(Cell::new(false));
    let told = Told(Rc::clone(&dropped));
    let endless = async move {
        let _held = told;
        pending::<()>().await;
    };
    assert_eq!(timeout::<R, _>(Duration::from_millis(20), endless).await, Err(TimedOut));
    assert!(dropped.get(), "the bounded future outlived its time");
}

async fn a_timeout_lets_pass_what_is_in_time<R: Runtime>() {
    assert_eq!(timeout::<R, _>(PATIENCE, async { 7 }).await, Ok(7));
    let slow = async {
        R::sleep(Duration::from_millis(20)).await;
        8
    };
    assert_eq!(timeout::<R, _>(PATIENCE, slow).await, Ok(8));
    // What is done counts, even when its time is over by then.
    assert_eq!(timeout::<R, _>(Duration::ZERO, async { 9 }).await, Ok(9));
}

async fn both_directions_are_awaited_at_once<R: Runtime>() {
    for read_first in [false, true] {
        let (ours, near, far) = known::<R>();
        stuff(&near);
        let (stop, order) = (Rc::new(Cell::new(false)), RefCell::new(Vec::new()));
        let read = async {
            ours.readable().await.unwrap();
            order.borrow_mut().push("read");
        };
        let write = async {
            ours.writable().await.unwrap();
            order.borrow_mut().push("write");
        };
        let (done, first) = (Rc::clone(&stop), if read_first { "read" } else { "write" });
        let peer = async {
            for turn in [read_first, !read_first] {
                R::sleep(Duration::from_millis(10)).await;
                if turn {
                    (&far).write_all(b"x").unwrap();
                    until::<R>(|| order.borrow().contains(&"read")).await;
                } else {
                    let emptied = drain::<R>(&far, &done);
                    or(emptied, until::<R>(|| order.borrow().contains(&"write"))).await;
                }
            }
        };
        zip(zip(read, write), peer).await;
        assert_eq!(order.borrow()[0], first);
        assert_eq!(order.borrow().len(), 2);
        stop.set(true);
    }
}

/// Lets the loop know of a wait, then drops it; was it still waiting?
async fn is_dropped_waiting<R: Runtime>(wait: impl Future<Output = std::io::Result<()>>) -> bool {
    let over = async { wait.await.is_err() };
    let turn = async {
        R::yield_now().await;
        true
    };
    or(over, turn).await
}

async fn a_dropped_wait_leaves_the_other_working<R: Runtime>() {
    let (ours, near, far) = known::<R>();
    for _ in 0..50 {
        stuff(&near);
        let mut writable = pin!(ours.writable());
        assert!(poll_once(writable.as_mut()).await.is_none(), "writable while full");
        assert!(is_dropped_waiting::<R>(ours.readable()).await, "readable while empty");
        let stop = Cell::new(false);
        or(drain::<R>(&far, &stop), async { writable.await.unwrap() }).await;
        // And the other way round: a dropped wait to write, then a read.
        stuff(&near);
        let mut readable = pin!(ours.readable());
        assert!(poll_once(readable.as_mut()).await.is_none(), "readable while empty");
        assert!(is_dropped_waiting::<R>(ours.writable()).await, "writable while full");
        (&far).write_all(b"y").unwrap();
        readable.await.unwrap();
        assert_eq!((&near).read(&mut [0; 8]).unwrap(), 1);
        or(drain::<R>(&far, &stop), async { ours.writable().await.unwrap() }).await;
        while matches!((&far).read(&mut [0; 64 * 1024]), Ok(1..)) {}
    }
}

async fn the_peers_end_makes_a_socket_readable<R: Runtime>() {
    let (ours, near, far) = known::<R>();
    let mut wait = pin!(ours.readable());
    assert!(poll_once(wait.as_mut()).await.is_none());
    drop(far);
    wait.await.unwrap();
    assert_eq!((&near).read(&mut [0; 8]).unwrap(), 0);
}

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
    let waiter = Waiter::new().unwrap();
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
            let waiter = Waiter::new().unwrap();
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
        let left = Waiter::new().unwrap();
        assert!(poll_once(shared.at_least(u64::MAX, &left)).await.is_none());
        drop(left);
        let waiter = Waiter::new().unwrap();
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
    let waiter = Waiter::new().unwrap();
    assert!(!job.result(&waiter).await.unwrap());
}

async fn a_thousand_dropped_sockets_are_closed<R: Runtime>() {
    for round in 0..1_000 {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let socket = R::socket(OwnedFd::from(near)).unwrap();
        // Some with a wait that was dropped, some with one that came true, some with none.
        match round % 3 {
            0 => assert!(poll_once(socket.readable()).await.is_none()),
            1 => socket.writable().await.unwrap(),
            _ => {}
        }
        drop(socket);
        // The other end sees the close only when no descriptor is left, here or in the kernel.
        until::<R>(|| match (&far).read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(error) => {
                assert!(would_block(&error), "{error}");
                false
            }
        })
        .await;
    }
}

async fn connections_are_accepted_ready_for_use<R: Runtime>() {
    let fd = socket::listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = socket::local_address(&fd).unwrap();
    let mut listener = R::listener(fd).unwrap();
    let client = thread::spawn(move || {
        for round in 0..200_u8 {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&[round]).unwrap();
            let mut answer = [0; 1];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [round]);
        }
    });
    for round in 0..200_u8 {
        let (stream, ip) = listener.accept().await.unwrap();
        assert_eq!(ip, IpAddr::from([127, 0, 0, 1]));
        let mut byte = [0; 1];
        let count = loop {
            match socket::recv(&stream, &mut byte) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => stream.readable().await.unwrap(),
                result => break result.unwrap(),
            }
        };
        assert_eq!((count, byte), (1, [round]));
        assert_eq!(socket::recv(&stream, &mut byte).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(socket::send(&stream, &byte, false).unwrap(), 1);
    }
    client.join().unwrap();
}

async fn a_dropped_accept_loses_no_connection<R: Runtime>() {
    let fd = socket::listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = socket::local_address(&fd).unwrap();
    let mut listener = R::listener(fd).unwrap();
    for round in 0..50_u8 {
        let mut client = {
            let mut accepting = pin!(listener.accept());
            assert!(poll_once(accepting.as_mut()).await.is_none(), "nobody has come yet");
            let client = TcpStream::connect(address).unwrap();
            // The loop takes note of the connection, and nobody asks for it.
            for _ in 0..3 {
                R::yield_now().await;
            }
            client
        };
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(socket::send(&stream, &[round], false).unwrap(), 1);
        let mut byte = [0; 1];
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [round]);
    }
}

async fn a_receive_that_times_out_loses_no_byte<R: Runtime>() {
    const BYTES: usize = 400;
    let (near, mut far) = tcp_pair();
    let mut ours = R::socket(OwnedFd::from(near)).unwrap();
    let sender = thread::spawn(move || {
        for number in 0..BYTES {
            thread::sleep(Duration::from_micros(200 * (number as u64 % 40)));
            far.write_all(&[u8::try_from(number % 251).unwrap()]).unwrap();
        }
    });
    let (mut seen, mut late) = (Vec::new(), 0);
    loop {
        match ours.receive(Vec::with_capacity(64), Duration::from_millis(2)).await {
            (Ok(0), _) => break,
            (Ok(count), buffer) => {
                assert_eq!(count, buffer.len());
                seen.extend(buffer);
            }
            (Err(error), buffer) => {
                assert_eq!((error.kind(), buffer.len()), (ErrorKind::TimedOut, 0));
                late += 1;
            }
        }
    }
    sender.join().unwrap();
    assert_eq!(seen, (0..BYTES).map(|number| u8::try_from(number % 251).unwrap()).collect::<Vec<_>>());
    assert!(late > 0, "no receive was late: the test shows nothing");
}

async fn nobody_goes_on_behind_bytes_of_a_dropped_receive<R: Runtime>() {
    for _ in 0..100 {
        let (near, mut far) = tcp_pair();
        let mut ours = R::socket(OwnedFd::from(near)).unwrap();
        {
            let mut receiving = pin!(ours.receive(Vec::with_capacity(64), PATIENCE));
            assert!(poll_once(receiving.as_mut()).await.is_none(), "nothing has come yet");
            far.write_all(b"a").unwrap();
            R::yield_now().await;
        }
        far.write_all(b"b").unwrap();
        match ours.receive(Vec::with_capacity(1), PATIENCE).await {
            (Ok(1), buffer) => assert_eq!(buffer, b"a", "the first byte was lost"),
            (Ok(count), _) => panic!("{count} bytes"),
            (Err(error), _) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
                assert!(ours.readable().await.is_err(), "reading goes on behind a gap");
            }
        }
    }
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
