//! Media types by file name.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The type of a file whose extension is not known.
const UNKNOWN: &str = "application/octet-stream";

/// The types that go before the registered ones, by extension in lower case.
static TYPES: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let lines = include_str!("mime.types").lines().filter(|line| !line.starts_with('#'));
    let pairs = |line: &'static str| {
        let mut words = line.split_whitespace();
        let media_type = words.next().unwrap_or_default();
        words.map(move |extension| (extension, media_type))
    };
    lines.flat_map(pairs).collect()
});

/// The media type of a file by the extension after its last dot, ASCII case ignored, without a charset: that of
/// `TYPES`, else the registered one.
///
/// Unknown extensions and names without one are `application/octet-stream`.
pub fn by_name(file_name: &[u8]) -> &'static str {
    by_extension(file_name).unwrap_or(UNKNOWN)
}

fn by_extension(file_name: &[u8]) -> Option<&'static str> {
    let stop = file_name.iter().rposition(|byte| matches!(byte, b'.' | b'/'))?;
    let extension = std::str::from_utf8(file_name[stop..].strip_prefix(b".")?).ok()?;
    let first_version = TYPES.get(extension.to_ascii_lowercase().as_str()).copied();
    first_version.or_else(|| mime_guess::from_ext(extension).first_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types of the first version that are the registered ones: a newer list of these must not change them.
    const REGISTERED: &[(&str, &str)] = &[
        ("application/atom+xml", "atom"),
        ("application/epub+zip", "epub"),
        ("application/geo+json", "geojson"),
        ("application/gpx+xml", "gpx"),
        ("application/gzip", "gz"),
        ("application/java-archive", "ear jar war"),
        ("application/javascript", "mjs"),
        ("application/json", "json"),
        ("application/ld+json", "jsonld"),
        ("application/manifest+json", "webmanifest"),
        ("application/msword", "doc"),
        ("application/octet-stream", "bin dat deb dmg exe img iso msi pkg so"),
        ("application/pdf", "pdf"),
        ("application/pgp-encrypted", "pgp"),
        ("application/pgp-signature", "asc sig"),
        ("application/pkix-crl", "crl"),
        ("application/postscript", "eps ps"),
        ("application/rss+xml", "rss"),
        ("application/rtf", "rtf"),
        ("application/vnd.android.package-archive", "apk"),
        ("application/vnd.google-earth.kml+xml", "kml"),
        ("application/vnd.ms-excel", "xls"),
        ("application/vnd.ms-fontobject", "eot"),
        ("application/vnd.ms-powerpoint", "ppt"),
        ("application/vnd.oasis.opendocument.presentation", "odp"),
        ("application/vnd.oasis.opendocument.spreadsheet", "ods"),
        ("application/vnd.oasis.opendocument.text", "odt"),
        ("application/wasm", "wasm"),
        ("application/x-7z-compressed", "7z"),
        ("application/x-bittorrent", "torrent"),
        ("application/x-bzip", "bz"),
        ("application/x-bzip2", "bz2"),
        ("application/x-cpio", "cpio"),
        ("application/x-debian-package", "udeb"),
        ("application/x-lzh-compressed", "lha"),
        ("application/x-perl", "pl"),
        ("application/x-rar-compressed", "rar"),
        ("application/x-sh", "sh"),
        ("application/x-sql", "sql"),
        ("application/x-tar", "tar"),
        ("application/x-tcl", "tcl"),
        ("application/x-tex", "tex"),
        ("application/x-texinfo", "texinfo"),
        ("application/x-x509-ca-cert", "crt der pem"),
        ("application/x-xpinstall", "xpi"),
        ("application/x-xz", "xz"),
        ("application/xhtml+xml", "xhtml"),
        ("application/zip", "zip"),
        ("audio/mpeg", "mp3"),
        ("audio/ogg", "oga ogg"),
        ("audio/wav", "wav"),
        ("font/ttf", "ttf"),
        ("font/woff2", "woff2"),
        ("image/apng", "apng"),
        ("image/bmp", "bmp"),
        ("image/gif", "gif"),
        ("image/jpeg", "jpeg jpg"),
        ("image/png", "png"),
        ("image/svg+xml", "svg svgz"),
        ("image/tiff", "tif tiff"),
        ("image/webp", "webp"),
        ("image/x-icon", "ico"),
        ("text/cache-manifest", "appcache"),
        ("text/calendar", "ics"),
        ("text/css", "css"),
        ("text/csv", "csv"),
        ("text/html", "htm html"),
        ("text/markdown", "markdown md"),
        ("text/plain", "conf ini list log text txt"),
        ("text/prs.lines.tag", "dsc"),
        ("text/tab-separated-values", "tsv"),
        ("text/vtt", "vtt"),
        ("text/x-lua", "lua"),
        ("text/x-vcard", "vcf"),
        ("video/mp4", "mp4"),
        ("video/mpeg", "mpeg mpg"),
        ("video/ogg", "ogv"),
        ("video/quicktime", "mov"),
        ("video/webm", "webm"),
        ("video/x-matroska", "mkv"),
        ("video/x-msvideo", "avi"),
    ];

    #[test]
    fn no_extension_has_two_types() {
        let words = include_str!("mime.types").lines().filter(|line| !line.starts_with('#'));
        let extensions = words.flat_map(|line| line.split_whitespace().skip(1)).count();
        assert_eq!((TYPES.len(), extensions), (99, 99));
    }

    #[test]
    fn registered_types_are_those_of_the_first_version() {
        for (media_type, extensions) in REGISTERED {
            for extension in extensions.split(' ') {
                assert_eq!(by_name(format!("a.{extension}").as_bytes()), *media_type, "{extension}");
            }
        }
    }

    #[test]
    fn names_and_types() {
        for (name, media_type) in [
            ("index.html", "text/html"),
            ("LOGO.PNG", "image/png"),
            ("a.txt", "text/plain"),
            ("npm-4.2.js", "application/javascript"),
            ("src.tar.gz", "application/gzip"),
            ("src.tar.bz2", "application/x-bzip2"),
            ("src.tar.xz", "application/x-xz"),
            ("src.tar", "application/x-tar"),
            ("Packages.zip", "application/zip"),
            ("a.rpm", "application/x-redhat-package-manager"),
            ("a.jar", "application/java-archive"),
            ("a.xml", "application/xml"),
            ("a.tgz", UNKNOWN),
            ("a.deb", UNKNOWN),
            ("a.whl", UNKNOWN),
            ("pkg_summary.zst", UNKNOWN),
            ("a.html.", UNKNOWN),
            ("a.veryveryverylong", UNKNOWN),
            ("README", UNKNOWN),
            ("dir.d/gz", UNKNOWN),
            ("dir.html/README", UNKNOWN),
            (".html", "text/html"),
            ("", UNKNOWN),
            (".", UNKNOWN),
            ("a.\u{e9}", UNKNOWN),
        ] {
            assert_eq!(by_name(name.as_bytes()), media_type, "{name}");
        }
        assert_eq!(by_name(b"a.\xff\x00"), UNKNOWN);
    }
}
