//! Media types by file name.

use super::fields::is_one_of;

/// The type of a file whose extension is not known.
const UNKNOWN: &str = "application/octet-stream";

/// Types and their extensions, where the first version of this program and the registered types differ: clients have
/// come to rely on the first version's.
const TYPES: &[(&str, &[&str])] = &[
    ("application/ecmascript", &["ecma"]),
    ("application/java-vm", &["class"]),
    ("application/javascript", &["js"]),
    ("application/json", &["map"]),
    ("application/mp4", &["m4p"]),
    ("application/octet-stream", &["cfg", "dll", "lst", "tgz", "x", "z"]),
    ("application/pkix-cert", &["cer"]),
    ("application/pls+xml", &["pls"]),
    ("application/rls-services+xml", &["rs"]),
    ("application/smil+xml", &["smi"]),
    ("application/vnd.apple.mpegurl", &["m3u8"]),
    ("application/vnd.ctc-posml", &["pml"]),
    ("application/vnd.dvb.service", &["svc"]),
    ("application/vnd.koan", &["skp"]),
    ("application/vnd.ms-cab-compressed", &["cab"]),
    ("application/vnd.ms-excel.addin.macroenabled.12", &["xlam"]),
    ("application/vnd.ms-excel.sheet.binary.macroenabled.12", &["xlsb"]),
    ("application/vnd.ms-excel.sheet.macroenabled.12", &["xlsm"]),
    ("application/vnd.ms-excel.template.macroenabled.12", &["xltm"]),
    ("application/vnd.ms-powerpoint.addin.macroenabled.12", &["ppam"]),
    ("application/vnd.ms-powerpoint.presentation.macroenabled.12", &["pptm"]),
    ("application/vnd.ms-powerpoint.slide.macroenabled.12", &["sldm"]),
    ("application/vnd.ms-powerpoint.slideshow.macroenabled.12", &["ppsm"]),
    ("application/vnd.ms-powerpoint.template.macroenabled.12", &["potm"]),
    ("application/vnd.ms-word.document.macroenabled.12", &["docm"]),
    ("application/vnd.ms-word.template.macroenabled.12", &["dotm"]),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", &["pptx"]),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", &["xlsx"]),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", &["docx"]),
    ("application/vnd.quark.quarkxpress", &["qxd"]),
    ("application/vnd.rim.cod", &["cod"]),
    ("application/vnd.smaf", &["mmf"]),
    ("application/wsdl+xml", &["wsdl"]),
    ("application/x-authorware-bin", &["u32"]),
    ("application/x-conference", &["nsc"]),
    ("application/x-envoy", &["evy"]),
    ("application/x-font-type1", &["afm", "pfb", "pfm"]),
    ("application/x-futuresplash", &["spl"]),
    ("application/x-lzh-compressed", &["lzh"]),
    ("application/x-msmetafile", &["emz"]),
    ("application/x-netcdf", &["cdf"]),
    ("application/x-redhat-package-manager", &["rpm"]),
    ("application/x-sea", &["sea"]),
    ("application/xml", &["xml", "xsd", "xsl"]),
    ("application/xml-dtd", &["dtd"]),
    ("application/xslt+xml", &["xslt"]),
    ("audio/adpcm", &["adp"]),
    ("audio/midi", &["mid", "midi", "rmi"]),
    ("audio/mp4", &["m4a"]),
    ("audio/x-aac", &["aac"]),
    ("audio/x-aiff", &["aif", "aifc", "aiff"]),
    ("audio/x-flac", &["flac"]),
    ("audio/x-pn-realaudio-plugin", &["rmp"]),
    ("font/otf", &["otf"]),
    ("font/woff", &["woff"]),
    ("image/vnd.adobe.photoshop", &["psd"]),
    ("image/vnd.dwg", &["dwg"]),
    ("image/vnd.dxf", &["dxf"]),
    ("image/x-pcx", &["pcx"]),
    ("image/x-pict", &["pct", "pic"]),
    ("model/vnd.dwf", &["dwf"]),
    ("model/vnd.mts", &["mts"]),
    ("model/vrml", &["wrl"]),
    ("text/cache-manifest", &["manifest"]),
    ("text/hjson", &["hjson"]),
    ("text/jsx", &["jsx"]),
    ("text/troff", &["man", "me", "ms", "roff", "t", "tr"]),
    ("text/x-asm", &["asm", "s"]),
    ("text/x-c", &["c", "cc", "cpp", "cxx", "h", "hh"]),
    ("text/x-java-source", &["java"]),
    ("text/x-vcalendar", &["vcs"]),
    ("text/yaml", &["yaml", "yml"]),
    ("video/mp2t", &["ts"]),
];

/// The media type of a file by the extension after its last dot, ASCII case ignored, without a charset: that of
/// [`TYPES`], else the registered one.
///
/// Unknown extensions and names without one are `application/octet-stream`.
pub fn by_name(file_name: &[u8]) -> &'static str {
    by_extension(file_name).unwrap_or(UNKNOWN)
}

fn by_extension(file_name: &[u8]) -> Option<&'static str> {
    let stop = file_name.iter().rposition(|byte| matches!(byte, b'.' | b'/'))?;
    let extension = file_name[stop..].strip_prefix(b".")?;
    let known = TYPES.iter().find(|(_, extensions)| is_one_of(extension, extensions));
    match known {
        Some((media_type, _)) => Some(media_type),
        None => mime_guess::from_ext(std::str::from_utf8(extension).ok()?).first_raw(),
    }
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
        let mut extensions: Vec<_> = TYPES.iter().flat_map(|(_, extensions)| *extensions).collect();
        let count = extensions.len();
        extensions.sort_unstable();
        extensions.dedup();
        assert_eq!(extensions.len(), count);
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
