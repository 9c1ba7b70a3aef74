//! Patterns and inputs at random.

/// A sequence of numbers from a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: usize) -> Self {
        Self(seed as u64)
    }

    /// One of the numbers below `end`. The steps are those of SplitMix64.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ mixed >> 31) % end as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of(&mut self, list: &[&'static str]) -> &'static str {
        list[self.below(list.len())]
    }

    /// A few of what `make` makes, put together.
    fn some(&mut self, most: usize, between: &str, make: impl Fn(&mut Self) -> String) -> String {
        let parts: Vec<_> = (0..=self.below(most)).map(|_| make(self)).collect();
        parts.join(between)
    }
}

/// What patterns are like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// As somebody would write them for the paths of packages.
    Paths,
    /// Groups, and references to them, in most places.
    References,
    /// All that a pattern may be made of.
    LookAround,
}

impl Kind {
    pub(crate) fn pattern_and_inputs(self, random: &mut Random, inputs: usize) -> (String, Vec<String>) {
        let source = match self {
            Self::Paths => for_paths(random),
            Self::References => wanted(random, references, |source| source.contains('\\')),
            Self::LookAround => wanted(random, anything, |source| {
                ["(?=", "(?!", "(?<", r"\1"].iter().any(|part| source.contains(part))
            }),
        };
        let input = |_| match self {
            Self::Paths => path(random, &source),
            Self::References | Self::LookAround => letters(random),
        };
        let inputs = (0..inputs).map(input).collect();
        (source, inputs)
    }
}

/// The first short pattern that is as wanted.
fn wanted(
    random: &mut Random,
    make: fn(&mut Random, usize) -> String,
    is_wanted: fn(&str) -> bool,
) -> String {
    loop {
        let depth = 2 + random.below(3);
        let source = make(random, depth);
        if source.len() < 90 && is_wanted(&source) {
            return source;
        }
    }
}

const REPEATS: &[&str] = &["*", "+", "?", "*?", "+?", "??", "{2}", "{1,}", "{0,2}", "{0,3}?", "{2,}?"];
const LOOKS: &[&str] = &["(?=", "(?!", "(?<=", "(?<!"];

fn references(random: &mut Random, depth: usize) -> String {
    const ATOMS: &[&str] = &[
        "a", "b", "a", "b", ".", "[^a]", r"\w", "^", "$", r"\b", "c?", "a*", "b+?", "", r"\1", r"\2", r"\3",
        r"\1",
    ];
    let Some(depth) = depth.checked_sub(1) else { return random.of(ATOMS).to_owned() };
    match random.below(12) {
        0..=3 => random.some(3, "", |random| references(random, depth)),
        4 | 5 => format!("(?:{}|{}){}", references(random, depth), references(random, depth), repeat(random)),
        6..=8 => format!("({}){}", references(random, depth), repeat(random)),
        // What one round has captured, the next one has forgotten.
        9 => format!("(?:{}|({}))+{}", references(random, depth), random.of(ATOMS), random.of(ATOMS)),
        10 => format!("(?:({})|{}){}", random.of(ATOMS), references(random, depth), random.of(REPEATS)),
        _ => format!("{}{})", random.of(LOOKS), references(random, depth)),
    }
}

/// A quantifier, or none.
fn repeat(random: &mut Random) -> &'static str {
    if random.chance(40) { random.of(REPEATS) } else { "" }
}

fn anything(random: &mut Random, depth: usize) -> String {
    #[rustfmt::skip]
    const ATOMS: &[&str] = &[
        "a", "b", "c", ".", "^", "$", r"\b", r"\B", r"\w", r"\W", r"\S", r"\d", "[^a]", "[]", "[^]", "[a-c]",
        "[a-c/]", "/", r"\.", "{", "\u{e9}", "\u{1f600}", r"\ud83d", r"\1", r"\2", r"\1",
    ];
    let Some(depth) = depth.checked_sub(1) else { return random.of(ATOMS).to_owned() };
    match random.below(10) {
        0..=3 => random.some(3, "", |random| anything(random, depth)),
        4 => format!("{}|{}", anything(random, depth), anything(random, depth)),
        5 | 6 => format!("(?:{}){}", anything(random, depth), random.of(REPEATS)),
        7 => format!("({}){}", anything(random, depth), random.of(&["", "", "*", "+?", "{0,2}"])),
        _ => format!("{}{})", random.of(LOOKS), anything(random, depth)),
    }
}

