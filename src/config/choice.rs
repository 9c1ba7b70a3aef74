//! Settings that are one word out of a few.

/// A setting that is one word out of a few.
pub trait Choice: Copy + PartialEq + 'static {
    /// Each value, with its word.
    const WORDS: &'static [(Self, &'static str)];

    /// Reads a word.
    fn choose(text: &str) -> Result<Self, String> {
        let found = Self::WORDS.iter().find(|(_, word)| *word == text);
        found.map(|(value, _)| *value).ok_or_else(|| match Self::all_words().split_last() {
            Some((last, others)) => format!("expected {} or {last}", others.join(", ")),
            None => "expected nothing".to_owned(),
        })
    }

    /// The word for it.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(value, _)| *value == self).map_or("", |(_, word)| word)
    }

    /// All words.
    fn all_words() -> Vec<&'static str> {
        Self::WORDS.iter().map(|(_, word)| *word).collect()
    }
}
