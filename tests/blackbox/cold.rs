//! Files that the page cache does not hold: served exactly, and never read by a worker itself.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::support::sandbox::Limit;
use crate::support::{Client, Gate, Io, Launch, Origin, Server, assert_bytes, bytes, on_both, within};

on_both!(
    a_cold_file_is_served_exactly,
    a_cold_file_is_served_exactly_where_the_cache_cannot_be_asked,
    many_clients_of_a_cold_file_get_exact_copies,
    a_cold_file_cut_in_mid_send_is_a_broken_transfer,
    a_cold_file_removed_in_mid_send_is_served_to_its_end,
    a_late_follower_of_a_cold_fill_gets_an_exact_copy,
    a_cold_file_is_not_read_by_a_worker,
    a_new_name_is_a_miss_and_then_a_hit,
);

/// Longer than two windows, and no multiple of anything.
const SIZE: usize = 3 * 1024 * 1024 + 4_321;

/// cachestat(2), on every architecture.
const SYS_CACHESTAT: libc::c_long = 451;

/// Makes the file's pages leave the page cache, as far as its file system has them there.
fn evict(path: &Path) {
    evict_open(&File::open(path).unwrap());
}

fn evict_open(file: &File) {
    file.sync_all().unwrap();
    posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
}

fn with_file(launch: Launch, size: usize) -> (Server, Vec<u8>) {
    let server = launch.start();
    let body = bytes(size, 7);
    evict(&server.put("x.tgz", &body));
    (server, body)
}

fn expect_exact(server: &Server, body: &[u8]) {
    let mut client = server.client();
    client.get("/x.tgz").expect(200, body);
    let size = body.len();
    for (first, last) in
        [(0, 0), (size - 1, size - 1), (5, 70_000), (1_000_000, size - 1), (2_097_151, 2_097_152)]
    {
        evict(&server.path("x.tgz"));
        let range = format!("Range: bytes={first}-{last}\r\n");
        let response = client.ask("GET", "/x.tgz", &range).response("GET");
        response.expect(206, &body[first..=last]);
    }
    evict(&server.path("x.tgz"));
    let head = client.ask("HEAD", "/x.tgz", "").response("HEAD");
    assert_eq!((head.status, head.field("Content-Length")), (200, Some(&*size.to_string())));
    evict(&server.put("small.tgz", b"small"));
    client.get("/small.tgz").expect(200, b"small").expect_keep_alive();
}

fn a_cold_file_is_served_exactly(io: Io) {
    let origin = Origin::silent();
    let (server, body) = with_file(Launch::new(io, &origin), SIZE);
    expect_exact(&server, &body);
    assert_eq!(origin.count(), 0);
}

fn a_cold_file_is_served_exactly_where_the_cache_cannot_be_asked(io: Io) {
    for calls in [
        &[SYS_CACHESTAT][..],
        &[libc::SYS_preadv2],
        &[SYS_CACHESTAT, libc::SYS_preadv2],
        &[libc::SYS_openat2],
    ] {
        let origin = Origin::silent();
        let launch = Launch::new(io, &origin);
        let launch = calls.iter().fold(launch, |launch, call| launch.limit(Limit::Refuse(*call)));
        let (server, body) = with_file(launch, SIZE);
        expect_exact(&server, &body);
        assert_eq!(origin.count(), 0);
    }
}

fn many_clients_of_a_cold_file_get_exact_copies(io: Io) {
    let origin = Origin::silent();
    let (server, body) = with_file(Launch::new(io, &origin).args(["--workers", "2"]), 2 * SIZE);
    thread::scope(|scope| {
        for number in 0..16 {
            let (server, body) = (&server, &body);
            scope.spawn(move || {
                let mut client = server.client();
                for round in 0..3 {
                    if number == 0 {
                        evict(&server.path("x.tgz"));
                    }
                    let first = (number * 400_000 + round) % body.len();
                    let range = format!("Range: bytes={first}-\r\n");
                    client.ask("GET", "/x.tgz", &range).response("GET").expect(206, &body[first..]);
                }
            });
        }
    });
    assert_eq!(origin.count(), 0);
}

/// More than the sockets on the way can hold.
const BIG: usize = 24 * 1024 * 1024;

/// A client that has the head, the first 100,000 bytes, and takes no more for now.
fn stopped_client(server: &Server) -> (Client, Vec<u8>) {
    let mut client = Client::connect_with_small_window(server.addr());
    let response = client.ask("GET", "/x.tgz", "").head("GET");
    assert_eq!(response.status, 200);
    let got = client.raw(100_000);
    (client, got)
}

fn a_cold_file_cut_in_mid_send_is_a_broken_transfer(io: Io) {
    let origin = Origin::silent();
    let (server, body) = with_file(Launch::new(io, &origin), BIG);
    let (mut client, mut got) = stopped_client(&server);
    let left = BIG - 3_000_000;
    File::options().write(true).open(server.path("x.tgz")).unwrap().set_len(left as u64).unwrap();
    evict(&server.path("x.tgz"));
    got.extend(client.rest());
    assert!(got.len() <= left, "more than there was");
    assert_bytes(&got, &body[..got.len()], "what was sent before the file ended");
    // And the server goes on.
    server.get("/x.tgz").expect(200, &body[..left]);
}

