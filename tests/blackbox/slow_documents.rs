//! Responses that no plain file can stand for, over a line that is slow: clients get them while they arrive, and they
//! are stored as if they had arrived at once.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::util::{PATIENCE, chunked};
use crate::support::{
    Client, Framing, Gate, Io, LAST_MODIFIED, Launch, Origin, Response, Server, assert_bytes, bytes, on_both,
    wait_until,
};

on_both!(
    a_slow_document_is_sent_while_it_arrives,
    a_head_without_a_byte_of_its_body_is_sent,
    a_document_of_a_preset_is_sent_while_it_arrives,
    clients_that_wait_for_a_slow_document_get_it_while_it_arrives,
    clients_with_other_fields_get_a_variant_of_their_own,
    a_slow_document_that_breaks_off_is_broken_for_all_and_not_stored,
    a_slow_document_whose_client_leaves_is_stored,
    a_slow_document_that_becomes_too_long_is_sent_whole_and_not_stored,
    slow_documents_that_find_no_room_in_memory_are_stored,
    an_old_client_sees_the_end_of_a_slow_document,
    conditions_and_ranges_of_a_slow_document,
    a_slow_document_survives_a_restart,
    a_slow_document_that_is_invalidated_meanwhile_is_checked,
    a_renewed_document_is_sent_while_it_arrives,
    a_slow_response_of_an_index_set_that_is_no_file_is_sent_while_it_arrives,
    a_disk_that_takes_nothing_costs_no_client_of_a_slow_document_a_byte,
);

const LENGTH: usize = 300_000;
const HALF: usize = LENGTH / 2;

/// How the origin frames what it sends.
#[derive(Clone, Copy)]
enum Framed {
    Length,
    Chunks,
}

/// An origin whose first answer sends a half of the body, and the rest once the gate opens; all others come at once.
struct Slow {
    origin: Origin,
    gate: Gate,
    body: Vec<u8>,
}

fn slow(status: &str, fields: &str, framed: Framed) -> Slow {
    slow_after(0, status, fields, framed, HALF)
}

/// Each answer but the first has a body of its own.
fn of(body: &[u8], index: usize) -> Vec<u8> {
    let mut other = body.to_vec();
    other.iter_mut().for_each(|byte| *byte ^= u8::try_from(index % 256).unwrap());
    other
}

fn slow_after(index: usize, status: &str, fields: &str, framed: Framed, cut: usize) -> Slow {
    let (gate, body) = (Gate::default(), bytes(LENGTH, 11));
    let (held, whole) = (gate.clone(), body.clone());
    let (status, fields) = (status.to_owned(), fields.to_owned());
    let origin = Origin::start(move |request, reply| {
        let body = of(&whole, request.index);
        let tag = format!("ETag: \"{}\"\r\n", request.index);
        let head = format!("HTTP/1.1 {status}\r\nLast-Modified: {LAST_MODIFIED}\r\n{tag}{fields}");
        let (head, message, cut) = match framed {
            Framed::Length => (format!("{head}Content-Length: {}\r\n\r\n", body.len()), body, cut),
            Framed::Chunks => {
                let mut message = chunked(&body[..cut], 50_000);
                message.truncate(message.len() - 5);
                let first = message.len();
                message.extend(chunked(&body[cut..], 50_000));
                (format!("{head}Transfer-Encoding: chunked\r\n\r\n"), message, first)
            }
        };
        reply.write(head);
        reply.write(&message[..cut]);
        if request.index == index {
            held.wait();
        }
        reply.write(&message[cut..]);
    });
    Slow { origin, gate, body }
}

fn launch(io: Io, origin: &Origin) -> Launch {
    Launch::new(io, origin).args(["--workers", "2", "--revalidate", r"\.idx$|/$"])
}

/// A request, its head, and these bytes of its body, which come before the gate is open.
struct Begun {
    client: Client,
    response: Response,
}

#[track_caller]
fn begin(server: &Server, target: &str, fields: &str) -> Begun {
    let mut client = server.client();
    client.ask("GET", target, fields);
    Begun::of(client)
}

impl Begun {
    #[track_caller]
    fn of(mut client: Client) -> Self {
        let response = client.head("GET");
        Self { client, response }
    }

