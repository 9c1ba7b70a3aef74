//! Keys: names of files inside the cache directory, and of resources that have no file. The module `decode` makes
//! them from the path of a request.

mod decode;

use uuid::Uuid;

pub use decode::{BadPath, Forms, UrlPath, decode};

/// The ending of a file that is still being fetched.
pub const IN_PROGRESS: &str = ".in-progress";

/// The directory at the top of the cache that is not part of the served tree.
pub const RESERVED: &str = ".fs-caching-server";

/// Digits in the name of a spare file.
const SPARE: usize = 32;

/// The longest file name common file systems take, in bytes.
const NAME_BYTES: usize = 255;

/// The longest relative path the system calls take, in bytes (`PATH_MAX` less its NUL).
const PATH_BYTES: usize = 4095;

/// The key of a stored response: the name of a file, or a resource of the origin that has no file.
///
/// The key of a file is a path proven to stay inside the cache directory: relative, no `.`, `..`, empty or NUL
/// component. The key of a resource is the target as sent, with the query apart, so that no two targets have the
/// same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Relative for a file. For a resource the target, which begins with `/`, each byte beyond ASCII as the character
    /// of its number.
    text: String,
    /// Where in the target the query begins, behind its `?`.
    query: Option<usize>,
}

impl Key {
    /// Takes a normalised path, so that only the suffix and the lengths are checked here.
    fn new(normalized: &str) -> Option<Self> {
        let path = normalized.strip_prefix('/')?;
        let fits = |name: &str, room: usize| !name.is_empty() && name.len() <= room;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let named = fits(name, NAME_BYTES - IN_PROGRESS.len())
            && (parent.is_empty() || parent.split('/').all(|directory| fits(directory, NAME_BYTES)))
            && path.len() + IN_PROGRESS.len() <= PATH_BYTES;
        named.then(|| Self { text: path.to_owned(), query: None })
    }

    /// The key of the file at this path relative to the cache directory.
    pub fn of_file(path: &str) -> Option<Self> {
        Self::new(&format!("/{path}"))
    }

    /// The file that `name`, as it is on the disk, means in the directory `base` ("" is the top). `None` for one that
    /// lies elsewhere, and for the name of a file in progress.
    pub fn beneath(base: &str, name: &str) -> Option<Self> {
        let mut path = format!("/{base}").trim_end_matches('/').to_owned();
        for component in name.split('/').filter(|component| *component != ".") {
            if matches!(component, "" | "..") || component.contains('\0') {
                return None;
            }
            path.push('/');
            path.push_str(component);
        }
        let key = Self::new(&path)?;
        (key.as_str().len() > base.len() && !key.is_in_progress_name()).then_some(key)
    }

    /// The key of the origin's resource at this path, in the form that is requested ([`Forms::own`]), with this
    /// query. Never equal to the key of a file.
    pub fn resource(path: &[u8], query: Option<&[u8]>) -> Self {
        let characters = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
        let mut text = characters(path);
        let at = query.map(|query| {
            text.push('?');
            let at = text.len();
            text.push_str(&characters(query));
            at
        });
        Self { text, query: at }
    }

    /// Is it the key of a target with a query?
    pub fn has_query(&self) -> bool {
        self.query.is_some()
    }

    /// Is it the key of a file?
    pub fn names_a_file(&self) -> bool {
        !self.text.starts_with('/')
    }

    /// Does it lie in the directory that is not part of the served tree?
    pub fn is_reserved(&self) -> bool {
        self.components().next() == Some(RESERVED)
    }

    /// The path relative to the cache directory; that of a resource is its target. No two keys have the same.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Does every form of this name mean the same to every origin? To an origin a reserved character may differ
    /// from its encoded form (RFC 3986 section 2.2), as `+` from `%2B`; only these are the same in both (section
    /// 2.3).
    pub fn is_unreserved(&self) -> bool {
        let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        self.text.bytes().all(is_one)
    }

    /// The directories in order, then the file name.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.text.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.text.rsplit_once('/').map_or(&self.text, |(_, name)| name)
    }

    /// Everything before the last component; empty at the top.
    pub fn parent(&self) -> &str {
        self.text.rsplit_once('/').map_or("", |(parent, _)| parent)
    }

    /// The file name while the file is being fetched.
    pub fn in_progress(&self) -> String {
        format!("{}{IN_PROGRESS}", self.file_name())
    }

    /// A file beside it that is to replace it, under a random name that no request can have. `None` where that name
    /// is too long.
    pub fn spare(&self) -> Option<Self> {
        Self::of_file(&format!("{}.{}{IN_PROGRESS}", self.as_str(), Uuid::new_v4().simple()))
    }

    /// The file that the in-progress or spare file at this path was written for.
    pub fn of_unfinished(path: &str) -> Option<Self> {
        let name = path.strip_suffix(IN_PROGRESS)?;
        let is_random = |end: &str| end.len() == SPARE && end.bytes().all(|byte| byte.is_ascii_hexdigit());
        let spare = name.rsplit_once('.').filter(|(_, end)| is_random(end));
        Self::of_file(spare.map_or(name, |(name, _)| name))
    }

    /// Whether any component could be mistaken for a file that is being fetched.
    pub fn is_in_progress_name(&self) -> bool {
        self.components().any(|name| name.ends_with(IN_PROGRESS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_targets_have_one_key() {
        let key = |path: &[u8], query: Option<&[u8]>| Key::resource(path, query);
        let keys = [
            key(b"/x%3Fq=1/", None),
            key(b"/x", Some(b"q=1/")),
            key(b"/x", Some(b"")),
            key(b"/x", None),
            key(b"/@s/name", None),
            key(b"/@s%2fname", None),
            key(b"/@s%2Fname", None),
            key(b"/caf\xc3\xa9", None),
            key(b"/caf\xe9", None),
            key(b"/caf%C3%A9", None),
            Key::of_file("x?q=1/y").unwrap(),
            Key::of_file("x").unwrap(),
        ];
        for (at, one) in keys.iter().enumerate() {
            for other in &keys[..at] {
                assert!(one != other && one.as_str() != other.as_str(), "{one:?} {other:?}");
            }
            assert_eq!(one.names_a_file(), at > 9);
        }
        assert!(keys[1].has_query() && keys[2].has_query() && !keys[0].has_query());
    }

    #[test]
    fn rfc3986_2_3_only_unreserved_characters_mean_the_same_encoded() {
        for (name, due) in [
            ("dists/a-1.0_2~rc/x.IDX", true),
            ("a+b", false),
            ("s;v=1/x", false),
            ("@s/x", false),
            ("a b", false),
            ("a%b", false),
            ("\u{e9}", false),
        ] {
            assert_eq!(Key::of_file(name).unwrap().is_unreserved(), due, "{name}");
        }
    }

    #[test]
    fn names_in_an_index_stay_beneath_its_directory() {
        let key = |base: &str, name: &str| Key::beneath(base, name).map(|key| key.text);
        let some = |path: &str| Some(path.to_owned());
        assert_eq!(key("All", "a-1.tgz"), some("All/a-1.tgz"));
        assert_eq!(key("", "pool/a%3a.deb"), some("pool/a%3a.deb"));
        assert_eq!(key("deb", "./x/./b.deb"), some("deb/x/b.deb"));
        for bad in [
            "",
            ".",
            "/",
            "/etc/passwd",
            "../a",
            "a/../../b",
            "a//b",
            "a/",
            "a\0b",
            "x.in-progress",
            "x.in-progress/a",
        ] {
            assert_eq!(key("All", bad), None, "{bad:?}");
            assert_eq!(key("", bad), None, "{bad:?}");
        }
    }
}
