//! The grammar of ECMAScript patterns without flags, with the legacy forms every browser takes (Annex B).

use super::node::Node;
use super::units::UnitSet;

/// How deep groups may nest: the parser and both engines are recursive.
pub(super) const DEPTH: u32 = 100;

/// Reads a whole pattern; the error is one line.
pub(super) fn parse(source: &str) -> Result<Node, String> {
    let units: Vec<u16> = source.encode_utf16().collect();
    let groups = Groups::scan(&units)?;
    let mut parser = Parser { units: &units, at: 0, groups, begun: 0, open: Vec::new(), depth: 0 };
    let tree = parser.alternatives()?;
    match parser.peek() {
        None => Ok(tree),
        Some(_) => Err(parser.fault("\")\" without \"(\"")),
    }
}

/// The capture groups of the whole pattern, which decide how a `\1` or `\k` before them is read.
#[derive(Default)]
struct Groups {
    count: u32,
    names: Vec<(u32, String)>,
}

impl Groups {
    fn scan(units: &[u16]) -> Result<Self, String> {
        let mut found = Self::default();
        let mut scanner =
            Parser { units, at: 0, groups: Self::default(), begun: 0, open: Vec::new(), depth: 0 };
        let mut in_class = false;
        while let Some(c) = scanner.next() {
            match c {
                '\\' => drop(scanner.next()),
                '[' => in_class = true,
                ']' => in_class = false,
                '(' if !in_class && !scanner.sees("?") => found.count += 1,
                '(' if !in_class && scanner.sees("?<") && !scanner.sees("?<=") && !scanner.sees("?<!") => {
                    found.count += 1;
                    scanner.at += 2;
                    let name = scanner.group_name()?;
                    if found.number(&name).is_some() {
                        return Err(scanner.fault(&format!("two groups named \"{name}\"")));
                    }
                    found.names.push((found.count, name));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.names.iter().find(|(_, known)| known == name).map(|&(number, _)| number)
    }
}

struct Parser<'a> {
    units: &'a [u16],
    at: usize,
    groups: Groups,
    /// Capture groups begun so far.
    begun: u32,
    /// The numbers of those that are still open.
    open: Vec<u32>,
    depth: u32,
}

/// One member of a class: a single unit, which may begin or end a range, or a whole set.
enum Member {
    Unit(u16),
    Set(UnitSet),
}

const NOTHING_TO_REPEAT: &str = "nothing to repeat before this quantifier";

impl Parser<'_> {
    /// The unit at the cursor as a character; U+FFFD stands for a surrogate, which is never part of the syntax.
    fn peek(&self) -> Option<char> {
        self.units
            .get(self.at)
            .map(|&unit| char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    fn sees(&self, text: &str) -> bool {
        let rest = self.units.get(self.at..).unwrap_or_default();
        text.encode_utf16().enumerate().all(|(i, unit)| rest.get(i) == Some(&unit))
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.sees(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn fault(&self, what: &str) -> String {
        format!("{what}, at character {}", self.at)
    }

    fn alternatives(&mut self) -> Result<Node, String> {
        let mut branches = vec![self.sequence()?];
        while self.eat("|") {
            branches.push(self.sequence()?);
        }
        Ok(match branches.pop() {
            Some(only) if branches.is_empty() => only,
            last => Node::Either(branches.into_iter().chain(last).collect()),
        })
    }

    fn sequence(&mut self) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while self.peek().is_some_and(|c| c != '|' && c != ')') {
            nodes.push(self.term()?);
        }
        Ok(Node::Sequence(nodes))
    }

    fn term(&mut self) -> Result<Node, String> {
        let body = self.atom()?;
        let Some((min, max)) = self.quantifier()? else {
            return Ok(body);
        };
        let fixed = match &body {
            Node::Start | Node::End | Node::WordEdge { .. } => true,
            // Look-ahead may be repeated, for old patterns' sake; look-behind came later and may not.
            Node::Look { open, .. } => open.starts_with("(?<"),
            Node::Unit(_)
            | Node::Sequence(_)
            | Node::Either(_)
            | Node::Capture(_)
            | Node::Back(_)
            | Node::Repeat { .. } => false,
        };
        if fixed {
            return Err(self.fault(NOTHING_TO_REPEAT));
        }
        Ok(Node::Repeat { body: Box::new(body), min, max, lazy: self.eat("?") })
    }

    fn atom(&mut self) -> Result<Node, String> {
        if self.quantifier()?.is_some() {
            return Err(self.fault(NOTHING_TO_REPEAT));
        }
        let start = self.at;
        Ok(match self.next() {
            Some('^') => Node::Start,
            Some('$') => Node::End,
            Some('.') => Node::Unit(UnitSet::dot()),
            Some('(') => self.group()?,
            Some('[') => Node::Unit(self.class()?),
            Some('\\') => self.atom_escape()?,
            _ => Node::Unit(UnitSet::single(self.units.get(start).copied().unwrap_or_default())),
        })
    }

    /// A `*`, `+`, `?` or a well-formed `{2}`, `{2,}`, `{2,3}`; any other brace is literal.
    fn quantifier(&mut self) -> Result<Option<(u32, Option<u32>)>, String> {
        let start = self.at;
        let range = match self.next() {
            Some('*') => Some((0, None)),
            Some('+') => Some((1, None)),
            Some('?') => Some((0, Some(1))),
            Some('{') => self.braces(),
            _ => None,
        };
        if range.is_none() {
            self.at = start;
        }
        match range {
            Some((min, Some(max))) if min > max => Err(self.fault("numbers out of order in {}")),
            range => Ok(range),
        }
    }

    fn braces(&mut self) -> Option<(u32, Option<u32>)> {
        let min = self.count()?;
        let max = match self.eat(",") {
            true if self.sees("}") => None,
            true => Some(self.count()?),
            false => Some(min),
        };
        self.eat("}").then_some((min, max))
    }

    fn count(&mut self) -> Option<u32> {
        let mut count = None;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            self.at += 1;
            count = Some(count.unwrap_or(0_u32).saturating_mul(10).saturating_add(digit));
        }
        count
    }

    fn group(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.fault(&format!("more than {DEPTH} groups inside each other")));
        }
        let open = ["(?=", "(?!", "(?<=", "(?<!"].into_iter().find(|open| self.eat(&open[1..]));
        let captures = open.is_none() && !self.eat("?:");
        if captures {
            self.begun += 1;
            self.open.push(self.begun);
            if self.eat("?<") {
                self.group_name()?;
            } else if self.sees("?") {
                return Err(self.fault("unknown kind of group \"(?\""));
            }
        }
        let body = Box::new(self.alternatives()?);
        if !self.eat(")") {
            return Err(self.fault("\"(\" without \")\""));
        }
        self.depth -= 1;
        if captures {
            self.open.pop();
        }
        Ok(match open {
            Some(open) => Node::Look { open, body },
            None if captures => Node::Capture(body),
            None => *body,
        })
    }

    /// The name behind `(?<` or `\k<`, with its `>`.
    fn group_name(&mut self) -> Result<String, String> {
        let mut name = Vec::new();
        while !self.eat(">") {
            let start = self.at;
            match self.next() {
                None => break,
                Some('\\') if self.eat("u") => name.extend(self.name_escape()),
                Some(_) => name.push(self.units[start]),
            }
        }
        let name = String::from_utf16(&name).unwrap_or_default();
        let mut chars = name.chars();
        let starts = |c: char| c.is_alphabetic() || c == '$' || c == '_';
        let continues = |c: char| starts(c) || c.is_alphanumeric() || c == '\u{200C}' || c == '\u{200D}';
        match chars.next() {
            Some(first) if starts(first) && chars.all(continues) => Ok(name),
            _ => Err(self.fault("invalid group name")),
        }
    }

    /// The digits behind `\u` in a name: four, or any number in braces. What is malformed yields a unit no name may hold.
    fn name_escape(&mut self) -> Vec<u16> {
        let point = if self.eat("{") {
            let mut value = 0_u32;
            while let Some(digit) = self.peek().and_then(|c| c.to_digit(16)) {
                self.at += 1;
                value = value.saturating_mul(16).saturating_add(digit);
            }
            if self.eat("}") { char::from_u32(value) } else { None }
        } else {
            return vec![self.hex(4).unwrap_or_default()];
        };
        point.map_or(vec![0], |c| c.encode_utf16(&mut [0; 2]).to_vec())
    }

    fn class(&mut self) -> Result<UnitSet, String> {
        let negated = self.eat("^");
        let mut set = UnitSet::default();
        while !self.eat("]") {
            let first = self.member()?;
            let is_range = self.sees("-") && !self.sees("-]") && self.at + 1 < self.units.len();
            if !is_range {
                first.add_to(&mut set);
                continue;
            }
            self.at += 1;
            match (first, self.member()?) {
                (Member::Unit(first), Member::Unit(last)) if first <= last => set.add(first, last),
                (Member::Unit(_), Member::Unit(_)) => {
                    return Err(self.fault("range out of order in [...]"));
                }
                // A shorthand cannot bound a range: then the "-" stands for itself.
                (first, last) => {
                    first.add_to(&mut set);
                    set.add(u16::from(b'-'), u16::from(b'-'));
                    last.add_to(&mut set);
                }
            }
        }
        Ok(if negated { set.inverted() } else { set })
    }

    fn member(&mut self) -> Result<Member, String> {
        let start = self.at;
        match self.next() {
            None => Err(self.fault("\"[\" without \"]\"")),
            Some('\\') => self.class_escape(),
            Some(_) => Ok(Member::Unit(self.units[start])),
        }
    }

    fn class_escape(&mut self) -> Result<Member, String> {
        let Some(c) = self.peek() else {
            return Err(self.fault("\"[\" without \"]\""));
        };
        if let Some(set) = UnitSet::shorthand(c) {
            self.at += 1;
            return Ok(Member::Set(set));
        }
        if self.eat("b") {
            return Ok(Member::Unit(0x08));
        }
        // Only inside a class may a digit or underscore follow \c.
        if c == 'c' && self.units.get(self.at + 1).is_some_and(|&unit| is_class_control(unit)) {
            self.at += 2;
            return Ok(Member::Unit(self.units[self.at - 1] & 31));
        }
        self.unit_escape().map(Member::Unit)
    }

    fn atom_escape(&mut self) -> Result<Node, String> {
        let Some(c) = self.peek() else {
            return Err(self.fault("\"\\\" at the end"));
        };
        if let Some(set) = UnitSet::shorthand(c) {
            self.at += 1;
            return Ok(Node::Unit(set));
        }
        match c {
            'b' | 'B' => {
                self.at += 1;
                Ok(Node::WordEdge { negated: c == 'B' })
            }
            '1'..='9' => {
                let start = self.at;
                match self.count().filter(|&number| number <= self.groups.count) {
                    Some(number) => Ok(self.back(number)),
                    None => {
                        self.at = start;
                        self.unit()
                    }
                }
            }
            'k' if !self.groups.names.is_empty() => {
                self.at += 1;
                let name = if self.eat("<") { self.group_name()? } else { String::new() };
                let number = self.groups.number(&name);
                number.map(Node::Back).ok_or_else(|| self.fault("\\k names no group"))
            }
            _ => self.unit(),
        }
    }

    /// Inside the group itself nothing is captured yet, and what is not captured matches as empty.
    fn back(&self, number: u32) -> Node {
        if self.open.contains(&number) { Node::Sequence(Vec::new()) } else { Node::Back(number) }
    }

    fn unit(&mut self) -> Result<Node, String> {
        self.unit_escape().map(|unit| Node::Unit(UnitSet::single(unit)))
    }

    /// The escapes that stand for one code unit, inside a class or outside; the cursor is behind the backslash.
    fn unit_escape(&mut self) -> Result<u16, String> {
        let start = self.at;
        let unit = self.units.get(start).copied().unwrap_or_default();
        Ok(match self.next() {
            Some('f') => 0x0C,
            Some('n') => 0x0A,
            Some('r') => 0x0D,
            Some('t') => 0x09,
            Some('v') => 0x0B,
            Some('x') => self.hex(2).unwrap_or(unit),
            Some('u') => self.hex(4).unwrap_or(unit),
            Some('0'..='7') => {
                self.at = start;
                self.octal()
            }
            Some('c') => match self.peek() {
                Some(letter) if letter.is_ascii_alphabetic() => {
                    self.at += 1;
                    self.units[start + 1] & 31
                }
                // The backslash stands for itself, and the "c" is read again.
                _ => {
                    self.at = start;
                    u16::from(b'\\')
                }
            },
            Some('k') if !self.groups.names.is_empty() => {
                return Err(self.fault("\\k inside [...]"));
            }
            _ => unit,
        })
    }

    /// Exactly `digits` hexadecimal digits, or nothing is taken.
    fn hex(&mut self, digits: usize) -> Option<u16> {
        let text = self.units.get(self.at..self.at + digits)?;
        let mut value = 0;
        for &unit in text {
            let digit = char::from_u32(u32::from(unit)).and_then(|c| c.to_digit(16))?;
            value = value << 4 | u16::try_from(digit).ok()?;
        }
        self.at += digits;
        Some(value)
    }

    /// Up to three octal digits with a value of at most 0o377.
    fn octal(&mut self) -> u16 {
        let mut value = 0;
        for _ in 0..3 {
            let digit = self.units.get(self.at).filter(|unit| (0x30..0x38).contains(*unit));
            match digit.map(|unit| value * 8 + (unit - 0x30)) {
                Some(next) if next <= 0o377 => value = next,
                _ => break,
            }
            self.at += 1;
        }
        value
    }
}

impl Member {
    fn add_to(&self, set: &mut UnitSet) {
        match self {
            Self::Unit(unit) => set.add(*unit, *unit),
            Self::Set(members) => set.add_all(members),
        }
    }
}

fn is_class_control(unit: u16) -> bool {
    u8::try_from(unit).is_ok_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