fn letters(random: &mut Random) -> String {
    const LETTERS: &[&str] = &["a", "a", "a", "b", "b", "c", "/", ".", "1", "\u{e9}", "\u{1f600}", "\n", " "];
    let letters = if random.chance(70) { &LETTERS[..7] } else { LETTERS };
    (0..random.below(9)).map(|_| random.of(letters)).collect()
}

#[rustfmt::skip]
const WORDS: &[&str] = &[
    "pool", "main", "private", "lib", "dists", "stable", "all", "x86_64", "pkg", "test", "a", "z", "zlib", "zlib1g",
    "python3", "node", "packages", "18.04", "v1", "internal", "debug", "beta", ".hidden", "lodash",
];
#[rustfmt::skip]
const ENDINGS: &[&str] = &[
    "tgz", "deb", "rpm", "tar.gz", "gz", "xz", "zip", "whl", "db", "sig", "asc", "html", "json", "tar.xz", "apk",
];

fn word(random: &mut Random) -> String {
    random.of(WORDS).replace('.', r"\.")
}

fn words(random: &mut Random) -> String {
    random.some(3, "|", word)
}

fn ending(random: &mut Random) -> String {
    random.of(ENDINGS).replace('.', r"\.")
}

/// `body` in brackets that capture or do not.
fn group(random: &mut Random, body: &str) -> String {
    format!("{}{body})", random.of(&["(", "(?:"]))
}

fn endings(random: &mut Random) -> String {
    let endings = random.some(3, "|", ending);
    group(random, &endings)
}

#[rustfmt::skip]
const NAMES: &[&str] = &[
    "[^/]+", "[^/]*", r"[\w.-]+", "[a-z0-9]+", "[^/]+?", ".+", ".*", ".*?", r"\w+", r"[\w.+~-]+", r"\S+", "[^/.]+",
    r"[a-z]\w*", r"\d+(?:\.\d+)*", r"\d+\.\d+(?:\.\d+)?",
];

fn tail(random: &mut Random) -> String {
    let (name, ending, endings) = (random.of(NAMES), ending(random), endings(random));
    match random.below(6) {
        0 => format!(r"\.{ending}$"),
        1 => format!(r"\.{endings}$"),
        2 => format!(r"{name}\.{ending}$"),
        3 => format!(r"[^/]+\.{endings}$"),
        4 => format!(r"{name}\.{ending}"),
        _ => format!(r".*\.{endings}(?:\.{ending})?$"),
    }
}

/// A condition on what follows.
fn ahead(random: &mut Random) -> String {
    let (word, words, ending, endings) = (word(random), words(random), ending(random), endings(random));
    let group = group(random, &words);
    let condition = match random.below(12) {
        0 => format!(r".*\.{ending}$"),
        1 => format!(r".*\.{endings}$"),
        2 => format!("{word}/"),
        3 => format!("{group}/"),
        4 => words,
        5 => format!(".*/{word}/"),
        6 => format!(".*{word}"),
        7 => r".*/\.".to_owned(),
        8 => format!(".*{group}"),
        9 => format!(r"{word}\b"),
        10 => format!("[^/]*{word}"),
        _ => format!(r".*[-_.]{group}[-_.]"),
    };
    format!("{}{condition})", random.of(&["(?!", "(?!", "(?!", "(?="]))
}

/// A condition on what stands before.
fn behind(random: &mut Random) -> String {
    let (word, words) = (word(random), words(random));
    let group = group(random, &words);
    let condition = match random.below(10) {
        0 => format!("-{word}"),
        1 => format!("/{word}/"),
        2 => words,
        3 => format!("[-_]{group}"),
        4 => format!("/{word}/[^/]*"),
        5 => format!("/{word}/.*"),
        6 => format!("^/{word}/.*"),
        7 => format!("^/{group}/"),
        8 => r"\d".to_owned(),
        _ => format!(r"{word}\d+"),
    };
    format!("{}{condition})", random.of(&["(?<!", "(?<="]))
}

