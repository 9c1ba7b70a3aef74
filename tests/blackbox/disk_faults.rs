//! A disk that is full, read-only, refuses a call, or changes under our hands: clients get the exact
//! bytes or a visibly broken transfer, never a hang, and nothing half is left.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::stat::Mode;

use crate::support::sandbox::Limit;
use crate::support::util::{chunked, tree};
use crate::support::{
    Client, Dead, Gate, Io, Launch, Mounted, Origin, Server, bytes, has_substitutes, on_both, wait_until,
    within,
};

on_both!(
    a_full_disk_during_a_hundred_fills_loses_no_byte_of_a_client,
    a_read_only_disk_serves_stored_files_and_passes_misses,
    calls_that_fail_cost_no_client_its_bytes,
    a_cache_directory_removed_during_a_fill_loses_no_byte_of_a_client,
    a_file_that_is_cut_while_it_is_sent_breaks_the_transfer,
    a_file_that_is_replaced_or_removed_while_it_is_sent_arrives_as_it_was,
    a_file_in_progress_that_is_cut_and_taken_away_is_not_stored,
    a_file_in_progress_that_others_cut_or_extend_is_not_stored,
    a_client_behind_in_a_file_in_progress_that_is_cut_sees_it_break,
    a_file_or_directory_that_takes_the_name_during_a_fill_is_not_replaced,
    an_in_progress_name_that_is_not_a_file_is_not_touched,
    a_path_below_a_file_that_is_being_fetched_does_not_take_its_name,
    an_empty_directory_under_an_in_progress_name_goes,
    a_look_up_that_hangs_stops_no_hit_and_passes_its_own_request,
);

/// A small file system in memory.
fn small(size: &str) -> Option<Mounted> {
    Mounted::new("tmpfs", &format!("size={size}"))
}

/// Files of 256 KiB, each with bytes of its own.
fn many() -> Origin {
    Origin::start(|request, reply| reply.serve(request, &content(&request.target)))
}

fn content(target: &str) -> Vec<u8> {
    let digits: String = target.chars().filter(char::is_ascii_digit).collect();
    bytes(256 << 10, digits.parse::<u64>().unwrap_or(0) + 1)
}

fn a_full_disk_during_a_hundred_fills_loses_no_byte_of_a_client(io: Io) {
    let Some(disk) = small("4m") else { return };
    let origin = many();
    let server = Launch::new(io, &origin).cache(disk.path()).start();
    // A quarter of a hundred times as much as there is room for.
    thread::scope(|scope| {
        for client in 0..10 {
            let server = &server;
            scope.spawn(move || {
                let mut connection = server.client();
                for n in 0..10 {
                    let target = format!("/{}.tgz", client * 10 + n);
                    connection.get(&target).expect(200, &content(&target)).expect_keep_alive();
                }
            });
        }
    });
    let whole = |name: &String| {
        let stored = fs::read(server.path(name)).unwrap();
        assert_eq!(stored, content(name), "{name}");
    };
    let files = within("nothing is in progress", || {
        let files = tree(server.cache_dir());
        files.iter().all(|name| !name.ends_with(".in-progress")).then_some(files)
    });
    files.iter().for_each(whole);
    assert!(files.len() < 17, "{} files of 256 KiB in 4 MiB", files.len());
    // Room is made: what is asked for now is stored again.
    for name in &files {
        fs::remove_file(server.path(name)).unwrap();
    }
    for n in 200..204 {
        let target = format!("/{n}.tgz");
        server.get(&target).expect(200, &content(&target));
        server.expect_cached(&target[1..], &content(&target));
    }
    assert_eq!(server.err.all(), [""; 0]);
}

fn a_read_only_disk_serves_stored_files_and_passes_misses(io: Io) {
    let Some(disk) = small("8m") else { return };
    let origin = many();
    let server = Launch::new(io, &origin).cache(disk.path()).start();
    server.get("/1.tgz").expect(200, &content("1"));
    server.expect_cached("1.tgz", &content("1"));
    server.expect_tree(&["1.tgz"]);
    disk.remount("ro");
    let mut client = server.client();
    for target in ["/1.tgz", "/2.tgz", "/dir/3.tgz", "/2.tgz"] {
        client.get(target).expect(200, &content(target)).expect_keep_alive();
    }
    assert_eq!(origin.count(), 4);
    server.expect_tree(&["1.tgz"]);
    disk.remount("rw");
    for target in ["/2.tgz", "/dir/3.tgz"] {
        client.get(target).expect(200, &content(target));
        server.expect_cached(&target[1..], &content(target));
    }
}