    #[track_caller]
    fn has(&mut self, bytes: &[u8]) {
        while self.response.body.len() < bytes.len() {
            let got = match self.response.framing {
                Framing::Chunked => {
                    let line = self.line();
                    let size = usize::from_str_radix(&line, 16).unwrap();
                    let bytes = self.client.raw(size);
                    assert_eq!(self.client.raw(2), b"\r\n");
                    bytes
                }
                Framing::None | Framing::Length(_) | Framing::Close => {
                    self.client.raw(bytes.len() - self.response.body.len())
                }
            };
            self.response.body.extend(got);
        }
        assert_bytes(&self.response.body, bytes, "what came while it arrives");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        while !line.ends_with("\r\n") {
            line.push(char::from(self.client.raw(1)[0]));
        }
        line.trim_end().to_owned()
    }

    /// All of it, by now.
    #[track_caller]
    fn ends(mut self, status: u16, body: &[u8]) -> Client {
        self.client.finish(&mut self.response);
        self.response.expect(status, body);
        self.client
    }
}

fn a_slow_document_is_sent_while_it_arrives(io: Io) {
    let fresh = "Cache-Control: max-age=9999\r\n";
    let varies = "Cache-Control: max-age=9999\r\nVary: Accept-Language\r\nContent-Encoding: gzip\r\n";
    for (target, status, fields, framed) in [
        ("/x.idx?q", "200 OK", fresh, Framed::Length),
        ("/x.idx?q", "200 OK", fresh, Framed::Chunks),
        ("/some/directory/", "200 OK", fresh, Framed::Length),
        ("/x.idx", "200 OK", varies, Framed::Length),
        ("/x.idx", "404 Not Found", fresh, Framed::Length),
        ("/x.idx?q", "404 Not Found", fresh, Framed::Chunks),
    ] {
        let slow = slow(status, fields, framed);
        let server = launch(io, &slow.origin).start();
        let mut begun = begin(&server, target, "");
        begun.has(&slow.body[..HALF]);
        assert_eq!(begun.response.all("ETag"), ["\"0\""]);
        assert_eq!(begun.response.all("Vary").len(), usize::from(fields == varies));
        assert_eq!(begun.response.all("Content-Encoding").len(), usize::from(fields == varies));
        assert_eq!(begun.response.all("Date").len(), 1);
        slow.gate.open();
        let code = status[..3].parse().unwrap();
        let mut client = begun.ends(code, &slow.body);
        let hit = client.get(target);
        hit.expect(code, &slow.body);
        assert_eq!(hit.all("ETag"), ["\"0\""]);
        assert!(hit.field("Content-Length").is_some());
        server.get(target).expect(code, &slow.body);
        slow.origin.only();
    }
}

fn a_head_without_a_byte_of_its_body_is_sent(io: Io) {
    for framed in [Framed::Length, Framed::Chunks] {
        let slow = slow_after(0, "200 OK", "Cache-Control: max-age=9999\r\n", framed, 0);
        let server = launch(io, &slow.origin).start();
        let begun = begin(&server, "/x.idx?q", "");
        slow.gate.open();
        begun.ends(200, &slow.body).get("/x.idx?q").expect(200, &slow.body);
        slow.origin.only();
    }
}

fn a_document_of_a_preset_is_sent_while_it_arrives(io: Io) {
    for (preset, target) in [("pip", "/simple/some/"), ("npm", "/some")] {
        let slow = slow("200 OK", "Cache-Control: max-age=600\r\n", Framed::Length);
        let server = Launch::new(io, &slow.origin).args(["--preset", preset]).start();
        let mut begun = begin(&server, target, "Accept: application/json\r\n");
        begun.has(&slow.body[..HALF]);
        slow.gate.open();
        begun.ends(200, &slow.body);
        server.ask("GET", target, "Accept: application/json\r\n").expect(200, &slow.body);
        slow.origin.only();
    }
}

fn clients_that_wait_for_a_slow_document_get_it_while_it_arrives(io: Io) {
    for (fields, framed) in [("Cache-Control: max-age=9999\r\n", Framed::Length), ("", Framed::Chunks)] {
        let slow = slow("200 OK", fields, framed);
        let server = launch(io, &slow.origin).start();
        let asked: Vec<_> = (0..20)
            .map(|_| {
                let mut client = server.client();
                client.ask("GET", "/x.idx?q", "");
                client
            })
            .collect();
        let mut begun: Vec<_> = asked.into_iter().map(Begun::of).collect();
        // And those that come while it arrives.
        begun.extend((0..20).map(|_| begin(&server, "/x.idx?q", "")));
        for one in &mut begun {
            one.has(&slow.body[..HALF]);
        }
        slow.gate.open();
        for one in begun {
            one.ends(200, &slow.body);
        }
        slow.origin.only();
    }
}

