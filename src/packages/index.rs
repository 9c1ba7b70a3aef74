//! Readers of package indexes: file names, sizes and checksums, one package after the other, in memory that does not
//! grow with the index.
//!
//! `records` reads forms that are lines, `archive` those that are tar archives, `xml` and `json` the others; [`listing`]
//! what one file of a set lists of the others.

mod archive;
mod json;
mod leash;
pub(crate) mod listing;
mod records;
pub(crate) mod unpack;
mod xml;

use std::io::{self, BufReader, Read};

use crate::http::percent::percent_decode;
use crate::preset::Form;
use leash::Leash;

/// Bytes read at a time.
const PIECE: usize = 64 * 1024;

/// A package as its index describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// Its file, relative to where the index says names are.
    pub name: String,
    /// Its bytes.
    pub size: Option<u64>,
    /// What identifies its build: the strongest checksum that the index has.
    pub version: Option<Version>,
}

/// What identifies a build of a package. Two of different kinds cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// What it is; the strongest is the greatest.
    pub kind: Proof,
    /// As it stands in the index.
    pub text: String,
}

impl Version {
    /// Is it the same checksum, in digits of either case?
    pub fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.text.eq_ignore_ascii_case(&other.text)
    }
}

/// The kinds of checksums, and the like, that identify a build, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// When it was built.
    BuildDate,
    /// MD5 of the file.
    Md5,
    /// SHA-1 of the file, or of the part of it that names the rest.
    Sha1,
    /// SHA-224 of the file.
    Sha224,
    /// SHA-256 of the file.
    Sha256,
    /// SHA-384 of the file.
    Sha384,
    /// SHA-512 of the file.
    Sha512,
    /// A checksum in a notation of the package manager's own, which names its algorithm.
    Own,
}

impl Proof {
    /// The checksum that an index calls by this name, in letters of either case.
    fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix("checksums-").unwrap_or(&name);
        Some(match name.strip_suffix("sum").unwrap_or(name) {
            // The field of a source package has no other name.
            "md5" | "files" => Self::Md5,
            "sha" | "sha1" => Self::Sha1,
            "sha224" => Self::Sha224,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => return None,
        })
    }
}

impl Package {
    /// Takes a checksum, or the like, if it is stronger than the one there is.
    fn note(&mut self, kind: Proof, text: &str) {
        if !text.is_empty() && self.version.as_ref().is_none_or(|known| known.kind < kind) {
            self.version = Some(Version { kind, text: text.to_owned() });
        }
    }
}

/// A name that stands as a URL reference, as the request for it is read. What is no encoding is the name itself.
fn decoded(reference: String) -> String {
    match percent_decode(reference.as_bytes()).map(String::from_utf8) {
        Some(Ok(name)) => name,
        Some(Err(_)) | None => reference,
    }
}

/// The words of a line `CHECKSUM SIZE NAME`.
fn listed(line: &str) -> Option<[&str; 3]> {
    line.split_ascii_whitespace().collect::<Vec<_>>().try_into().ok()
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Reads a whole index, packed or not, and hands each package to `found`. Blocks.
///
/// An error is the reader's, or means that the index is damaged or too large; packages before that have been handed
/// over.
pub(crate) fn read(
    form: Form,
    source: impl Read + Send + 'static,
    mut found: impl FnMut(Package),
) -> io::Result<()> {
    let unpacked = BufReader::with_capacity(PIECE, unpack::reader(source)?);
    match form {
        Form::PkgSummary | Form::AptPackages | Form::AptSources => records::read(form, unpacked, &mut found),
        Form::Arch | Form::Alpine | Form::FreeBsd => archive::read(form, Leash::new(unpacked), &mut found),
        Form::Rpm => xml::read("package", Leash::new(unpacked), &mut found),
        Form::Conda => json::read(json::Layout::Conda, Leash::new(unpacked), &mut found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) const FORMS: [Form; 8] = [
        Form::PkgSummary,
        Form::AptPackages,
        Form::AptSources,
        Form::Rpm,
        Form::Arch,
        Form::Alpine,
        Form::FreeBsd,
        Form::Conda,
    ];

    /// A package as the tests write it.
    pub(crate) fn package(name: &str, size: Option<u64>, version: Option<(Proof, &str)>) -> Package {
        let version = version.map(|(kind, text)| Version { kind, text: text.to_owned() });
        Package { name: name.to_owned(), size, version }
    }

    pub(crate) fn packages(form: Form, bytes: &[u8]) -> io::Result<Vec<Package>> {
        let mut found = Vec::new();
        read(form, io::Cursor::new(bytes.to_vec()), |package| found.push(package)).map(|()| found)
    }

    #[test]
    fn the_strongest_checksum_counts_in_any_order() {
        let mut one = Package::default();
        for (kind, text) in
            [(Proof::Sha256, "b"), (Proof::Md5, "a"), (Proof::Sha256, "later"), (Proof::Sha512, "")]
        {
            one.note(kind, text);
        }
        assert_eq!(one, package("", None, Some((Proof::Sha256, "b"))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for form in FORMS {
                // Bytes that look packed and are not are an error; either is fine.
                drop(packages(form, &bytes));
            }
        }
    }
}
