//! The layouts of package sites: which paths are immutable, which have to be revalidated, and which of those belong
//! together.
//!
//! A preset is data only: two patterns in the terms of [`crate::pattern`], the rules for its index sets, and which
//! index lists its packages.

mod table;
mod types;

use crate::pattern::{Pattern, PatternError};

pub use table::PRESETS;
pub use types::{contradicts, describes_nar, is_nar};

/// One kind of package site.
#[derive(Debug)]
pub struct Preset {
    /// The name on the command line.
    pub name: &'static str,
    /// Alternatives: paths whose content never changes under one name.
    pub immutable: &'static [&'static str],
    /// Alternatives: paths whose content changes under the same name.
    pub revalidate: &'static [&'static str],
    /// Of these, alternatives: paths that are directories of other files too, so that no file can have their name.
    pub documents: &'static [&'static str],
    /// Alternatives, of either class: paths that are pages for people by nature.
    pub pages: &'static [&'static str],
    /// Which of them belong together.
    pub sets: &'static [SetRule],
    /// The index that lists packages, with what distinguishes one build of them from another.
    pub indexes: &'static [PackageIndex],
}

/// Index files of which a client must never see two states of the origin.
#[derive(Debug)]
pub struct SetRule {
    /// Alternatives: paths that are members of such a set.
    pub members: &'static [&'static str],
    /// Alternatives: members that change whenever any other does. Empty: there are none such.
    pub anchors: &'static [&'static str],
    /// Which members are of the same set.
    pub extent: Extent,
    /// How the anchors list the checksums of the others, if they do.
    pub lists: Option<Lists>,
}

/// How a file lists the checksums of others of its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lists {
    /// InRelease and Release of apt; paths are relative to their directory.
    Release,
    /// `repomd.xml` of rpm repositories; paths are relative to the directory above.
    Repomd,
}

impl Lists {
    /// The names of files that do so.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Release => &["InRelease", "Release"],
            Self::Repomd => &["repomd.xml"],
        }
    }

    /// The directory that the paths in the list are relative to: that of the set is `root`. Empty, or with a slash at
    /// its end.
    pub fn base(self, root: &str) -> String {
        let base = match self {
            Self::Release => root,
            Self::Repomd => parent(root),
        };
        let base = base.trim_start_matches('/');
        if base.is_empty() { String::new() } else { format!("{base}/") }
    }
}

/// What the members of one set have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Their directory.
    Directory,
    /// The directory below the last one of this name; where there is none, their own.
    Below(&'static str),
}

/// An index that lists packages.
#[derive(Debug)]
pub struct PackageIndex {
    /// Alternatives: its paths.
    pub paths: &'static [&'static str],
    /// How it is written.
    pub form: Form,
}

/// The forms of indexes that list packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// pkg_summary(5): `KEY=value`, packages lie beside the index.
    PkgSummary,
    /// Packages of apt (deb822(5)): `Key: value`, packages lie below the directory above `dists`, or,
    /// where there is none, beside the index.
    AptPackages,
    /// Sources of apt: the same for source packages, each of several files, whose directory has a line of its own.
    AptSources,
    /// `primary.xml` of rpm repositories: packages lie below the directory above `repodata`.
    Rpm,
    /// A database of pacman: an archive with a text of `%KEY%` and values for each package; these lie beside it.
    Arch,
    /// APKINDEX of Alpine: an archive with a text of `K:value` in it, packages lie beside it.
    Alpine,
    /// A catalogue of FreeBSD's pkg: an archive with a text in JSON in it, packages lie below its directory.
    FreeBsd,
    /// `repodata.json` of conda, packages lie beside it.
    Conda,
}

/// The checksums that apt fetches indexes by.
const HASHES: [&str; 4] = ["MD5Sum", "SHA1", "SHA256", "SHA512"];

/// The preset of this name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// Reads a list of names, separated by commas: the presets, each once, in the order in which they are first named. An
/// empty part counts for nothing.
pub fn parse(list: &str) -> Result<Vec<&'static Preset>, String> {
    let mut chosen: Vec<&'static Preset> = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let preset = find(name).ok_or_else(|| {
            let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
            format!("expected names out of {}", names.join(", "))
        })?;
        if !chosen.iter().any(|known| known.name == preset.name) {
            chosen.push(preset);
        }
    }
    Ok(chosen)
}

/// One pattern that matches what any of these does; empty if there are none. A pattern with numbered
/// references must be the first.
pub fn any_of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> String {
    let patterns: Vec<&str> = patterns.into_iter().filter(|pattern| !pattern.is_empty()).collect();
    match patterns.as_slice() {
        [only] => (*only).to_owned(),
        several => several.iter().map(|pattern| format!("(?:{pattern})")).collect::<Vec<_>>().join("|"),
    }
}

/// The rules of the chosen presets, ready for paths.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    sets: Vec<SetPatterns>,
    documents: Vec<Documents>,
    indexes: Vec<(Pattern, Form)>,
    /// What is known of files, and which of these are pages.
    files: Vec<(Pattern, Option<Pattern>)>,
}

/// Documents of a preset, by patterns that match much: the more specific ones of other presets go before them.
#[derive(Debug, Clone)]
struct Documents {
    own: Pattern,
    /// The immutable paths of the other presets.
    files: Pattern,
    /// And their revalidated paths.
    indexes: Pattern,
}

#[derive(Debug, Clone)]
struct SetPatterns {
    members: Pattern,
    anchors: Option<Pattern>,
    rule: &'static SetRule,
}

