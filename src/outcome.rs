//! How a request ends, in words shared by the log, the metrics and the tests.

labelled! {
    /// Why a request bypassed the cache, or why its response was not stored.
    pub enum BypassReason {
        /// Neither GET nor HEAD.
        Method => "method",
        /// The path does not match the regex.
        NoMatch => "no match",
        /// The path names no file: a trailing slash, or a component too long for one.
        NoName => "names no file",
        /// Names that end in `.in-progress` belong to fills.
        InProgressName => "in-progress name",
        /// HEAD stores nothing.
        HeadOnMiss => "HEAD on a miss",
        /// A GET with a body is not the same request for everyone.
        RequestBody => "request has a body",
        /// The response may be for this user only.
        Authorization => "request has Authorization",
        /// The origin refuses the request without the client's own fields.
        Denied => "refused without the client's own fields",
        /// The client's fields select another variant.
        Variant => "another variant",
        /// The request has a query, and such responses are not to be stored.
        Query => "request has a query",
        /// A link leads out of the cache directory.
        LeadsOutside => "link leads out of the cache directory",
        /// A FIFO, a device or a socket has the name.
        NotRegular => "not a regular file",
        /// Another process is filling this file.
        HeldElsewhere => "being filled by another process",
        /// Not a 200.
        Status => "status",
        /// A content coding that the name does not explain.
        Coding => "content coding",
        /// A content type that the name rules out, as a page under the name of a package.
        ContentType => "content type contradicts the name",
        /// `Vary: *`: the response matches no later request.
        Vary => "Vary: *",
        /// The body ends with the connection, so nothing proves it complete.
        NoEnd => "body without a length",
        /// The cache directory failed.
        Disk => "disk error",
        /// No descriptor is left to open the cache directory.
        Descriptors => "out of descriptors",
        /// A fill has the name of a directory above.
        Below => "below a file that is being fetched",
        /// The file system that the path leads to does not answer.
        DiskHangs => "file system does not answer",
        /// Too many complete files wait for the disk.
        DiskBehind => "disk is behind",
        /// The limit of concurrent fills is reached.
        FillsFull => "too many fills",
        /// A followed redirect has led back to this server.
        Returned => "came back by a redirect",
        /// The directory that is not part of the served tree.
        Reserved => "reserved directory",
        /// The pattern takes too long on this path.
        Pattern => "regex takes too long",
        /// The request or the response has `no-store`.
        NoStore => "no-store",
        /// The response has `private`.
        Private => "private",
        /// The request has `no-cache`, and was not the first to revalidate.
        NoCache => "request says no-cache",
        /// The response can never be reused.
        NoUse => "no use later",
        /// More bytes than are stored in memory.
        TooLong => "too long for memory",
        /// No room in memory: all stored bodies are being received or sent.
        MemoryFull => "memory is full",
        /// The origin refuses a stored resource: the stored response stays.
        Refused => "refused by the origin - the stored response stays",
        /// The origin's file does not fit the other files of its index set.
        Mismatch => "does not fit the other index files",
        /// The client's form of the path, with `//` or an encoded slash in it, may be another resource: in the form
        /// of the file the origin has none.
        OtherForm => "no file in the plain form of the path",
    }
}

/// How a stored response was used for a request of the revalidated class.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CacheUse {
    /// Fresh: no request to the origin.
    Hit,
    /// Validated by the origin.
    Revalidated,
    /// Not stored before: just received from the origin.
    Fetched,
    /// Stale, for this reason.
    Stale(Stale),
}

impl CacheUse {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "fresh",
            Self::Revalidated => "unchanged",
            Self::Fetched => "new",
            Self::Stale(Stale::Accepted) => "stale: the client takes that",
            Self::Stale(Stale::WhileRevalidate) => "stale: the origin is asked meanwhile",
            Self::Stale(Stale::Unreachable) => "stale: the origin cannot be reached",
            Self::Stale(Stale::ServerError) => "stale: the origin fails",
            Self::Stale(Stale::Forced) => "stale, which the response forbids: the origin fails",
            Self::Stale(Stale::Offline) => "stale: offline",
        }
    }
}

