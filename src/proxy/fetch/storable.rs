//! Which requests and answers fill files.

use crate::config::{Config, FillQuery};
use crate::http::identity;
use crate::http::request::Method;
use crate::http::response::{ResponseBody, ResponseHead};
use crate::key::Key;
use crate::outcome::BypassReason;
use crate::preset;
use crate::proxy::exchange::Exchange;
use crate::rt::Runtime;

/// May the answer to this request be stored, as far as the request tells?
pub(crate) fn may_fill<R: Runtime>(exchange: &Exchange<'_, R>) -> Result<(), BypassReason> {
    let request = exchange.request;
    if exchange.has_returned() {
        Err(BypassReason::Returned)
    } else if request.method == Method::Head {
        Err(BypassReason::HeadOnMiss)
    } else if !request.body.is_empty() {
        Err(BypassReason::RequestBody)
    } else if request.fields.contains("authorization") {
        Err(BypassReason::Authorization)
    } else if request.query().is_some() && exchange.context.shared.config.fills.query == FillQuery::Pass {
        Err(BypassReason::Query)
    } else {
        Ok(())
    }
}

/// May this answer be stored under `key`, as far as its head tells? Its length, where it has one.
pub(crate) fn storable(
    answer: &ResponseHead,
    key: &Key,
    config: &Config,
) -> Result<Option<u64>, BypassReason> {
    if answer.status != 200 {
        return Err(BypassReason::Status);
    }
    if contradicts_name(answer, key, config) {
        return Err(BypassReason::ContentType);
    }
    if !coding_is_in_name(answer, key.file_name()) {
        return Err(BypassReason::Coding);
    }
    if answer.fields.tokens("vary").any(|name| name == b"*") {
        return Err(BypassReason::Vary);
    }
    match answer.body(&Method::Get) {
        Ok(ResponseBody::Length(length)) => Ok(Some(length)),
        Ok(ResponseBody::Chunked) => Ok(None),
        Ok(ResponseBody::None | ResponseBody::UntilClose) | Err(_) => Err(BypassReason::NoEnd),
    }
}

/// Is it a 200 that cannot be what its name says, as a login page under the name of a package? Without a preset
/// nothing is known of names.
pub(crate) fn contradicts_name(answer: &ResponseHead, key: &Key, config: &Config) -> bool {
    answer.status == 200 && has_contradicting_type(answer, key, config)
}

/// The same for the response to a check, whatever its status.
pub(crate) fn has_contradicting_type(answer: &ResponseHead, key: &Key, config: &Config) -> bool {
    let content_type = answer.fields.get("content-type").unwrap_or_default();
    !config.presets.is_empty()
        && key.names_a_file()
        && preset::contradicts(&config.rules, key.as_str(), content_type)
}

/// A file of an index set is requested in one way for everybody, so it has one response: fields that clients send, and
/// the origin never gets, select none. Its Vary says otherwise, and goes.
pub(crate) fn unify(answer: &mut ResponseHead, key: &Key, config: &Config) {
    let fields = &mut answer.fields;
    let is_chosen = |name: &[u8]| {
        let mut chosen = config.revalidate.iter().flat_map(|class| &class.fields);
        name == b"*" || chosen.any(|field| name.eq_ignore_ascii_case(field.as_bytes()))
    };
    let is_member = || key.names_a_file() && config.rules.place(&format!("/{}", key.as_str())).is_some();
    if fields.contains("vary") && !fields.tokens("vary").any(is_chosen) && is_member() {
        fields.remove("vary");
    }
}

/// Codings that a file name's own extension explains: old servers label archives so.
const CODINGS: &[(&[u8], &[&str])] = &[
    (b"gzip", &["gz", "tgz"]),
    (b"x-gzip", &["gz", "tgz"]),
    (b"bzip2", &["bz2", "tbz", "tbz2"]),
    (b"x-bzip2", &["bz2", "tbz", "tbz2"]),
    (b"x-xz", &["xz", "txz"]),
    (b"xz", &["xz", "txz"]),
    (b"zstd", &["zst", "tzst"]),
    (b"compress", &["z"]),
    (b"x-compress", &["z"]),
];

/// Does the name of the file explain how its bytes are coded?
pub(crate) fn coding_is_in_name(answer: &ResponseHead, name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let explains = |coding: &[u8]| {
        CODINGS.iter().any(|(known, extensions)| {
            coding.eq_ignore_ascii_case(known) && extensions.iter().any(|e| extension.eq_ignore_ascii_case(e))
        })
    };
    let mut codings = identity::codings(&answer.fields);
    codings.next().is_none_or(explains) && codings.next().is_none()
}
