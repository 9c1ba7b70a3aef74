//! Words in Content-Encoding that name no coding: the body is as plain as without them. `aws-chunked` stays
//! behind in stores that speak S3, beside bytes that are not chunked any more.

use crate::support::{Io, Launch, Origin, Server, bytes, on_both};

use super::resume::{asked_from, give};

on_both!(
    a_plain_file_under_a_word_that_names_no_coding_is_kept,
    an_index_under_a_word_that_names_no_coding_is_kept,
    an_index_in_memory_is_served_without_a_word_that_names_no_coding,
    a_coding_beside_such_a_word_is_that_coding,
    a_partial_with_the_coding_name_resumes_without_it,
);

const WORDS: [&str; 9] =
    ["aws-chunked", "AWS-CHUNKED", "none", "binary", "identity", "8bit", "7bit", "", "aws-chunked, identity"];

/// Every body is `plain`, under this Content-Encoding.
fn labelled(word: &'static str, more: &'static str) -> Origin {
    Origin::start(move |_, reply| {
        reply.answer("200 OK", &format!("Content-Encoding: {word}\r\n{more}"), b"plain");
    })
}

fn a_plain_file_under_a_word_that_names_no_coding_is_kept(io: Io) {
    for word in WORDS {
        let origin = labelled(word, "");
        let server = Server::start(io, &origin);
        for _ in 0..2 {
            let response = server.get("/x.tgz");
            assert_eq!(response.expect(200, b"plain").field("Content-Encoding"), None, "{word:?}");
            server.expect_cached("x.tgz", b"plain");
        }
        origin.only();
    }
}

fn an_index_under_a_word_that_names_no_coding_is_kept(io: Io) {
    for word in WORDS {
        let origin = labelled(word, "Cache-Control: max-age=600\r\n");
        let server = Launch::new(io, &origin).args(["--revalidate", "index$"]).start();
        for _ in 0..2 {
            let response = server.get("/index");
            assert_eq!(response.expect(200, b"plain").field("Content-Encoding"), None, "{word:?}");
            server.expect_cached("index", b"plain");
        }
        origin.only();
    }
}

fn an_index_in_memory_is_served_without_a_word_that_names_no_coding(io: Io) {
    let origin = labelled("aws-chunked", "Cache-Control: max-age=600\r\nVary: Accept-Language\r\n");
    let server = Launch::new(io, &origin).args(["--revalidate", "index$"]).start();
    for _ in 0..2 {
        assert_eq!(server.get("/index").expect(200, b"plain").field("Content-Encoding"), None);
    }
    origin.only();
}

fn a_coding_beside_such_a_word_is_that_coding(io: Io) {
    let origin = labelled("aws-chunked, gzip", "");
    let server = Launch::new(io, &origin).args(["-r", "tgz$|css$"]).start();
    // The name explains it.
    for _ in 0..2 {
        assert_eq!(server.get("/x.tgz").expect(200, b"plain").field("Content-Encoding"), None);
        server.expect_cached("x.tgz", b"plain");
    }
    // It does not: passed on as it came.
    let passed = server.get("/x.css");
    assert_eq!(passed.expect(200, b"plain").field("Content-Encoding"), Some("aws-chunked, gzip"));
    server.expect_tree(&["x.tgz"]);
}

fn a_partial_with_the_coding_name_resumes_without_it(io: Io) {
    let body = bytes(300_000, 24);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| match asked_from(request) {
        None => {
            give(request, reply, &sent, "ETag: \"one\"\r\nContent-Encoding: aws-chunked\r\n", 100_000);
        }
        Some(_) => give(request, reply, &sent, "ETag: \"one\"\r\n", sent.len()),
    });
    let server = Server::start(io, &origin);
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 2);
}
