//! Media types by file name.

/// The type of a file nothing else is known of.
const UNKNOWN: &str = "application/octet-stream";

/// Longest extension of the table.
const LONGEST: usize = 12;

/// Extensions and their types, in order of extension. Where registrations and the long habit of the program
/// this one replaces differ, habit wins: clients have come to rely on it.
const TYPES: &[(&str, &str)] = &[
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/x-aac"),
    ("apk", "application/vnd.android.package-archive"),
    ("apng", "image/apng"),
    ("appcache", "text/cache-manifest"),
    ("asc", "application/pgp-signature"),
    ("atom", "application/atom+xml"),
    ("avi", "video/x-msvideo"),
    ("bin", "application/octet-stream"),
    ("bmp", "image/bmp"),
    ("bz", "application/x-bzip"),
    ("bz2", "application/x-bzip2"),
    ("c", "text/x-c"),
    ("cab", "application/vnd.ms-cab-compressed"),
    ("cc", "text/x-c"),
    ("cer", "application/pkix-cert"),
    ("class", "application/java-vm"),
    ("conf", "text/plain"),
    ("cpio", "application/x-cpio"),
    ("cpp", "text/x-c"),
    ("crl", "application/pkix-crl"),
    ("crt", "application/x-x509-ca-cert"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("deb", "application/octet-stream"),
    ("der", "application/x-x509-ca-cert"),
    ("dll", "application/octet-stream"),
    ("dmg", "application/octet-stream"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("dsc", "text/prs.lines.tag"),
    ("dtd", "application/xml-dtd"),
    ("ear", "application/java-archive"),
    ("eot", "application/vnd.ms-fontobject"),
    ("eps", "application/postscript"),
    ("epub", "application/epub+zip"),
    ("exe", "application/octet-stream"),
    ("flac", "audio/x-flac"),
    ("geojson", "application/geo+json"),
    ("gif", "image/gif"),
    ("gpx", "application/gpx+xml"),
    ("gz", "application/gzip"),
    ("h", "text/x-c"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar"),
    ("img", "application/octet-stream"),
    ("ini", "text/plain"),
    ("iso", "application/octet-stream"),
    ("jar", "application/java-archive"),
    ("java", "text/x-java-source"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "application/javascript"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("kml", "application/vnd.google-earth.kml+xml"),
    ("lha", "application/x-lzh-compressed"),
    ("list", "text/plain"),
    ("log", "text/plain"),
    ("lua", "text/x-lua"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("manifest", "text/cache-manifest"),
    ("map", "application/json"),
    ("markdown", "text/markdown"),
    ("md", "text/markdown"),
    ("mid", "audio/midi"),
    ("mjs", "application/javascript"),
    ("mkv", "video/x-matroska"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("msi", "application/octet-stream"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("pem", "application/x-x509-ca-cert"),
    ("pgp", "application/pgp-encrypted"),
    ("pkg", "application/octet-stream"),
    ("pl", "application/x-perl"),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("ps", "application/postscript"),
    ("rar", "application/x-rar-compressed"),
    ("rpm", "application/x-redhat-package-manager"),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("sh", "application/x-sh"),
    ("sig", "application/pgp-signature"),
    ("so", "application/octet-stream"),
    ("sql", "application/x-sql"),
    ("svg", "image/svg+xml"),
    ("svgz", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("tcl", "application/x-tcl"),
    ("tex", "application/x-tex"),
    ("texinfo", "application/x-texinfo"),
    ("text", "text/plain"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("torrent", "application/x-bittorrent"),
    ("ts", "video/mp2t"),
    ("tsv", "text/tab-separated-values"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain"),
    ("udeb", "application/x-debian-package"),
    ("vcf", "text/x-vcard"),
    ("vtt", "text/vtt"),
    ("war", "application/java-archive"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("wsdl", "application/wsdl+xml"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "application/xml"),
    ("xpi", "application/x-xpinstall"),
    ("xsl", "application/xml"),
    ("xz", "application/x-xz"),
    ("yaml", "text/yaml"),
    ("yml", "text/yaml"),
    ("zip", "application/zip"),
];

/// The type of a file by the extension after its last dot, case ignored, without a charset.
///
/// Unknown extensions and names without one are `application/octet-stream`.
pub fn by_name(file_name: &[u8]) -> &'static str {
    by_extension(file_name).unwrap_or(UNKNOWN)
}

fn by_extension(file_name: &[u8]) -> Option<&'static str> {
    let stop = file_name.iter().rposition(|byte| matches!(byte, b'.' | b'/'))?;
    let extension = file_name[stop..].strip_prefix(b".")?;
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..extension.len())?;
    lower.copy_from_slice(extension);
    lower.make_ascii_lowercase();
    let found = TYPES.binary_search_by(|(known, _)| known.as_bytes().cmp(lower)).ok()?;
    TYPES.get(found).map(|(_, media_type)| *media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_in_bounds() {
        assert!(TYPES.is_sorted_by(|one, next| one.0 < next.0));
        assert!(TYPES.iter().all(|(extension, _)| extension.len() <= LONGEST));
        assert!(TYPES.iter().all(|(extension, _)| !extension.bytes().any(|byte| byte.is_ascii_uppercase())));
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