fn clients_with_other_fields_get_a_variant_of_their_own(io: Io) {
    let slow = slow("200 OK", "Cache-Control: max-age=9999\r\nVary: Accept-Language\r\n", Framed::Length);
    let server = launch(io, &slow.origin).start();
    let ask = |language: &str| {
        let mut client = server.client();
        client.ask("GET", "/some/", &format!("Accept-Language: {language}\r\n"));
        client
    };
    let first = ask("de");
    wait_until("the origin is asked", || slow.origin.count() == 1);
    let (same, mut other) = (ask("de"), ask("fr"));
    let mut first = Begun::of(first);
    first.has(&slow.body[..HALF]);
    let mut same = Begun::of(same);
    same.has(&slow.body[..HALF]);
    // Asked before the head had come, and afterwards.
    other.response("GET").expect(200, &of(&slow.body, 1));
    let late = ask("it").response("GET");
    assert_eq!((late.status, late.whole), (200, true));
    assert!(late.body != slow.body && late.body != of(&slow.body, 1));
    slow.gate.open();
    first.ends(200, &slow.body);
    same.ends(200, &slow.body);
    server.ask("GET", "/some/", "Accept-Language: de\r\n").expect(200, &slow.body);
}

fn a_slow_document_that_breaks_off_is_broken_for_all_and_not_stored(io: Io) {
    for framed in [Framed::Length, Framed::Chunks] {
        let (gate, body) = (Gate::default(), bytes(LENGTH, 11));
        let (held, whole) = (gate.clone(), body.clone());
        let origin = Origin::start(move |request, reply| {
            let fields = "Cache-Control: max-age=9999\r\n";
            if request.index > 0 {
                return reply.answer("200 OK", fields, &whole);
            }
            match framed {
                Framed::Length => reply.head(LENGTH, fields),
                Framed::Chunks => {
                    reply.write(format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n"))
                }
            };
            match framed {
                Framed::Length => reply.write(&whole[..HALF]),
                Framed::Chunks => {
                    let part = chunked(&whole[..HALF], 50_000);
                    reply.write(&part[..part.len() - 5])
                }
            };
            held.wait();
            reply.close();
        });
        let server = launch(io, &origin).start();
        let mut begun = [begin(&server, "/x.idx?q", ""), begin(&server, "/x.idx?q", "")];
        for one in &mut begun {
            one.has(&body[..HALF]);
        }
        gate.open();
        for mut one in begun {
            one.client.finish(&mut one.response);
            assert!(!one.response.whole, "a broken body looks whole");
        }
        server.get("/x.idx?q").expect(200, &body);
        assert_eq!(origin.count(), 2);
    }
}

fn a_slow_document_whose_client_leaves_is_stored(io: Io) {
    let slow = slow("200 OK", "Cache-Control: max-age=9999\r\n", Framed::Length);
    let server = launch(io, &slow.origin).start();
    let mut begun = begin(&server, "/x.idx?q", "");
    begun.has(&slow.body[..HALF]);
    begun.client.abort();
    let mut late = begin(&server, "/x.idx?q", "");
    late.has(&slow.body[..HALF]);
    late.client.abort();
    slow.gate.open();
    server.get("/x.idx?q").expect(200, &slow.body);
    slow.origin.only();
}

fn a_slow_document_that_becomes_too_long_is_sent_whole_and_not_stored(io: Io) {
    let slow = slow("200 OK", "Cache-Control: max-age=9999\r\n", Framed::Chunks);
    // The longest body is an eighth of it: longer than a half, shorter than the whole.
    let memory = ((HALF + 50_000) * 8).to_string();
    let server = launch(io, &slow.origin).args(["--revalidate-memory", &memory]).start();
    let mut begun = [begin(&server, "/x.idx?q", ""), begin(&server, "/x.idx?q", "")];
    for one in &mut begun {
        one.has(&slow.body[..HALF]);
    }
    slow.gate.open();
    for one in begun {
        one.ends(200, &slow.body);
    }
    server.get("/x.idx?q").expect(200, &of(&slow.body, 1));
}

fn slow_documents_that_find_no_room_in_memory_are_stored(io: Io) {
    for framed in [Framed::Length, Framed::Chunks] {
        let (gate, count) = (Gate::default(), 12);
        let held = gate.clone();
        let is_open = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&is_open);
        let content = |target: &str| bytes(LENGTH, target.bytes().map(u64::from).sum());
        let origin = Origin::start(move |request, reply| {
            let body = content(&request.target);
            let fields = "Cache-Control: max-age=9999\r\n";
            let first = match framed {
                Framed::Length => {
                    reply.head(LENGTH, fields);
                    body[..HALF].to_vec()
                }
                Framed::Chunks => {
                    reply.write(format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n"));
                    let part = chunked(&body[..HALF], 50_000);
                    part[..part.len() - 5].to_vec()
                }
            };
            reply.write(first);
            if !opened.load(Ordering::SeqCst) {
                held.wait();
            }
            match framed {
                Framed::Length => reply.write(&body[HALF..]),
                Framed::Chunks => reply.write(chunked(&body[HALF..], 50_000)),
            };
        });
        let memory = (LENGTH * 10).to_string();
        let server = launch(io, &origin).args(["--revalidate-memory", &memory]).start();
        let targets: Vec<_> = (0..count).map(|n| format!("/x.idx?{}", n * n)).collect();
        let asked: Vec<_> = targets
            .iter()
            .map(|target| {
                let mut client = server.client();
                client.ask("GET", target, "");
                client
            })
            .collect();
        let mut begun: Vec<_> = asked.into_iter().map(Begun::of).collect();
        for (one, target) in begun.iter_mut().zip(&targets) {
            one.has(&content(target)[..HALF]);
        }
        is_open.store(true, Ordering::SeqCst);
        gate.open();
        for (one, target) in begun.into_iter().zip(&targets) {
            one.ends(200, &content(target));
        }
        // Bodies of unknown length take more room, if need be in the place of what is stored.
        if matches!(framed, Framed::Length) {
            for target in &targets {
                server.get(target).expect(200, &content(target));
            }
            assert_eq!(origin.count(), count);
        }
    }
}

/// A GET by HTTP/1.0: opens the gate when it has so much of the body; all of it, and how it ended.
fn old_get(server: &Server, target: &str, first: usize, then: &Gate) -> (Vec<u8>, Option<ErrorKind>) {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {target} HTTP/1.0\r\n\r\n").unwrap();
    let (mut got, mut buffer) = (Vec::new(), [0; 64 * 1024]);
    let body_of = |got: &[u8]| got.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
    let ending = loop {
        if body_of(&got).is_some_and(|at| got.len() >= at + first) {
            then.open();
        }
        match stream.read(&mut buffer) {
            Ok(0) => break None,
            Ok(count) => got.extend_from_slice(&buffer[..count]),
            Err(error) => break Some(error.kind()),
        }
    };
    let at = body_of(&got).unwrap();
    assert!(!String::from_utf8_lossy(&got[..at]).to_ascii_lowercase().contains("transfer-encoding"));
    (got.split_off(at), ending)
}

fn an_old_client_sees_the_end_of_a_slow_document(io: Io) {
    for framed in [Framed::Length, Framed::Chunks] {
        let slow = slow("200 OK", "Cache-Control: max-age=9999\r\n", framed);
        let server = launch(io, &slow.origin).start();
        let (got, ending) = old_get(&server, "/x.idx?q", HALF, &slow.gate);
        assert_bytes(&got, &slow.body, "an old client's body");
        assert_eq!(ending, None);
        slow.origin.only();
    }
}

fn conditions_and_ranges_of_a_slow_document(io: Io) {
    let slow = slow("200 OK", "Cache-Control: max-age=9999\r\n", Framed::Length);
    let server = launch(io, &slow.origin).args(["--far-range", "1000"]).start();
    let mut begun = begin(&server, "/x.idx?q", "");
    begun.has(&slow.body[..HALF]);
    let same = server.ask("GET", "/x.idx?q", "If-None-Match: \"0\"\r\n");
    assert_eq!((same.status, same.all("ETag")), (304, vec!["\"0\""]));
    assert_eq!(server.ask("GET", "/x.idx?q", "If-Match: \"other\"\r\n").status, 412);
    server.ask("GET", "/x.idx?q", "Range: bytes=10-19\r\n").expect(206, &slow.body[10..20]);
    assert_eq!(server.ask("GET", "/x.idx?q", &format!("Range: bytes={LENGTH}-\r\n")).status, 416);
    let mut far = begin(&server, "/x.idx?q", "Range: bytes=200000-200099\r\n");
    let mut last = begin(&server, "/x.idx?q", "Range: bytes=-100\r\nIf-Range: \"0\"\r\n");
    assert_eq!((far.response.status, last.response.status), (206, 206));
    slow.gate.open();
    begun.ends(200, &slow.body);
    far.client.finish(&mut far.response);
    far.response.expect(206, &slow.body[200_000..200_100]);
    last.client.finish(&mut last.response);
    last.response.expect(206, &slow.body[LENGTH - 100..]);
    slow.origin.only();
}

fn a_slow_document_survives_a_restart(io: Io) {
    let slow = slow("200 OK", "Cache-Control: max-age=9999\r\n", Framed::Length);
    let cache = tempfile::tempdir().unwrap();
    let server = launch(io, &slow.origin).cache(cache.path()).start();
    let mut begun = begin(&server, "/some/", "");
    begun.has(&slow.body[..HALF]);
    slow.gate.open();
    begun.ends(200, &slow.body);
    let stored = cache.path().join(".fs-caching-server/documents/=%2Fsome%2F");
    wait_until("it is on the disk", || stored.exists());
    drop(server);
    let server = launch(io, &slow.origin).cache(cache.path()).start();
    server.get("/some/").expect(200, &slow.body);
    slow.origin.only();
}

fn a_slow_document_that_is_invalidated_meanwhile_is_checked(io: Io) {
    let slow = slow("200 OK", "Cache-Control: max-age=9999\r\n", Framed::Length);
    let server = launch(io, &slow.origin).start();
    let mut begun = begin(&server, "/x.idx?q", "");
    begun.has(&slow.body[..HALF]);
    assert_eq!(server.ask("POST", "/x.idx?q", "Content-Length: 0\r\n").status, 200);
    slow.gate.open();
    begun.ends(200, &slow.body);
    server.get("/x.idx?q").expect(200, &of(&slow.body, 2));
}

fn a_renewed_document_is_sent_while_it_arrives(io: Io) {
    let slow = slow_after(1, "200 OK", "Cache-Control: max-age=0\r\n", Framed::Length, HALF);
    let server = launch(io, &slow.origin).start();
    server.get("/x.idx?q").expect(200, &slow.body);
    let new = of(&slow.body, 1);
    let mut begun = begin(&server, "/x.idx?q", "");
    begun.has(&new[..HALF]);
    let mut other = begin(&server, "/x.idx?q", "");
    other.has(&new[..HALF]);
    slow.gate.open();
    begun.ends(200, &new);
    other.ends(200, &new);
    assert_eq!(slow.origin.count(), 2);
}

fn a_slow_response_of_an_index_set_that_is_no_file_is_sent_while_it_arrives(io: Io) {
    let slow = slow("200 OK", "Cache-Control: max-age=9999\r\nContent-Encoding: br\r\n", Framed::Length);
    let server = Launch::new(io, &slow.origin).args(["--preset", "apt"]).start();
    let target = "/debian/dists/sid/main/binary-amd64/Packages.xz";
    let mut begun = begin(&server, target, "");
    begun.has(&slow.body[..HALF]);
    slow.gate.open();
    begun.ends(200, &slow.body);
}

fn a_disk_that_takes_nothing_costs_no_client_of_a_slow_document_a_byte(io: Io) {
    for framed in [Framed::Length, Framed::Chunks] {
        let slow = slow("200 OK", "Cache-Control: max-age=9999\r\n", framed);
        let server = launch(io, &slow.origin).start();
        // Where a directory should be.
        std::fs::write(server.path(".fs-caching-server"), "").unwrap();
        let mut client = server.client();
        client.ask("GET", "/x.idx?q", "");
        let mut begun = Begun::of(client);
        begun.has(&slow.body[..HALF]);
        let mut late = begin(&server, "/x.idx?q", "");
        late.has(&slow.body[..HALF]);
        slow.gate.open();
        begun.ends(200, &slow.body).get("/x.idx?q").expect(200, &slow.body);
        late.ends(200, &slow.body);
        slow.origin.only();
    }
}
