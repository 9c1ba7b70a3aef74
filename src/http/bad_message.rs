//! Why a message is refused, and with which status a request.

labelled! {
    /// What keeps a message from being read in one way only. Where it ends is not known then, so the connection is to be
    /// closed.
    pub enum BadMessage {
        /// A line feed without its carriage return.
        BareLineFeed => "bare-line-feed",
        /// A head beyond its limit.
        HeadTooLarge => "head-too-large",
        /// More fields than the limit.
        TooManyFields => "too-many-fields",
        /// A field name that is no token, or a blank between it and its colon.
        BadFieldName => "bad-field-name",
        /// A field that continues on the next line.
        FoldedField => "folded-field",
        /// A control character in a field value.
        BadFieldValue => "bad-field-value",
        /// A version other than 1.0 and 1.1.
        UnsupportedVersion => "unsupported-version",
        /// Several lengths: in a request equal or not, in a response different ones.
        AmbiguousLength => "ambiguous-length",
        /// A length that is no number, or one that no file can have.
        BadLength => "bad-length",
        /// A transfer coding that leaves the end of the body unknown, or any in HTTP/1.0; in a response any but `chunked`.
        TransferCoding => "transfer-coding",
        /// Content-Length and Transfer-Encoding together.
        LengthAndCoding => "length-and-coding",
        /// A malformed request line.
        BadSyntax => "bad-syntax",
        /// A transfer coding beneath a final `chunked` that is not known here, in a request.
        UnknownCoding => "unknown-coding",
        /// A malformed Host, or more than one.
        BadHost => "bad-host",
        /// HTTP/1.1 without Host.
        MissingHost => "missing-host",
        /// A request target in no form that is served, or with bytes that no target has.
        BadTarget => "bad-target",
        /// A request target beyond its limit.
        TargetTooLong => "target-too-long",
        /// An Expect other than `100-continue`.
        UnknownExpectation => "unknown-expectation",
        /// CONNECT: this is no tunnel.
        Connect => "connect",
        /// A malformed status line.
        BadStatusLine => "bad-status-line",
        /// 101, which was not asked for.
        SwitchingProtocols => "switching-protocols",
        /// The size of a chunk is empty, not hexadecimal or one that no file can have.
        ChunkSize => "bad-chunk-size",
        /// A control character in the extensions of a chunk, or more than 4 KiB of them.
        ChunkExtension => "bad-chunk-extension",
        /// A size line or a chunk that does not end in CRLF.
        ChunkEnd => "bad-chunk-end",
        /// Trailers that are no field lines, or more than 16 KiB of them.
        Trailer => "bad-trailer",
    }
}

impl BadMessage {
    /// The status of the response to such a request.
    #[allow(clippy::wildcard_enum_match_arm, reason = "400 is the status of all others")]
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::UnknownExpectation => 417,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::UnknownCoding | Self::Connect => 501,
            Self::UnsupportedVersion => 505,
            _ => 400,
        }
    }
}

impl std::error::Error for BadMessage {}