fn a_cold_file_removed_in_mid_send_is_served_to_its_end(io: Io) {
    let origin = Origin::silent();
    let (server, body) = with_file(Launch::new(io, &origin), BIG);
    let (mut client, mut got) = stopped_client(&server);
    let held = File::open(server.path("x.tgz")).unwrap();
    fs::remove_file(server.path("x.tgz")).unwrap();
    // So long that what was found in memory before is looked at again.
    thread::sleep(Duration::from_millis(1_200));
    evict_open(&held);
    got.extend(client.raw(BIG - got.len()));
    assert_bytes(&got, &body, "a removed file");
    assert_eq!(origin.count(), 0);
}

fn a_late_follower_of_a_cold_fill_gets_an_exact_copy(io: Io) {
    let body = bytes(2 * SIZE, 3);
    let gate = Gate::default();
    let (held, sent) = (gate.clone(), body.clone());
    let origin = Origin::start(move |_, reply| {
        reply.head(sent.len(), "");
        reply.write(&sent[..SIZE]);
        held.wait();
        reply.write(&sent[SIZE..]);
    });
    let server = Server::start(io, &origin);
    let mut leader = server.client();
    let begun = leader.ask("GET", "/x.tgz", "").head("GET");
    assert_eq!(begun.status, 200);
    let first = leader.raw(SIZE);
    assert_bytes(&first, &body[..SIZE], "the leader's first part");
    evict(&server.path("x.tgz.in-progress"));
    let mut late = server.client();
    assert_eq!(late.ask("GET", "/x.tgz", "").head("GET").status, 200);
    assert_bytes(&late.raw(SIZE), &body[..SIZE], "the late follower's first part");
    gate.open();
    for client in [&mut leader, &mut late] {
        assert_bytes(&client.raw(SIZE), &body[SIZE..], "the second part");
    }
    assert_eq!(origin.count(), 1);
}

/// Bytes that each thread of the server has had read from a disk so far (proc(5), task/[tid]/io):
/// those of the pool, and those of all others. `None` where the kernel keeps no such account.
fn disk_reads(server: &Server) -> Option<(u64, u64)> {
    let (mut pool, mut others) = (0, 0);
    for task in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().map(Result::unwrap) {
        let read = |name: &str| match fs::read_to_string(task.path().join(name)) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{name}: {error}"),
        };
        let account: BTreeMap<_, _> = read("io")?
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, count)| (name.to_owned(), count.parse::<u64>().unwrap()))
            .collect();
        let sum = if read("comm")?.starts_with("blocking-") { &mut pool } else { &mut others };
        *sum += account.get("read_bytes")?;
    }
    Some((pool, others))
}

fn a_cold_file_is_not_read_by_a_worker(io: Io) {
    let origin = Origin::silent();
    let server = Server::start(io, &origin);
    // One window or less: of a longer file the system reads ahead by itself, in the background, and
    // puts that on the account of the client that sent the part before.
    let body = bytes(1_000_000, 5);
    let mut client = server.client();
    server.put("first.tgz", &body);
    client.get("/first.tgz").expect(200, &body);
    for name in ["a.tgz", "b.tgz", "c.tgz"] {
        let path = server.put(name, &body);
        let target = format!("/{name}");
        // Not asked for before: what was just sent whole is taken to be in memory for a second.
        evict(&path);
        let Some(before) = disk_reads(&server) else {
            eprintln!("SKIPPED: the kernel does not say which thread reads from the disk");
            return;
        };
        client.get(&target).expect(200, &body);
        let after = disk_reads(&server).unwrap();
        // A try whether a byte is there starts the reading of its page, and does not wait for it.
        assert!(after.1 - before.1 < 100_000, "a worker has read from the disk: {before:?} to {after:?}");
        if after.0 == before.0 {
            eprintln!("SKIPPED: the files of this directory cannot be cold");
            return;
        }
        assert!(after.0 - before.0 >= 900_000, "the pool has read {before:?} to {after:?}");
    }
}

fn a_new_name_is_a_miss_and_then_a_hit(io: Io) {
    let origin = Origin::fixed(b"from the origin");
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for number in 0..20 {
        let target = format!("/deep/er/{number}.tgz");
        client.get(&target).expect(200, b"from the origin");
        let name = format!("deep/er/{number}.tgz");
        within("the fill's end", || server.path(&name).exists().then_some(()));
        client.get(&target).expect(200, b"from the origin");
    }
    assert_eq!(origin.count(), 20);
    client.ask("HEAD", "/no/such.tgz", "").response("HEAD");
    assert_eq!(origin.count(), 21);
}
