//! Options: `--name value`, all of them; what is behind `--` is a command.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// What a subcommand returns: an error is a line for stderr.
pub type Outcome<T> = Result<T, String>;

/// The options of one call.
pub struct Args {
    options: HashMap<String, String>,
    command: Vec<String>,
}

impl Args {
    /// Reads pairs of `--name value`.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = HashMap::new();
        while let Some(word) = words.next().filter(|word| word != "--") {
            let name = word.strip_prefix("--").ok_or(format!("{word} is no option"))?;
            let value = words.next().ok_or(format!("--{name} needs a value"))?;
            options.insert(name.to_string(), value);
        }
        Ok(Self { options, command: words.collect() })
    }

    /// The value as it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// The words behind `--`.
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// The value, or `default` if the option is absent.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> Outcome<T> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("--{name} {text}: not a value for it")),
        }
    }

    /// Whether a switch is on: `--name 1`.
    pub fn on(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value != "0")
    }

    /// The address of `--connect HOST:PORT`.
    pub fn connect(&self) -> Outcome<SocketAddr> {
        let text = self.text("connect").ok_or("--connect HOST:PORT is missing")?;
        let mut found = text.to_socket_addrs().map_err(|error| format!("{text}: {error}"))?;
        found.next().ok_or(format!("{text}: no address"))
    }
}
