//! What the rest of the program relies on: tasks, times and sockets, tested on every backend.
#![allow(clippy::extra_unused_type_parameters, reason = "what runs on the backend need not name it")]

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use futures_lite::future::{or, poll_once, yield_now, zip};

use super::harness::*;
use crate::rt::{Listener, Runtime, Socket, TimedOut, timeout};
use crate::sys::{socket, would_block};

on_every_backend!(
    a_spawned_task_runs_later_and_alone,
    sleeps_end_in_the_order_of_their_times,
    a_dropped_sleep_disturbs_nobody,
    a_timeout_fires_and_drops_what_it_bounds,
    a_timeout_lets_pass_what_is_in_time,
    both_directions_are_awaited_at_once,
    a_dropped_wait_leaves_the_other_working,
    the_peers_end_makes_a_socket_readable,
    a_thousand_dropped_sockets_are_closed,
    connections_are_accepted_ready_for_use,
    a_dropped_accept_loses_no_connection,
    a_receive_that_times_out_loses_no_byte,
    nobody_goes_on_behind_bytes_of_a_dropped_receive,
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
