//! Indexes in JSON: conda's repodata, FreeBSD's catalogues. Streamed: one package is in memory at a time.

use std::fmt;
use std::io::{self, BufRead};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::leash::Leash;
use super::{Package, Proof, decoded, number};

/// The fields of a package that are read.
const FIELDS: [&str; 7] = ["path", "repopath", "size", "pkgsize", "sum", "md5", "sha256"];

/// Where the packages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `{"packages": {FILE: {...}}, "packages.conda": {FILE: {...}}}`
    Conda,
    /// `{"packages": [{...}]}`
    Data,
    /// `{...}` on each line.
    Lines,
}

/// Reads all packages; `found` gets these.
pub(crate) fn read<R: BufRead>(
    layout: Layout,
    source: Leash<R>,
    found: &mut dyn FnMut(Package),
) -> io::Result<()> {
    let left = source.left();
    let mut give = move |package: Package| {
        left.renew();
        if !package.name.is_empty() {
            found(package);
        }
    };
    if layout == Layout::Lines {
        for line in serde_json::Deserializer::from_reader(source).into_iter::<Entry>() {
            give(line.map_err(io::Error::from)?.0);
        }
        return Ok(());
    }
    let mut reader = serde_json::Deserializer::from_reader(source);
    Ok(Packages { are_here: false, give: &mut give }.deserialize(&mut reader)?)
}

/// The object around all of it, or the packages in it: by their names, or in a row.
struct Packages<'a> {
    are_here: bool,
    give: &'a mut dyn FnMut(Package),
}

impl<'de> DeserializeSeed<'de> for Packages<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Packages<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("packages")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if self.are_here {
                let Entry(package) = map.next_value()?;
                (self.give)(Package { name, ..package });
            } else if matches!(&*name, "packages" | "packages.conda") {
                map.next_value_seed(Packages { are_here: true, give: &mut *self.give })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(Entry(package)) = list.next_element()? {
            (self.give)(package);
        }
        Ok(())
    }
}

/// One package; without a name where that is the key it stands under.
struct Entry(Package);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(OfEntry).map(Self)
    }
}

struct OfEntry;

impl<'de> Visitor<'de> for OfEntry {
    type Value = Package;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a package")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Package, A::Error> {
        let mut package = Package::default();
        while let Some(key) = map.next_key::<String>()? {
            if !FIELDS.contains(&&*key) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            // A text, or a number as text; nothing else is of use.
            let value = match map.next_value()? {
                Value::String(text) => text,
                Value::Number(value) if value.is_u64() => value.to_string(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    continue;
                }
            };
            match &*key {
                // The second is where it lies in the repository, should both be there.
                "path" if package.name.is_empty() => package.name = decoded(value),
                "repopath" => package.name = decoded(value),
                "size" | "pkgsize" => package.size = number(&value),
                "sum" => package.note(Proof::Own, &value),
                "md5" | "sha256" => Proof::named(&key).iter().for_each(|kind| package.note(*kind, &value)),
                _ => {}
            }
        }
        Ok(package)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::index::tests::{package, packages};
    use crate::preset::Form;
    use proptest::prelude::*;

    const REPODATA: &str = r#"{"info":{"subdir":"linux-64","packages":{"no":{"size":1}}},"packages":{
        "a-1-0.tar.bz2":{"depends":["x",{"y":null}],"md5":"m","name":"a","sha256":"12ab","size":7,"timestamp":1.5,"noarch":false},
        "b-1-0.tar.bz2":{"md5":"n","size":-1,"track":null}},
        "packages.conda":{"a-1-0.conda":{"size":"9","sha256":7}},"removed":["c"],"repodata_version":1}"#;

    #[test]
    fn a_repodata_of_conda() {
        let expected = [
            package("a-1-0.tar.bz2", Some(7), Some((Proof::Sha256, "12ab"))),
            package("b-1-0.tar.bz2", None, Some((Proof::Md5, "n"))),
            package("a-1-0.conda", Some(9), Some((Proof::Sha256, "7"))),
        ];
        assert_eq!(packages(Form::Conda, REPODATA.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_has_no_end_is_an_error() {
        let long = format!(r#"{{"packages":{{"{}":{{"size":1}}}}}}"#, "x".repeat(20 << 20));
        assert!(packages(Form::Conda, long.as_bytes()).is_err());
        let deep = format!(r#"{{"packages":{{"a":{{"x":{}"#, "[".repeat(100_000));
        assert!(packages(Form::Conda, deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(names in proptest::collection::btree_map("\\PC{1,20}", (any::<u64>(), "[0-9a-f]{64}"), 0..20)) {
            let entry = |name: &String, size: &u64, sum: &String| {
                format!(r#"{}:{{"size":{size},"sha256":"{sum}"}}"#, serde_json::to_string(name).unwrap())
            };
            let entries: Vec<_> = names.iter().map(|(name, (size, sum))| entry(name, size, sum)).collect();
            let text = format!(r#"{{"packages":{{{}}}}}"#, entries.join(","));
            let expected: Vec<_> = names
                .iter()
                .map(|(name, (size, sum))| package(name, Some(*size), Some((Proof::Sha256, sum))))
                .collect();
            prop_assert_eq!(packages(Form::Conda, text.as_bytes()).unwrap(), expected);
        }

        #[test]
        fn any_piece_of_it_is_read_without_a_panic(to in 0_usize..600) {
            drop(packages(Form::Conda, &REPODATA.as_bytes()[..to.min(REPODATA.len())]));
        }
    }
}
