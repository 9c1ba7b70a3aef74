//! The credentials in `-U http://USER:PASSWORD@SITE`: they open what can be read, and nothing that anybody
//! could change with them.

use crate::support::{Io, Launch, Origin, Server, on_both};

on_both!(
    credentials_of_the_url_do_not_go_with_what_changes_the_origin,
    credentials_of_the_url_do_not_go_with_an_overridden_method,
    credentials_of_the_url_go_with_all_methods_where_the_operator_says_so,
    credentials_of_the_url_never_come_back_in_a_trace,
);

/// What Basic makes of user:secret.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn site() -> Origin {
    Origin::start(|request, reply| {
        let head_only = request.method == "HEAD";
        reply.answer("200 OK", "", if head_only { b"" } else { b"done" });
    })
}

fn launch(io: Io, origin: &Origin) -> Launch {
    Launch::at(io, &format!("http://user:secret@{}", origin.authority()))
}

/// The Authorization fields with which the origin saw each of these requests.
#[track_caller]
fn carried(server: &Server, origin: &Origin, asked: &[(&str, &str, &str)]) -> Vec<Option<String>> {
    let before = origin.count();
    for (method, target, fields) in asked {
        server.ask(method, target, fields);
    }
    let seen = origin.requests();
    assert_eq!(seen.len(), before + asked.len(), "each is asked of the origin");
    seen[before..].iter().map(|request| request.field("Authorization").map(str::to_owned)).collect()
}

const CHANGING: [(&str, &str, &str); 9] = [
    ("PUT", "/x.tgz", "Content-Length: 0\r\n"),
    ("PUT", "/x", "Content-Length: 0\r\n"),
    ("DELETE", "/x.tgz", ""),
    ("POST", "/x", "Content-Length: 0\r\n"),
    ("PATCH", "/x", "Content-Length: 0\r\n"),
    ("PROPFIND", "/", ""),
    ("MKCOL", "/x", ""),
    ("OPTIONS", "/", ""),
    ("PURGE", "/x.tgz", ""),
];

fn credentials_of_the_url_do_not_go_with_what_changes_the_origin(io: Io) {
    let origin = site();
    let server = launch(io, &origin).start();
    assert_eq!(carried(&server, &origin, &CHANGING), [const { None }; 9]);
    // A body of a request goes another way inside.
    let mut client = server.client();
    client.ask("PUT", "/y.tgz", "Content-Length: 4\r\n").send("body").response("PUT").expect(200, b"done");
    assert_eq!(origin.requests().last().unwrap().field("Authorization"), None);
    // What reads does carry them, stored or not.
    let reading = [("GET", "/a.tgz", ""), ("GET", "/a", ""), ("HEAD", "/b.tgz", ""), ("HEAD", "/b", "")];
    assert_eq!(carried(&server, &origin, &reading), [const { Some(BASIC) }; 4].map(|b| b.map(str::to_owned)));
    // A client's own go as they come.
    let own = [("DELETE", "/x", "Authorization: Basic b3duOm93bg==\r\n")];
    assert_eq!(carried(&server, &origin, &own), [Some("Basic b3duOm93bg==".to_owned())]);
}

fn credentials_of_the_url_do_not_go_with_an_overridden_method(io: Io) {
    let origin = site();
    let server = launch(io, &origin).start();
    let asked = [
        ("GET", "/x", "X-HTTP-Method-Override: DELETE\r\n"),
        ("GET", "/x", "x-http-method: PUT\r\n"),
        ("HEAD", "/x", "X-Method-Override: DELETE\r\n"),
    ];
    for (seen, what) in carried(&server, &origin, &asked).iter().zip(asked) {
        assert_eq!(*seen, None, "{what:?}");
    }
}

fn credentials_of_the_url_go_with_all_methods_where_the_operator_says_so(io: Io) {
    let origin = site();
    for server in [
        launch(io, &origin).args(["--origin-credentials", "all"]).start(),
        launch(io, &origin).env("FS_CACHE_ORIGIN_CREDENTIALS", "all").start(),
    ] {
        let expected = [const { Some(BASIC) }; 9].map(|basic| basic.map(str::to_owned));
        assert_eq!(carried(&server, &origin, &CHANGING), expected);
    }
    let (status, error) = launch(io, &origin).args(["--origin-credentials", "some"]).fail();
    assert_eq!(status.code(), Some(1));
    assert_eq!(error, "cannot use policy \"some\" (--origin-credentials): expected safe or all");
}

fn credentials_of_the_url_never_come_back_in_a_trace(io: Io) {
    // As RFC 9110 section 9.3.8 has it: the request comes back.
    let origin = Origin::start(|request, reply| reply.answer("200 OK", "", request.head.as_bytes()));
    for which in ["safe", "all"] {
        let server = launch(io, &origin).env("FS_CACHE_ORIGIN_CREDENTIALS", which).start();
        let back = server.ask("TRACE", "/x", "");
        assert!(!String::from_utf8_lossy(&back.body).contains("dXNlcjpzZWNyZXQ"), "{which}: {back:?}");
    }
}
