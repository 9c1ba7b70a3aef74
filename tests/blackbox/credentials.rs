//! The credentials in `-U http://USER:PASSWORD@SITE`: sent with safe methods only, and to no other server.

use crate::support::{Io, Launch, Origin, Server, on_both};

on_both!(
    credentials_of_the_url_are_not_sent_with_unsafe_methods,
    credentials_of_the_url_do_not_go_with_an_overridden_method,
    credentials_of_the_url_do_not_go_with_an_overridden_path,
    credentials_of_the_url_go_with_all_methods_where_the_operator_says_so,
    credentials_of_the_url_are_not_in_a_trace_response,
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

fn credentials_of_the_url_are_not_sent_with_unsafe_methods(io: Io) {
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
        ("GET", "/x", "X-Request-Method: PUT\r\n"),
        ("GET", "/x", "X-Original-Method: PUT\r\n"),
        // Many applications see no difference between `-` and `_` in a name.
        ("GET", "/x", "X_HTTP_METHOD_OVERRIDE: DELETE\r\n"),
        ("HEAD", "/x", "x-http_Method-override: DELETE\r\n"),
        ("GET", "/x", "X_Http-Method: DELETE\r\n"),
    ];
    for (seen, what) in carried(&server, &origin, &asked).iter().zip(asked) {
        assert_eq!(*seen, None, "{what:?}");
    }
}

fn credentials_of_the_url_do_not_go_with_an_overridden_path(io: Io) {
    let origin = Origin::start(|request, reply| {
        // What is refused is asked for again with all that the client says.
        let status = if request.target.ends_with("denied.tgz") { "403 No" } else { "200 OK" };
        reply.answer(status, "", if request.method == "HEAD" { b"" } else { b"done" });
    });
    for which in ["safe", "all"] {
        let server = Launch::at(io, &format!("http://user:secret@{}/repo", origin.authority()))
            .args(["--origin-credentials", which, "--revalidate", r"\.idx$"])
            .start();
        for name in [
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-Override-URL",
            "X-Original-URI",
            "X-Forwarded-Prefix",
            "X-Forwarded-Uri",
            "X-Forwarded-Path",
            "X-Script-Name",
            "Script-Name",
            "Path-Info",
        ] {
            for name in [name.to_owned(), name.replace('-', "_").to_lowercase(), name.replacen('-', "_", 1)] {
                let field = format!("{name}: /private\r\n");
                let asked = [
                    ("GET", "/x", &*field),
                    ("HEAD", "/x.tgz", &field),
                    ("HEAD", "/x.idx", &format!("{field}If-None-Match: \"1\"\r\n")),
                    ("POST", "/x", &format!("{field}Content-Length: 0\r\n")),
                    ("GET", "/y.idx", &format!("{field}Cache-Control: no-store\r\n")),
                ];
                for (seen, what) in carried(&server, &origin, &asked).iter().zip(asked) {
                    let is_anonymous = origin
                        .requests()
                        .iter()
                        .rev()
                        .find(|request| request.target.ends_with(what.1) && request.method == what.0)
                        .is_some_and(|request| request.field(&name).is_none());
                    assert!(seen.is_none() || is_anonymous, "{which} {what:?}: {seen:?}");
                }
                let before = origin.count();
                assert_eq!(server.ask("GET", "/denied.tgz", &field).status, 403);
                for request in &origin.requests()[before..] {
                    assert!(
                        request.field("Authorization").is_none() || request.field(&name).is_none(),
                        "{which} {name}: {}",
                        request.head
                    );
                }
            }
        }
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

fn credentials_of_the_url_are_not_in_a_trace_response(io: Io) {
    // As RFC 9110 section 9.3.8 has it: the request comes back.
    let origin = Origin::start(|request, reply| reply.answer("200 OK", "", request.head.as_bytes()));
    for which in ["safe", "all"] {
        let server = launch(io, &origin).env("FS_CACHE_ORIGIN_CREDENTIALS", which).start();
        let back = server.ask("TRACE", "/x", "");
        assert!(!String::from_utf8_lossy(&back.body).contains("dXNlcjpzZWNyZXQ"), "{which}: {back:?}");
    }
}
