//! A disk whose calls hang, such as NFS without its server: requests for its files are served without it, and all other
//! requests are not delayed.

use std::thread;

use crate::support::{
    Call, Client, Fuse, Gate, Io, Launch, Origin, bytes, has_substitutes, on_both, wait_until,
};

on_both!(
    a_disk_call_that_hangs_delays_no_other_request_and_loses_no_byte,
    a_write_that_hangs_during_a_fill_loses_no_byte_of_a_client,
    a_cache_directory_whose_calls_hang_delays_no_client,
    a_stored_head_that_cannot_be_read_for_ages_stops_nothing,
    a_far_disk_that_answers_is_a_cache_like_any_other,
);

/// Long enough to be worth a record, and a pipe.
const SIZE: usize = 3 << 19;

fn content(target: &str) -> Vec<u8> {
    let digits: String = target.chars().filter(char::is_ascii_digit).collect();
    let size = if target.contains("far") { SIZE } else { 1000 };
    bytes(size, digits.parse::<u64>().unwrap_or(0) + 1)
}

fn origin() -> Origin {
    Origin::start(|request, reply| reply.serve(request, &content(&request.target)))
}

/// Without openat2 mounts below the cache directory are not told apart.
fn are_mounts_known() -> bool {
    let are_known = !has_substitutes();
    if !are_known {
        eprintln!("SKIPPED: without openat2 mounts below the cache directory are not told apart");
    }
    are_known
}

/// The calls of hits, and of fills from their first to their last.
const CALLS: [Call; 12] = [
    Call::LookUp,
    Call::Open,
    Call::Read,
    Call::Flush,
    Call::MakeDirectory,
    Call::Create,
    Call::Write,
    Call::SetExtended,
    Call::SetAttributes,
    Call::Sync,
    Call::Rename,
    Call::Unlink,
];

/// Runs all at the same time: each waits for nothing but a disk that hangs.
fn for_each_call(test: impl Fn(Call) + Sync) {
    thread::scope(|scope| {
        for call in CALLS {
            let test = &test;
            scope.spawn(move || test(call));
        }
    });
}

fn a_disk_call_that_hangs_delays_no_other_request_and_loses_no_byte(io: Io) {
    if !are_mounts_known() {
        return;
    }
    for_each_call(|call| {
        let origin = origin();
        let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
        server.put("hit.tgz", b"hit");
        server.get("/hit.tgz").expect(200, b"hit");
        let Some(far) = Fuse::mount(&server.path("far")) else { return };
        for number in 0..4 {
            far.put(&format!("{number}.tgz"), &content(&format!("far{number}")));
        }
        // Half of a file, of which nothing is known: it goes before the fill.
        far.put("104.tgz.in-progress", b"half");
        far.hang(&[call]);
        let targets = (0..4)
            .flat_map(|n| {
                [format!("/far/{n}.tgz"), format!("/far/10{n}.tgz"), format!("/far/new{n}/20{n}.tgz")]
            })
            .chain(["/far/104.tgz".to_owned()]);
        let mut asked: Vec<(String, Client)> = targets.map(|target| (target, server.client())).collect();
        for (target, client) in &mut asked {
            client.ask("GET", target, "");
        }
        wait_until(&format!("{call:?} hangs"), || far.hangs());
        let mut client = server.client();
        for number in 300..350 {
            client.get("/hit.tgz").expect(200, b"hit");
            let miss = format!("/{number}.tgz");
            client.get(&miss).expect(200, &content(&miss));
        }
        server.expect_cached("349.tgz", &content("349"));
        for (target, client) in &mut asked {
            client.response("GET").expect(200, &content(target)).expect_keep_alive();
        }
        client.get("/hit.tgz").expect(200, b"hit");
        drop(far);
        server.get("/far/400.tgz").expect(200, &content("far400"));
        assert_eq!(server.err.all(), [""; 0], "{call:?}");
    });
}