/// System calls of a fill, from its first to its last, of which one fails: is the file kept then?
const CALLS: &[(&[libc::c_long], bool)] = &[
    (&[libc::SYS_mkdirat], false),
    (&[libc::SYS_flock], false),
    (&[libc::SYS_pwrite64, libc::SYS_splice], false),
    (&[libc::SYS_splice], true),
    (&[libc::SYS_utimensat], false),
    (&[libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_syncfs], false),
    (&[libc::SYS_renameat, libc::SYS_renameat2], false),
    (&[libc::SYS_openat2], true),
    (&[libc::SYS_sendfile], true),
];

#[track_caller]
fn expect_nothing(server: &Server, calls: &[libc::c_long]) {
    let nothing = || tree(server.cache_dir()).iter().all(|name| name.ends_with('/'));
    wait_until(&format!("nothing is kept without {calls:?}"), nothing);
}

fn calls_that_fail_cost_no_client_its_bytes(io: Io) {
    let small = bytes(1_000, 1);
    let large = bytes(3 << 20, 2);
    for (calls, kept) in CALLS {
        let (one, other) = (small.clone(), large.clone());
        let origin = Origin::start(move |request, reply| {
            reply.serve(request, if request.target.contains("small") { &one } else { &other });
        });
        let mut launch = Launch::new(io, &origin).args(["--workers", "1"]);
        for call in *calls {
            launch = launch.limit(Limit::Refuse(*call));
        }
        let server = launch.start();
        let mut client = server.client();
        for (target, body) in [("/dir/small.tgz", &small), ("/dir/large.tgz", &large)] {
            for _ in 0..2 {
                client.get(target).expect(200, body).expect_keep_alive();
            }
            if *kept {
                server.expect_cached(&target[1..], body);
            } else {
                expect_nothing(&server, calls);
            }
        }
        server.put("hit.tgz", b"hit");
        client.get("/hit.tgz").expect(200, b"hit");
        assert_eq!(server.err.all(), [""; 0], "{calls:?}");
    }
}

/// An origin that waits at the gate in the middle of the first body.
fn half_way(body: &[u8], gate: &Gate) -> Origin {
    let (body, gate) = (body.to_vec(), gate.clone());
    Origin::start(move |request, reply| {
        reply.head(body.len(), "");
        reply.write(&body[..body.len() / 2]);
        if request.index == 0 {
            gate.wait();
        }
        reply.write(&body[body.len() / 2..]);
    })
}

/// The same in two chunks.
fn half_way_in_chunks(body: &[u8], gate: &Gate) -> Origin {
    let (message, gate) = (chunked(body, body.len() / 2), gate.clone());
    let half = message.len() / 2 - 2;
    Origin::start(move |request, reply| {
        reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        reply.write(&message[..half]);
        if request.index == 0 {
            gate.wait();
        }
        reply.write(&message[half..]);
    })
}

fn a_cache_directory_removed_during_a_fill_loses_no_byte_of_a_client(io: Io) {
    let body = bytes(1 << 20, 3);
    let gate = Gate::default();
    let origin = half_way(&body, &gate);
    let server = Server::start(io, &origin);
    let mut clients: Vec<_> = (0..3).map(|_| server.client()).collect();
    let mut heads: Vec<_> =
        clients.iter_mut().map(|client| client.ask("GET", "/a/b/x.tgz", "").head("GET")).collect();
    wait_until("the fill has begun", || server.path("a/b/x.tgz.in-progress").exists());
    fs::remove_dir_all(server.cache_dir()).unwrap();
    gate.open();
    for (client, response) in clients.iter_mut().zip(&mut heads) {
        client.finish(response);
        response.expect(200, &body).expect_keep_alive();
    }
    let mut n = 0;
    wait_until("files are cached again", || {
        n += 1;
        server.get(&format!("/a/b/{n}.tgz")).expect(200, &body);
        (1..=n).any(|n| server.path(&format!("a/b/{n}.tgz")).exists())
    });
    wait_until("nothing is in progress", || {
        tree(server.cache_dir()).iter().all(|name| !name.ends_with(".in-progress"))
    });
    assert!(!server.path("a/b/x.tgz").exists());
}

/// A client that has the head and a few bytes of a large hit, and takes its time.
fn in_the_middle(server: &Server, target: &str) -> (Client, crate::support::Response) {
    let mut client = Client::connect_with_small_window(server.addr());
    let mut response = client.ask("GET", target, "").head("GET");
    assert_eq!(response.status, 200);
    response.body = client.raw(1_000);
    (client, response)
}

fn a_file_that_is_cut_while_it_is_sent_breaks_the_transfer(io: Io) {
    let body = bytes(32 << 20, 4);
    for left in [0, 2_000, (31 << 20) + 5] {
        let server = Launch::new(io, &Origin::silent()).args(["--workers", "1"]).start();
        let path = server.put("x.tar", &body);
        let (mut client, mut response) = in_the_middle(&server, "/x.tar");
        File::options().write(true).open(&path).unwrap().set_len(left).unwrap();
        client.finish(&mut response);
        assert!(!response.whole, "{} bytes passed for the whole file", response.body.len());
        // What had been handed to the system may end in the zeros that the cut has left of a page.
        let odd = response.body.iter().zip(&body).position(|(got, sent)| got != sent && *got != 0);
        assert_eq!(odd, None);
        // What is there now is what the next client gets.
        let left = usize::try_from(left).unwrap();
        server.get("/x.tar").expect(200, &body[..left]);
    }
}

