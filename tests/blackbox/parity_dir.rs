//! A cache directory may go from the Node original to this program and back: the original, where
//! it is installed, is run against the very same directories. FS_CACHE_TEST_ORIGINAL names its
//! fs-caching-server.js; without it these tests say that they were skipped.

use std::process::{Child, Command, Stdio};

use crate::support::server::free_port;
use crate::support::{Client, Io, Launch, Origin, Server, bytes, on_both, within};

on_both!(a_directory_of_the_original_is_served_as_hits, the_original_serves_a_directory_of_ours,);

/// The original, running on a directory; killed when dropped.
struct Original {
    child: Child,
    port: u16,
}

impl Original {
    fn start(origin: &Origin, dir: &std::path::Path) -> Option<Self> {
        let Some(script) = std::env::var_os("FS_CACHE_TEST_ORIGINAL") else {
            eprintln!("SKIPPED: FS_CACHE_TEST_ORIGINAL names no original to compare with");
            return None;
        };
        let port = free_port();
        let child = Command::new("node")
            .arg(script)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .args(["-U", &origin.url(), "-c"])
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { child, port })
    }

    fn client(&self) -> Client {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], self.port));
        within("the original listens", || std::net::TcpStream::connect(addr).ok());
        Client::connect(addr)
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        // Fails only when it has ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const TARGETS: [&str; 4] = ["/a.tgz", "/dir/b%20c.css", "/deep/er/%E4%B8%AD.tar.gz", "/x/../d.js"];

/// Everything in a hit's head that clients compare, and the body.
fn essence(response: &crate::support::Response) -> (u16, Vec<Option<String>>, Vec<u8>) {
    let names = ["Content-Length", "Content-Type", "ETag", "Last-Modified"];
    let bare = |value: &str| value.split(';').next().unwrap().to_owned();
    let fields = names.map(|name| response.field(name).map(bare)).to_vec();
    (response.status, fields, response.body.clone())
}

fn a_directory_of_the_original_is_served_as_hits(io: Io) {
    let body = bytes(70_000, 1);
    let origin = Origin::fixed(&body);
    let dir = tempfile::tempdir().unwrap();
    let Some(original) = Original::start(&origin, dir.path()) else {
        return;
    };
    let mut theirs = original.client();
    let ours = Launch::new(io, &origin).cache(dir.path()).start();
    for target in TARGETS {
        theirs.get(target).expect(200, &body);
        // The original renames after its answer: wait until it serves the file itself.
        let hit = within("a hit of the original", || {
            let response = theirs.get(target);
            response.field("ETag").is_some().then_some(response)
        });
        let asked = origin.count();
        assert_eq!(essence(&ours.get(target)), essence(&hit), "{target}");
        assert_eq!(origin.count(), asked, "{target} was fetched again");
    }
}

fn the_original_serves_a_directory_of_ours(io: Io) {
    let body = bytes(70_000, 2);
    let origin = Origin::fixed(&body);
    let ours = Server::start(io, &origin);
    let Some(original) = Original::start(&origin, ours.cache_dir()) else {
        return;
    };
    for target in TARGETS {
        ours.get(target).expect(200, &body);
    }
    ours.expect_tree(&["a.tgz", "d.js", "deep/er/\u{4e2d}.tar.gz", "dir/b c.css"]);
    let asked = origin.count();
    let mut theirs = original.client();
    for target in TARGETS {
        let hit = theirs.get(target);
        hit.expect(200, &body);
        assert_eq!(essence(&hit), essence(&ours.get(target)), "{target}");
    }
    assert_eq!(origin.count(), asked);
}