fn a_write_that_hangs_during_a_fill_loses_no_byte_of_a_client(io: Io) {
    if !are_mounts_known() {
        return;
    }
    let (body, gate) = (content("far1"), Gate::default());
    let (sent, held) = (body.clone(), gate.clone());
    let origin = Origin::start(move |request, reply| {
        if !request.target.starts_with("/far") {
            return reply.serve(request, b"near");
        }
        reply.head(sent.len(), "");
        reply.write(&sent[..sent.len() / 2]);
        held.wait();
        reply.write(&sent[sent.len() / 2..]);
    });
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    let Some(far) = Fuse::mount(&server.path("far")) else { return };
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    let mut responses: Vec<_> =
        clients.iter_mut().map(|client| client.ask("GET", "/far/1.tgz", "").head("GET")).collect();
    for (client, response) in clients.iter_mut().zip(&mut responses) {
        response.body = client.raw(body.len() / 2);
    }
    far.hang(&[Call::Write]);
    gate.open();
    wait_until("a write hangs", || far.hangs());
    server.get("/near.tgz").expect(200, b"near");
    server.expect_cached("near.tgz", b"near");
    // At the same time: what is in no file comes as fast as the slowest takes it.
    thread::scope(|scope| {
        for (client, response) in clients.iter_mut().zip(&mut responses) {
            let body = &body;
            scope.spawn(move || {
                client.finish(response);
                response.expect(200, body).expect_keep_alive();
            });
        }
    });
    server.get("/far/1.tgz").expect(200, &body);
    assert_eq!(far.get("1.tgz"), None);
}

fn a_cache_directory_whose_calls_hang_delays_no_client(io: Io) {
    for_each_call(|call| {
        let origin = origin();
        let place = tempfile::tempdir().unwrap();
        let Some(far) = Fuse::mount(place.path()) else { return };
        let server = Launch::new(io, &origin).cache(place.path()).args(["--workers", "1"]).start();
        // Gone before the server: the end of a process closes its files.
        let far = far;
        far.put("hit.tgz", b"hit");
        server.get("/hit.tgz").expect(200, b"hit");
        far.hang(&[call]);
        let targets = (0..4).flat_map(|n| [format!("/{n}.tgz"), format!("/new/far{n}.tgz")]);
        let mut asked: Vec<(String, Client)> = targets.map(|target| (target, server.client())).collect();
        for (target, client) in &mut asked {
            client.ask("GET", target, "");
        }
        // What is passed has to do with no disk.
        server.ask("GET", "/passed", "").expect(200, &content("/passed"));
        for (target, client) in &mut asked {
            client.response("GET").expect(200, &content(target)).expect_keep_alive();
        }
        assert_eq!(server.err.all(), [""; 0], "{call:?}");
    });
}

fn a_stored_head_that_cannot_be_read_for_ages_stops_nothing(io: Io) {
    if !are_mounts_known() {
        return;
    }
    let body = content("far1");
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| {
        let body = if request.target.starts_with("/far") { &sent[..] } else { b"near" };
        reply.answer("200 OK", "Cache-Control: max-age=1000\r\nETag: \"a\"\r\n", body);
    });
    let launch = Launch::new(io, &origin).args(["--workers", "1", "--revalidate", "Index"]);
    let server = launch.start();
    let Some(far) = Fuse::mount(&server.path("far")) else { return };
    for number in 0..20 {
        far.put(&format!("Index{number}"), &body);
    }
    server.get("/Index").expect(200, b"near");
    far.hang(&[Call::GetExtended]);
    let mut asked: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for (number, client) in asked.iter_mut().enumerate() {
        client.ask("GET", &format!("/far/Index{number}"), "");
    }
    wait_until("a read of a head hangs", || far.hangs());
    for number in 0..20 {
        server.get("/Index").expect(200, b"near");
        server.get(&format!("/Index-{number}")).expect(200, b"near");
        server.get(&format!("/{number}.tgz")).expect(200, b"near");
    }
    for client in &mut asked {
        client.response("GET").expect(200, &body).expect_keep_alive();
    }
}

/// All that goes on off the loop for its sake.
fn a_far_disk_that_answers_is_a_cache_like_any_other(io: Io) {
    if !are_mounts_known() {
        return;
    }
    let origin = origin();
    let server = Launch::new(io, &origin).start();
    let Some(far) = Fuse::mount(&server.path("far")) else { return };
    thread::scope(|scope| {
        for first in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for number in first..first + 6 {
                    let (target, body) = (format!("/far/{number}.tgz"), content(&format!("far{number}")));
                    for _ in 0..2 {
                        client.get(&target).expect(200, &body).expect_keep_alive();
                    }
                    let part = client.ask("GET", &target, "Range: bytes=1000-1000999\r\n").response("GET");
                    part.expect(206, &body[1000..1_001_000]);
                }
            });
        }
    });
    for number in 0..9 {
        let name = format!("{number}.tgz");
        wait_until("it has its name", || far.get(&name).is_some());
        assert!(far.get(&name).unwrap() == content(&format!("far{number}")));
    }
    let asked = origin.count();
    for number in 0..9 {
        let target = format!("/far/{number}.tgz");
        server.get(&target).expect(200, &content(&target));
    }
    assert_eq!((asked, origin.count()), (9, 9));
    let open = server.descriptors();
    wait_until("nothing stays open", || server.descriptors() <= open);
}