impl BypassReason {
    /// Why the request was forwarded, in the words of RFC 9211 section 2.2.
    fn forward(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::NoMatch
            | Self::NoName
            | Self::InProgressName
            | Self::RequestBody
            | Self::Authorization
            | Self::Query
            | Self::LeadsOutside
            | Self::NotRegular
            | Self::Reserved
            | Self::Pattern
            | Self::Returned => "bypass",
            Self::Variant => "vary-miss",
            // Directives of the request excluded a stored response.
            Self::NoCache | Self::NoStore => "request",
            Self::Refused => "stale",
            // The cache was searched, and no file could be used.
            Self::HeadOnMiss
            | Self::HeldElsewhere
            | Self::Below
            | Self::Denied
            | Self::Status
            | Self::Coding
            | Self::ContentType
            | Self::Vary
            | Self::NoEnd
            | Self::Disk
            | Self::Descriptors
            | Self::Private
            | Self::NoUse
            | Self::TooLong
            | Self::MemoryFull
            | Self::OtherForm
            | Self::Mismatch
            | Self::FillsFull
            | Self::DiskHangs
            | Self::DiskBehind => "uri-miss",
        }
    }

    /// The detail that the parameters of RFC 9211 do not express.
    fn detail(self) -> Option<&'static str> {
        let said = matches!(self, Self::Method | Self::NoMatch | Self::HeadOnMiss | Self::Status);
        (!said).then(|| self.as_str())
    }
}

labelled! {
    /// Why a stale response was served.
    pub enum Stale {
        /// The client accepts it (`max-stale`).
        Accepted => "accepted",
        /// It is being revalidated (`stale-while-revalidate`).
        WhileRevalidate => "being revalidated",
        /// The origin is down or could not be reached.
        Unreachable => "origin cannot be reached",
        /// The origin responded with a 5xx.
        ServerError => "origin fails",
        /// The origin fails or could not be reached, and the operator overrides a response that forbids stale use.
        Forced => "origin fails, response forbids stale",
        /// The origin is never asked (`--offline`).
        Offline => "offline",
    }
}

/// How the cache took part in a response.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// A stored response; seconds it is still fresh, where that ends.
    Hit(Option<i64>),
    /// The origin's response, which is being stored.
    Miss,
    /// The same, for a follower: a collapsed request.
    Follow,
    /// The origin's response, not stored.
    Pass(BypassReason),
    /// A new response from the origin, which replaces a stale one.
    Renewed,
    /// A stored response that the origin validated with a 304.
    Revalidated,
    /// A stale response, and for how many seconds it has been stale.
    Stale(Stale, i64),
}

impl Outcome {
    /// This cache's member of Cache-Status (RFC 9211), the redirects that were followed counted in its detail.
    pub fn cache_status(self, redirects: usize) -> String {
        let mut member = String::from("fs-caching-server");
        let detail = match self {
            Self::Hit(ttl) => {
                member.push_str("; hit");
                ttl.into_iter().for_each(|ttl| member.push_str(&format!("; ttl={ttl}")));
                None
            }
            Self::Miss => {
                member.push_str("; fwd=uri-miss; fwd-status=200; stored");
                None
            }
            Self::Follow => {
                member.push_str("; fwd=uri-miss; fwd-status=200; collapsed");
                None
            }
            Self::Pass(why) => {
                member.push_str("; fwd=");
                member.push_str(why.forward());
                why.detail()
            }
            Self::Revalidated => {
                member.push_str("; fwd=stale; fwd-status=304");
                None
            }
            Self::Renewed => {
                member.push_str("; fwd=stale; fwd-status=200; stored");
                None
            }
            // The request to the origin failed.
            Self::Stale(why @ (Stale::Unreachable | Stale::ServerError | Stale::Forced), _) => {
                member.push_str("; fwd=stale");
                Some(why.as_str())
            }
            Self::Stale(why, since) => {
                member.push_str(&format!("; hit; ttl={}", -since));
                Some(why.as_str())
            }
        };
        let followed = match redirects {
            0 => None,
            1 => Some("1 redirect".to_owned()),
            _ => Some(format!("{redirects} redirects")),
        };
        let detail: Vec<String> = detail.map(str::to_owned).into_iter().chain(followed).collect();
        if !detail.is_empty() {
            member.push_str(&format!("; detail={}", quoted(&detail.join(", "))));
        }
        member
    }

