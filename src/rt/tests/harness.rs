//! What the tests of the contract stand on: an event loop of each kind, and sockets of two ends.

use std::cell::Cell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::rt::poll::{self, Portable};
use crate::rt::{Runtime, timeout};
use crate::sys::would_block;

/// Makes a test of each function, on every backend.
macro_rules! on_every_backend {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[test]
            fn portable() {
                crate::rt::tests::harness::portable(super::$name::<crate::rt::poll::Portable>);
            }

            #[cfg(target_os = "linux")]
            #[test]
            fn uring() {
                crate::rt::tests::harness::uring(super::$name::<crate::rt::uring::Uring>);
            }
        }
    )+ };
}
pub(super) use on_every_backend;

/// The longest any wait of these tests may last.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test on the polling engine.
pub(super) fn portable<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    poll::run(|| within::<Portable>(test())).unwrap();
}

/// Runs a test on io_uring, where the host allows it.
#[cfg(target_os = "linux")]
pub(super) fn uring<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    use crate::rt::uring::{Ring, RingFlags, Uring};
    match RingFlags::probe() {
        Ok(flags) => Ring::new(flags).unwrap().run(|| within::<Uring>(test())),
        Err(error) => {
            assert!(std::env::var_os("FS_CACHE_TEST_REQUIRE_URING").is_none(), "io_uring refused: {error}");
            eprintln!("SKIPPED: io_uring is refused on this host ({error})");
        }
    }
}

/// Runs a test for no longer than [`PATIENCE`].
pub(super) async fn within<R: Runtime>(test: impl Future<Output = ()>) {
    timeout::<R, _>(PATIENCE, test).await.expect("the test stands still");
}

/// Waits until `probe` is true.
pub(super) async fn until<R: Runtime>(probe: impl Fn() -> bool) {
    while !probe() {
        R::sleep(Duration::from_millis(1)).await;
    }
}

/// Both ends of a TCP connection, non-blocking.
pub(super) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    (near, far)
}

/// One end as the loop's own, the same for direct calls, and the other end.
pub(super) fn known<R: Runtime>() -> (R::Socket, TcpStream, TcpStream) {
    let (near, far) = tcp_pair();
    let ours = R::socket(OwnedFd::from(near.try_clone().unwrap())).unwrap();
    (ours, near, far)
}

/// Writes until the kernel takes no more.
pub(super) fn stuff(mut stream: &TcpStream) {
    let full = loop {
        match stream.write(&[0; 64 * 1024]) {
            Ok(count) => assert!(count > 0),
            Err(error) => break error,
        }
    };
    assert!(would_block(&full), "{full}");
}

/// Reads all that is there until `peer` could write again.
pub(super) async fn drain<R: Runtime>(mut stream: &TcpStream, stop: &Cell<bool>) {
    while !stop.get() {
        while matches!(stream.read(&mut [0; 64 * 1024]), Ok(1..)) {}
        R::sleep(Duration::from_millis(1)).await;
    }
}