fn a_file_that_is_replaced_or_removed_while_it_is_sent_arrives_as_it_was(io: Io) {
    let body = bytes(32 << 20, 5);
    let origin = Origin::fixed(b"fetched anew");
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    type Change = fn(&Path);
    let changes: [(&[u8], Change); 4] = [
        (b"another", |path| {
            fs::write(path.with_extension("new"), b"another").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        (b"fetched anew", |path| fs::remove_file(path).unwrap()),
        (b"fetched anew", |path| fs::rename(path, path.with_extension("old")).unwrap()),
        (b"", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (then, change) in changes {
        let path = server.put("x.tar", &body);
        let (mut client, mut response) = in_the_middle(&server, "/x.tar");
        change(&path);
        client.finish(&mut response);
        response.expect(200, &body).expect_keep_alive();
        let status = if then.is_empty() { 400 } else { 200 };
        server.get("/x.tar").expect(status, then);
        wait_until("it is stored", || tree(server.cache_dir()).iter().all(|name| !name.contains("progress")));
        drop(fs::remove_file(&path));
    }
}

fn a_file_in_progress_that_is_cut_and_taken_away_is_not_stored(io: Io) {
    let body = bytes(1 << 20, 6);
    let gate = Gate::default();
    let origin = half_way(&body, &gate);
    let server = Launch::new(io, &origin).debug().start();
    let mut client = server.client();
    let mut response = client.ask("GET", "/x.tgz", "").head("GET");
    let partial = server.path("x.tgz.in-progress");
    // The client has taken what is there.
    response.body = client.raw(body.len() / 2);
    File::options().write(true).open(&partial).unwrap().set_len(10).unwrap();
    // Another that comes now would read what is not there any more.
    let mut late = server.client();
    let mut broken = late.ask("GET", "/x.tgz", "").head("GET");
    late.finish(&mut broken);
    assert!(!broken.whole && body.starts_with(&broken.body[..broken.body.len().min(10)]));
    fs::remove_file(&partial).unwrap();
    gate.open();
    client.finish(&mut response);
    response.expect(200, &body);
    server.err.wait_for("failed to save");
    server.expect_nothing_cached();
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
}

type Change = fn(&File);

fn a_file_in_progress_that_others_cut_or_extend_is_not_stored(io: Io) {
    let changes: [Change; 3] = [
        |file| file.set_len(0).unwrap(),
        |file| file.set_len(100_000).unwrap(),
        |mut file| file.write_all(b"appended").unwrap(),
    ];
    for in_chunks in [false, true] {
        for change in changes {
            let body = bytes(1 << 20, 9);
            let gate = Gate::default();
            let origin = if in_chunks { half_way_in_chunks(&body, &gate) } else { half_way(&body, &gate) };
            let server = Launch::new(io, &origin).debug().start();
            let mut client = server.client();
            // Without chunks, and with the close as the end.
            client.send("GET /x.tgz HTTP/1.0\r\n\r\n");
            let mut response = client.head("GET");
            response.body = client.raw(body.len() / 2);
            change(&File::options().append(true).open(server.path("x.tgz.in-progress")).unwrap());
            gate.open();
            client.finish(&mut response);
            response.expect(200, &body);
            server.err.wait_for("failed to save");
            server.expect_nothing_cached();
            server.get("/x.tgz").expect(200, &body);
            server.expect_cached("x.tgz", &body);
            assert_eq!(origin.count(), 2);
        }
    }
}

fn a_client_behind_in_a_file_in_progress_that_is_cut_sees_it_break(io: Io) {
    let body = bytes(32 << 20, 10);
    let gate = Gate::default();
    let origin = half_way(&body, &gate);
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let mut response = client.ask("GET", "/x.tar", "").head("GET");
    let (mut behind, mut broken) = in_the_middle(&server, "/x.tar");
    response.body = client.raw(body.len() / 2);
    File::options().write(true).open(server.path("x.tar.in-progress")).unwrap().set_len(0).unwrap();
    gate.open();
    behind.finish(&mut broken);
    assert!(!broken.whole, "a file with a hole passed for the whole");
    assert!(body.starts_with(&broken.body), "it got what was never in the file");
    client.finish(&mut response);
    response.expect(200, &body);
    server.expect_nothing_cached();
    server.get("/x.tar").expect(200, &body);
    server.expect_cached("x.tar", &body);
}

fn a_file_or_directory_that_takes_the_name_during_a_fill_is_not_replaced(io: Io) {
    let body = bytes(1 << 20, 7);
    let gate = Gate::default();
    let origin = half_way(&body, &gate);
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let mut response = client.ask("GET", "/x.tgz", "").head("GET");
    fs::create_dir(server.path("x.tgz")).unwrap();
    fs::write(server.path("x.tgz/kept"), b"kept").unwrap();
    gate.open();
    client.finish(&mut response);
    response.expect(200, &body).expect_keep_alive();
    server.expect_tree(&["x.tgz/kept"]);
    server.get("/x.tgz").expect(400, b"");
    fs::remove_dir_all(server.path("x.tgz")).unwrap();
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
}

fn an_in_progress_name_that_is_not_a_file_is_not_touched(io: Io) {
    let body = bytes(300_000, 8);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    let fifo = server.path("fifo.tgz.in-progress");
    nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o644)).unwrap();
    let socket = server.path("socket.tgz.in-progress");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // Who waits for a FIFO's other end waits for ever.
    for target in ["/fifo.tgz", "/socket.tgz"] {
        server.get(target).expect(200, &body);
    }
    thread::sleep(Duration::from_millis(50));
    server.get("/well.tgz").expect(200, &body);
    server.expect_cached("well.tgz", &body);
    // A FIFO is nobody's half file: it may go; but never does its name get to be the file's.
    for name in ["fifo.tgz", "socket.tgz"] {
        let kind = fs::symlink_metadata(server.path(name)).map(|info| info.file_type());
        assert!(kind.is_err() || kind.is_ok_and(|kind| kind.is_file() && !kind.is_fifo()), "{name}");
    }
}

fn a_path_below_a_file_that_is_being_fetched_does_not_take_its_name(io: Io) {
    let body = bytes(1 << 20, 9);
    let gate = Gate::default();
    let (held, sent) = (gate.clone(), body.clone());
    let origin = Origin::start(move |request, reply| {
        if request.target.ends_with("/b.tgz") {
            return reply.answer("200 OK", "", b"below");
        }
        reply.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len()));
        reply.write(&sent[..sent.len() / 2]);
        held.wait();
        reply.write(&sent[sent.len() / 2..]);
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let mut response = client.ask("GET", "/g/x.tgz", "").head("GET");
    for target in ["/g/x.tgz/b.tgz", "/g/x.tgz/c/b.tgz", "/g/x.tgz/b.tgz"] {
        server.get(target).expect(200, b"below");
    }
    let mut follower = server.client();
    let mut followed = follower.ask("GET", "/g/x.tgz", "").head("GET");
    assert_eq!(followed.status, 200);
    gate.open();
    client.finish(&mut response);
    follower.finish(&mut followed);
    response.expect(200, &body);
    followed.expect(200, &body);
    // At once: the file may still wait for its name.
    server.get("/g/x.tgz/b.tgz").expect(200, b"below");
    server.expect_cached("g/x.tgz", &body);
    server.get("/g/x.tgz").expect(200, &body);
    server.expect_tree(&["g/x.tgz"]);
}

fn an_empty_directory_under_an_in_progress_name_goes(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Server::start(io, &origin);
    fs::create_dir(server.path("x.tgz.in-progress")).unwrap();
    server.get("/x.tgz").expect(200, b"body");
    server.expect_cached("x.tgz", b"body");
    server.put("y.tgz.in-progress/kept", b"kept");
    server.get("/y.tgz").expect(200, b"body");
    server.expect_tree(&["x.tgz", "y.tgz.in-progress/kept"]);
}

/// A directory below the cache directory whose server is gone, as with NFS.
fn a_look_up_that_hangs_stops_no_hit_and_passes_its_own_request(io: Io) {
    if has_substitutes() {
        eprintln!("SKIPPED: without openat2 mounts below the cache directory are not told apart");
        return;
    }
    let origin = Origin::fixed(b"from the origin");
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    server.put("hit.tgz", b"hit");
    server.get("/hit.tgz").expect(200, b"hit");
    let Some(dead) = Dead::mount(&server.path("dead")) else { return };
    for round in 0..2 {
        let mut asked: Vec<Client> = (0..20).map(|_| server.client()).collect();
        for (number, client) in asked.iter_mut().enumerate() {
            client.ask("GET", &format!("/dead/{round}-{number}.tgz"), "");
        }
        let mut client = server.client();
        for number in 0..100 {
            client.get("/hit.tgz").expect(200, b"hit");
            client.get(&format!("/{round}-miss-{number}.tgz")).expect(200, b"from the origin");
        }
        for mut client in asked {
            client.response("GET").expect(200, b"from the origin");
        }
    }
    drop(dead);
    server.get("/dead/x.tgz").expect(200, b"from the origin");
}