    /// The one word of X-Cache.
    pub fn x_cache(self) -> &'static str {
        match self {
            Self::Hit(_) => "HIT",
            Self::Miss | Self::Renewed => "MISS",
            Self::Follow => "COLLAPSED",
            Self::Pass(why) if matches!(why.forward(), "uri-miss" | "vary-miss") => "MISS",
            Self::Pass(_) => "BYPASS",
            Self::Revalidated => "REVALIDATED",
            Self::Stale(..) => "STALE",
        }
    }
}

/// A string of structured fields (RFC 9651 section 4.1.6). What it cannot hold becomes `?`.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9211_2_members_of_cache_status() {
        for (outcome, redirects, status, x_cache) in [
            (Outcome::Hit(None), 0, "hit", "HIT"),
            (Outcome::Hit(Some(376)), 0, "hit; ttl=376", "HIT"),
            (Outcome::Miss, 0, "fwd=uri-miss; fwd-status=200; stored", "MISS"),
            (Outcome::Miss, 1, "fwd=uri-miss; fwd-status=200; stored; detail=\"1 redirect\"", "MISS"),
            (Outcome::Follow, 0, "fwd=uri-miss; fwd-status=200; collapsed", "COLLAPSED"),
            (Outcome::Pass(BypassReason::Method), 0, "fwd=method", "BYPASS"),
            (Outcome::Pass(BypassReason::NoMatch), 0, "fwd=bypass", "BYPASS"),
            (
                Outcome::Pass(BypassReason::Authorization),
                0,
                "fwd=bypass; detail=\"request has Authorization\"",
                "BYPASS",
            ),
            (Outcome::Pass(BypassReason::HeadOnMiss), 2, "fwd=uri-miss; detail=\"2 redirects\"", "MISS"),
            (Outcome::Pass(BypassReason::Status), 0, "fwd=uri-miss", "MISS"),
            (Outcome::Pass(BypassReason::Vary), 2, "fwd=uri-miss; detail=\"Vary: *, 2 redirects\"", "MISS"),
            (Outcome::Revalidated, 0, "fwd=stale; fwd-status=304", "REVALIDATED"),
            (Outcome::Stale(Stale::ServerError, 412), 0, "fwd=stale; detail=\"origin fails\"", "STALE"),
            (
                Outcome::Stale(Stale::Forced, 412),
                0,
                "fwd=stale; detail=\"origin fails, response forbids stale\"",
                "STALE",
            ),
            (Outcome::Stale(Stale::Accepted, 412), 0, "hit; ttl=-412; detail=\"accepted\"", "STALE"),
            (Outcome::Renewed, 0, "fwd=stale; fwd-status=200; stored", "MISS"),
            (Outcome::Stale(Stale::Offline, 0), 0, "hit; ttl=0; detail=\"offline\"", "STALE"),
        ] {
            assert_eq!(
                outcome.cache_status(redirects),
                format!("fs-caching-server; {status}"),
                "{outcome:?}"
            );
            assert_eq!(outcome.x_cache(), x_cache, "{outcome:?}");
        }
    }

    #[test]
    fn rfc9651_4_1_6_strings() {
        assert_eq!(quoted("a \"b\" \\ c\n\u{e9}~"), r#""a \"b\" \\ c??~""#);
    }
}
