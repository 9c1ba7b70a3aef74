//! What a flag is: its names, its words, and where its value goes.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::draft::Draft;
use super::setting::{Env, Setting, set};
use super::value::{self, Document, Number, Value};
use crate::config::{Choice as _, Config};

/// One flag. The variable's name follows from the flag's.
pub(super) struct Flag {
    /// Without its dashes.
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    /// The placeholder of the value, which also says how it is written; empty for a flag that takes none.
    pub(super) value: &'static str,
    /// What it does, in one line.
    pub(super) help: &'static str,
    kind: Kind,
    /// Names the value in an error line.
    what: &'static str,
    /// The default in words, where the value itself does not say it.
    default: &'static str,
    /// Given several times, all count.
    pub(super) repeats: bool,
}

/// The place of a value.
type At<T> = fn(&mut Draft) -> &mut T;

/// How a value is read, and where it goes.
pub(super) enum Kind {
    /// Something to do instead of serving: see `Action` in `cli`.
    Action,
    /// On, if it is given.
    Switch(At<bool>),
    /// With or without a unit.
    Time(At<Duration>),
    /// A number, or a size, which may have a unit.
    Number(At<dyn Number>, RangeInclusive<u64>),
    /// A number from this least one, or the word for no limit.
    Limit(At<Option<usize>>, u64, &'static str),
    /// Read by its own type.
    Value(At<dyn Value>),
    /// Can be read only once other flags are known, by `settings`; and how it is shown then.
    Late(At<Option<Setting>>, fn(&Config) -> String),
}

/// A flag in the table; the methods below add the rest.
pub(super) const fn flag(name: &'static str, value: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { name, short: None, value, help, kind, what: value, default: "", repeats: false }
}

impl Flag {
    pub(super) const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    pub(super) const fn what(mut self, what: &'static str) -> Self {
        self.what = what;
        self
    }

    pub(super) const fn default(mut self, words: &'static str) -> Self {
        self.default = words;
        self
    }

    pub(super) const fn repeats(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// The placeholder of its value, if it takes one.
    pub(super) fn value(&self) -> Option<&'static str> {
        Some(self.value).filter(|value| !value.is_empty())
    }

    pub(super) const fn is_action(&self) -> bool {
        matches!(self.kind, Kind::Action)
    }

    /// The environment variable that does the same.
    pub(super) fn variable(&self) -> Option<String> {
        match self.name {
            "cache-dir" => Some("FS_CACHE_DIR".to_owned()),
            _ if self.is_action() => None,
            name => Some(format!("FS_CACHE_{}", name.to_uppercase().replace('-', "_"))),
        }
    }

    /// Its setting: the last flag given, or all of one that repeats; else the variable.
    pub(super) fn pick(&'static self, given: &[(&Self, Option<String>)], env: Env<'_>) -> Option<Setting> {
        let values = given.iter().filter(|(flag, _)| flag.name == self.name);
        let mut values: Vec<String> = values.map(|(_, value)| value.clone().unwrap_or_default()).collect();
        let last = if self.repeats && !values.is_empty() { Some(values.join(",")) } else { values.pop() };
        let (value, source) = match last {
            Some(value) => (value, format!("--{}", self.name)),
            None => self.variable().and_then(|variable| Some((set(env, &variable)?, variable)))?,
        };
        Some(Setting { value, what: self.what, source })
    }

    /// Stores its setting in the draft.
    pub(super) fn put(&self, draft: &mut Draft, given: Setting) -> Result<(), String> {
        match &self.kind {
            Kind::Action => {}
            Kind::Switch(at) => *at(draft) = true,
            Kind::Time(at) => *at(draft) = given.read(value::time)?,
            Kind::Number(at, range) => {
                let sized = self.value == "size";
                at(draft).set(given.read(|text| value::number(text, range, sized))?);
            }
            Kind::Limit(at, least, none) => {
                *at(draft) = given.read(|text| value::limit(text, *least, none))?;
            }
            Kind::Value(at) => given.read(|text| at(draft).read(text))?,
            Kind::Late(at, _) => *at(draft) = Some(given),
        }
        Ok(())
    }

    /// Its value as `--print-config` shows it: plain numbers; empty where there is none.
    pub(super) fn show(&self, draft: &mut Draft) -> String {
        match &self.kind {
            Kind::Action => String::new(),
            Kind::Switch(at) => if *at(draft) { "on" } else { "off" }.to_owned(),
            Kind::Time(at) => value::seconds(*at(draft)),
            Kind::Number(at, _) => at(draft).get().to_string(),
            Kind::Limit(at, _, none) => {
                at(draft).map_or_else(|| (*none).to_owned(), |limit| limit.to_string())
            }
            Kind::Value(at) => at(draft).show(),
            Kind::Late(_, show) => show(&draft.config),
        }
    }

    /// Words that its value may be, for completions.
    pub(super) fn words(&self, draft: &mut Draft) -> Vec<&'static str> {
        match &self.kind {
            Kind::Action if !self.value.is_empty() => Document::all_words(),
            Kind::Limit(_, _, none) => vec![none],
            Kind::Value(at) => at(draft).words(),
            Kind::Action | Kind::Switch(_) | Kind::Time(_) | Kind::Number(..) | Kind::Late(..) => Vec::new(),
        }
    }

    /// Its default as people write it; empty where there is none. `defaults` is a new draft.
    pub(super) fn default_in_words(&self, defaults: &mut Draft) -> String {
        match self.default {
            "" => value::with_unit(&self.show(defaults), self.value),
            words => words.to_owned(),
        }
    }
}
