//! In which form the origin is asked for what a request names, so that one file is never two resources there.

use std::borrow::Cow;

use crate::http::request::RequestHead;
use crate::key::Forms;

/// As the client asked, but for dot segments: for what is passed, and for what no file stands for.
pub(crate) fn own(request: &RequestHead) -> Cow<'_, [u8]> {
    target(request, |forms| forms.own)
}

/// As everybody asks for this file.
pub(crate) fn of_file(request: &RequestHead) -> Cow<'_, [u8]> {
    target(request, |forms| forms.file)
}

/// Would the client's own form be another one to an origin that tells `//` or an encoded slash from a slash?
pub(crate) fn differs(request: &RequestHead) -> bool {
    Forms::of(request.path()).differ()
}

fn target<'a>(request: &'a RequestHead, choose: impl FnOnce(Forms<'a>) -> Cow<'a, [u8]>) -> Cow<'a, [u8]> {
    let as_sent = request.origin_form();
    let path = request.path();
    // The server-wide request of OPTIONS has no path.
    if *as_sent == *b"*" {
        return as_sent;
    }
    match (choose(Forms::of(path)), request.query()) {
        (form, _) if *form == *path => as_sent,
        (form, Some(query)) => [&*form, b"?", query].concat().into(),
        (form, None) => form,
    }
}