/// The set that a path is a member of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place<'a> {
    /// Which rule, counted over all presets chosen.
    pub rule: usize,
    /// The directory that holds all members, with its leading slash; "" is the top.
    pub root: &'a str,
    /// The path changes whenever another member does.
    pub is_anchor: bool,
    /// How this path lists the checksums of others, if it does.
    pub lists: Option<Lists>,
}

impl Rules {
    /// Compiles the rules of these presets.
    pub fn new(presets: &[&'static Preset]) -> Result<Self, PatternError> {
        let one = |alternatives: &[&str]| Pattern::new(&alternatives.join("|"));
        let mut rules = Self::default();
        for preset in presets {
            let known: Vec<_> = preset.immutable.iter().chain(preset.revalidate).copied().collect();
            let pages = if preset.pages.is_empty() { None } else { Some(one(preset.pages)?) };
            rules.files.push((one(&known)?, pages));
            for rule in preset.sets {
                let anchors = if rule.anchors.is_empty() { None } else { Some(one(rule.anchors)?) };
                rules.sets.push(SetPatterns { members: one(rule.members)?, anchors, rule });
            }
            if !preset.documents.is_empty() {
                let others = || presets.iter().filter(|other| other.name != preset.name);
                let all = |of: fn(&Preset) -> &'static [&'static str]| {
                    let theirs: Vec<_> = others().flat_map(|other| of(other)).copied().collect();
                    // Without any: one that matches nothing.
                    if theirs.is_empty() { Pattern::new("[]") } else { one(&theirs) }
                };
                rules.documents.push(Documents {
                    own: one(preset.documents)?,
                    files: all(|other| other.immutable)?,
                    indexes: all(|other| other.revalidate)?,
                });
            }
            for index in preset.indexes {
                rules.indexes.push((one(index.paths)?, index.form));
            }
        }
        Ok(rules)
    }

    /// Are there neither sets nor indexes?
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.indexes.is_empty()
    }

    /// The set that this decoded, normalised path (with its leading slash) is a member of.
    pub fn place<'a>(&self, path: &'a str) -> Option<Place<'a>> {
        let (rule, set) = self.sets.iter().enumerate().find(|(_, set)| set.members.matches(path))?;
        let root = set.rule.extent.root(path);
        // An anchor in a directory below covers that directory only.
        let tells = |anchors: &Pattern| parent(path) == root && anchors.matches(path);
        let is_anchor = set.anchors.as_ref().is_some_and(tells);
        let name = &path[parent(path).len()..];
        let is_list = |lists: &Lists| is_anchor && lists.names().contains(&name.trim_start_matches('/'));
        Some(Place { rule, root, is_anchor, lists: set.rule.lists.filter(is_list) })
    }

    /// The names of the files that list the checksums of others of such a set, in its own directory. The first is enough.
    pub fn lists(&self, rule: usize) -> &'static [&'static str] {
        self.sets.get(rule).and_then(|set| set.rule.lists).map_or(&[], Lists::names)
    }

    /// Is this path also the directory of other files?
    pub fn is_document(&self, path: &str) -> bool {
        self.documents.iter().any(|documents| {
            documents.own.matches(path) && !documents.files.matches(path) && !documents.indexes.matches(path)
        })
    }

    /// Does it look like a document, and is an immutable file of another preset?
    pub fn is_file_of_another(&self, path: &str) -> bool {
        self.documents.iter().any(|documents| documents.own.matches(path) && documents.files.matches(path))
    }

    /// Is this path (with its leading slash) a file of a preset that is no page for people?
    pub fn is_no_page(&self, path: &str) -> bool {
        let is_page = |pages: &Option<Pattern>| pages.as_ref().is_some_and(|pages| pages.matches(path));
        !self.files.iter().any(|(_, pages)| is_page(pages))
            && self.files.iter().any(|(known, _)| known.matches(path))
    }

    /// Does this path (with its leading slash) name an index that lists packages? Its form, and the directory that
    /// the names in it are relative to, without a leading slash; "" is the top.
    pub fn package_index<'a>(&self, path: &'a str) -> Option<(Form, &'a str)> {
        let (_, form) = self.indexes.iter().find(|(index, _)| index.matches(path))?;
        Some((*form, form.base(path).trim_start_matches('/')))
    }
}

impl Extent {
    fn root(self, path: &str) -> &str {
        match self {
            Self::Directory => parent(path),
            Self::Below(name) => below(path, name).unwrap_or_else(|| parent(path)),
        }
    }
}

impl Form {
    fn base(self, path: &str) -> &str {
        match self {
            Self::AptPackages | Self::AptSources => {
                path.rfind("/dists/").map_or_else(|| parent(path), |at| &path[..at])
            }
            Self::Rpm => parent(parent(path)),
            Self::PkgSummary | Self::Arch | Self::Alpine | Self::FreeBsd | Self::Conda => parent(path),
        }
    }

    /// The directories that hold what the index of this path was before, or is in another packing.
    pub fn directories(self, path: &str) -> Vec<String> {
        let own = parent(path);
        if !matches!(self, Self::AptPackages | Self::AptSources) {
            return vec![own.to_owned()];
        }
        let root = own.rfind("/by-hash/").map_or(own, |at| &own[..at]);
        let by_hash = HASHES.iter().map(|hash| format!("{root}/by-hash/{hash}"));
        by_hash.chain([root.to_owned()]).collect()
    }
}

/// The path without its last component.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The path up to and with the component behind the last one that is called `name`.
fn below<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let inside = path.rfind(&format!("/{name}/"))? + name.len() + 2;
    // A file in that directory is of no suite.
    path[inside..].find('/').map(|end| &path[..inside + end])
}

#[cfg(test)]
mod tests;