/// A part of the path that comes twice.
fn twice(random: &mut Random) -> String {
    const PARTS: &[&str] =
        &["[^/]+", "[a-z]", ".", r"\w+", r"\d+", "[^/]+?", "[a-z0-9]+", r"\d+\.\d+", "lib[a-z]|[a-z]"];
    let (word, ending, part) = (word(random), ending(random), random.of(PARTS));
    let (first, again) = if random.chance(25) { ("(?<name>", r"\k<name>") } else { ("(", r"\1") };
    let optional = if random.chance(12) { "?" } else { "" };
    let start = random.of(&["/", "^/", "^/.*/", "^.*/", "", "^/(?:[^/]+/)?"]);
    let between = match random.below(6) {
        0 => format!("/{word}/"),
        1 => "[-_]".to_owned(),
        _ => random.of(&["/", "[^/]*/", "/.*/", "/(?:[^/]+/)*"]).to_owned(),
    };
    let after = random.of(&["[^/]*", r"[-_]\d[^/]*", r"-[\w.]+", ""]);
    format!(r"{start}{first}{part}){optional}{between}{again}{after}\.{ending}$")
}

/// A condition on each part of the path.
fn tempered(random: &mut Random) -> String {
    let (ahead, tail, word) = (ahead(random), tail(random), word(random));
    let mut group = |body: String| group(random, &body);
    let (unit, parts, rooted, letter) = (
        group(format!("{ahead}.")),
        group(format!("{ahead}[^/]*/")),
        group(format!("/{ahead}[^/]+")),
        group(format!("{ahead}[^/]")),
    );
    match random.below(6) {
        0 => format!("^{unit}*{tail}"),
        1 => format!("^/{parts}*{tail}"),
        2 => format!("^{rooted}+$"),
        3 => format!("^{rooted}+{tail}"),
        4 => format!("^/{letter}+/{tail}"),
        _ => format!("{word}/{unit}+$"),
    }
}

fn for_paths(random: &mut Random) -> String {
    let (ahead, behind, tail) = (ahead(random), behind(random), tail(random));
    let (word, name, ending) = (word(random), random.of(NAMES), ending(random));
    let first = match random.below(12) {
        0 | 1 => format!("^{ahead}{tail}"),
        2 => format!("^/{ahead}{tail}"),
        3 => format!("/{word}/{ahead}{tail}"),
        4 => format!("^{ahead}(?!.*{word}){tail}"),
        5 => format!("{behind}{tail}"),
        6 => format!(r"^/.*{behind}\.{ending}$"),
        7 => format!(r"^/{word}/{name}{behind}\.{ending}$"),
        8 => twice(random),
        9 => format!("^{ahead}{}", twice(random).trim_start_matches('^')),
        10 => tempered(random),
        _ => format!("^.*{word}{behind}{tail}"),
    };
    if random.chance(20) { format!(r"{first}|^/{word}/{ahead}[^/]*\.{ending}$") } else { first }
}

/// A path that has the words and endings of the pattern more often than others.
fn path(random: &mut Random, source: &str) -> String {
    const AFTER: &[&str] = &[
        "-1.0",
        "_2.1-3_amd64",
        "-dev",
        "-1",
        "1",
        "-debug",
        "-1.0-1",
        "\u{e9}",
        "-1.0.0-beta",
        "\u{1f600}",
        "",
        "-private",
        "_test",
        "-18.04",
        "",
        "",
        "",
    ];
    let plain = source.replace('\\', "");
    let named = |list: &[&'static str]| -> Vec<&'static str> {
        list.iter().copied().filter(|word| word.len() > 1 && plain.contains(word)).collect()
    };
    let (words, endings) = (named(WORDS), named(ENDINGS));
    let pick = |random: &mut Random, some: &[&'static str], all: &[&'static str]| {
        let list = if some.is_empty() || random.chance(45) { all } else { some };
        random.of(list)
    };
    let mut parts = Vec::new();
    let most = if random.chance(20) { 9 } else { 4 };
    for _ in 0..=random.below(most) {
        let part = match parts.last() {
            Some(&last) if random.chance(25) => last,
            _ if random.chance(10) => random.of(&["a", "z", "l", "p", "lib", "libz"]),
            _ => pick(random, &words, WORDS),
        };
        parts.push(part);
    }
    let mut path = format!("/{}{}", parts.join("/"), random.of(AFTER));
    for percent in [90, 10] {
        if random.chance(percent) {
            path.push_str(&format!(".{}", pick(random, &endings, ENDINGS)));
        }
    }
    path
}
